"""Which branches of a supernet each client trains in a round: samplers behind one small contract.

DC-NAS (Venkatesha, Kim, Park, Panda, "Divide-and-conquer the NAS puzzle in resource-constrained federated learning
systems", 2023) draws samples far from each other at first, and near as the search goes on; its Hadamard samples are the
farthest that there are. The paper's text was not at hand: distances, budgets and repair are ours (docs/deviations.md).

A sampler draws one vector of gates for every client number, and the first k of a longer draw are those of a draw of k,
so that nobody needs to know how many clients there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.networks import empty_blocks
from spikefed.objects import import_object

ROUNDING = 1e-9
"""What sums of shares may miss."""


@dataclass(frozen=True)
class Ask:
    """What a sampler is asked for.

    Attributes:
        blocks: branches of each block; in every block at least one stays.
        most: gates that may be open at once.
        distance: d(r), Hamming distance that two samples of this round should have.
        farthest: d_max, where the schedule begins.
        preference: log odds of pi of every branch; 0 where nothing is known.
        generator: of this round's draws.
        costs: of each scarce resource, what every branch takes of it.
        room: of each, what the open branches may take together.
    """

    blocks: tuple[int, ...]
    most: int
    distance: float
    farthest: float
    preference: tuple[float, ...]
    generator: torch.Generator
    costs: tuple[tuple[float, ...], ...] = ()
    room: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """n: all branches."""
        return sum(self.blocks)

    def scarce(self, gates: Sequence[bool]) -> list[int]:
        """Resources, from 0, of which these gates take more than there is."""
        taken = [sum(c for c, gate in zip(costs, gates, strict=True) if gate) for costs in self.costs]
        return [k for k, (used, room) in enumerate(zip(taken, self.room, strict=True)) if used > room + ROUNDING]


Sampler = Callable[[Ask, int], Tensor]
"""``(ask, k) -> bool [k, n]``, a row of gates for each client number."""


def full(ask: Ask, count: int) -> Tensor:
    """Everything for everybody: the federated search at full scale. bool ``[k, n]``."""
    return torch.ones(count, ask.size, dtype=torch.bool)


def uniform(ask: Ask, count: int) -> Tensor:
    """As many branches as may be open, drawn alike. bool ``[k, n]``."""
    return torch.tensor([_start(ask, (0.0,) * ask.size, 1.0)[0] for _ in range(count)])


def hadamard(ask: Ask, count: int) -> Tensor:
    """Rows of a Hadamard matrix in a new order each round, over again where there are more clients. bool ``[k, n]``.

    Any two have the distance (n + 1) / 2 where n + 1 is a power of 2 and nothing had to be repaired.
    """
    rows = hadamard_rows(ask.size)
    order = torch.randperm(len(rows), generator=ask.generator).tolist()
    anyhow = torch.rand(ask.size, generator=ask.generator).tolist()
    return torch.tensor([repaired(rows[order[k % len(rows)]], ask, anyhow) for k in range(count)])


def diversified(ask: Ask, count: int) -> Tensor:
    """Samples around the preferred branches, each moved until it is as far from those before as asked. bool ``[k, n]``.

    A sample starts as the branches of the largest log odds plus Gumbel noise, whose weight falls with the distance:
    late samples collapse on the mode of pi. Then one open gate at a time changes places with a closed one, as long as
    the sum of |distance - d(r)| over the samples before falls; of equal moves the preferred branch wins.
    """
    weight = ask.distance / ask.farthest if ask.farthest else 0.0
    chosen: list[list[bool]] = []
    for _ in range(count):
        start, scores = _start(ask, ask.preference, weight)
        chosen.append(_moved(start, chosen, scores, ask))
    return torch.tensor(chosen)


SAMPLERS: dict[str, Sampler] = {
    "diversified": diversified,
    "full": full,
    "hadamard": hadamard,
    "uniform": uniform,
}


def sampler(name: str) -> Sampler:
    """A sampler by its short name, or one's own as ``package.module:function``.

    Raises:
        ConfigError: no such sampler.
    """
    if name in SAMPLERS:
        return SAMPLERS[name]
    if ":" not in name:
        raise ConfigError(
            f"method.sampler '{name}' is not known; use one of {', '.join(SAMPLERS)}, or your own as 'module:function'"
        )
    found = import_object(name, "method.sampler", ConfigError)
    if isinstance(found, type):
        raise ConfigError(
            f"method.sampler '{name}' is a class; name a function (ask, count) -> bool [count, n], or an object of the "
            "class that can be called"
        )
    if not callable(found):
        raise ConfigError(f"method.sampler '{name}' cannot be called; name a function (ask, count) -> bool [count, n]")
    return cast(Sampler, found)


def check_drawn(gates: Tensor, ask: Ask, name: str, count: int) -> Tensor:
    """The gates that a sampler drew, bool ``[k, n]``.

    Args:
        gates: what it gave.
        ask: what it was asked.
        name: of the sampler, for errors.
        count: k, how many rows it was asked for.

    Raises:
        ConfigError: of another shape or type, with an empty block, or with more open than fits.
    """
    if not isinstance(gates, Tensor) or gates.dtype != torch.bool or gates.dim() != 2 or gates.shape[1] != ask.size:
        found = f"{gates.dtype} {list(gates.shape)}" if isinstance(gates, Tensor) else type(gates).__name__
        raise ConfigError(f"method.sampler '{name}' gave {found}; give a bool tensor of k x {ask.size} gates")
    if len(gates) != count:
        raise ConfigError(
            f"method.sampler '{name}' gave {len(gates)} rows of gates and was asked for {count}; give as many, one for "
            "each client number"
        )
    for row in gates.tolist():
        if empty_blocks(row, ask.blocks) or (name != "full" and (sum(row) > ask.most or ask.scarce(row))):
            raise ConfigError(
                f"method.sampler '{name}' opened {sum(row)} gates of {ask.size} where {ask.most} at most fit, and one "
                "in every block; let spikefed.federated.repaired mend what it draws"
            )
    return gates


def target_distance(part: float, first: float, last: float, schedule: Literal["linear", "cosine"]) -> float:
    """d(r): from ``first`` to ``last``.

    Args:
        part: r / R, share of the search that is over, in [0, 1].
        first: at the beginning.
        last: at the end.
        schedule: of the way between.
    """
    way = part if schedule == "linear" else (1 - math.cos(math.pi * part)) / 2
    return first + (last - first) * way


def farthest_distance(size: int, most: int) -> float:
    """The largest mean distance that many samples of ``most`` of ``size`` open gates can have, at most n / 2."""
    return min(size / 2, 2 * most * (size - most) / size)


def mean_distance(gates: Tensor) -> float:
    """Mean Hamming distance of all pairs of rows of bool ``[k, n]``; 0 for a single row."""
    pairs = [(int((a ^ b).sum())) for i, a in enumerate(gates) for b in gates[:i]]
    return sum(pairs) / len(pairs) if pairs else 0.0


def hadamard_rows(size: int) -> list[list[bool]]:
    """Rows of the Sylvester matrix of order m = 2^ceil(log2(n + 1)) without its constant row and column, cut to n.

    An open gate stands where the matrix has +1: where the bits that row and column numbers share are even in number.
    Whole rows have m / 2 - 1 of them, and any two rows differ in m / 2 places.
    """
    order = 1 << size.bit_length()
    return [[(row & column).bit_count() % 2 == 0 for column in range(1, size + 1)] for row in range(1, order)]


def repaired(gates: Sequence[bool], ask: Ask, scores: Sequence[float]) -> list[bool]:
    """The gates with the best branch opened in every empty block, and the worst closed while they take too much.

    Where the best branch of a block leaves no way to make room, cheaper ones of its block take its place.

    Args:
        gates: as drawn.
        ask: the blocks, and what may be open.
        scores: of every branch; of equal ones the first is better.

    Raises:
        ConfigError: not even one branch a block fits.
    """
    found = list(gates)
    starts = [sum(ask.blocks[:b]) for b in range(len(ask.blocks))]
    for b in empty_blocks(found, ask.blocks):
        found[max(range(starts[b], starts[b] + ask.blocks[b]), key=lambda j: (scores[j], -j))] = True
    while sum(found) > ask.most or ask.scarce(found):
        closable = _closable(found, ask.blocks)
        short = ask.scarce(found)
        useful = [j for j in closable if not short or any(ask.costs[k][j] > 0 for k in short)]
        if not useful:
            return _cheapest(ask)
        found[min(useful, key=lambda j: (scores[j], -j))] = False
    return found


def _cheapest(ask: Ask) -> list[bool]:
    """One branch a block, the one that takes least.

    Raises:
        ConfigError: that is too much.
    """
    found = [False] * ask.size
    start = 0
    for size in ask.blocks:
        found[min(range(start, start + size), key=lambda j: (sum(costs[j] for costs in ask.costs), j))] = True
        start += size
    if ask.scarce(found) or sum(found) > ask.most:
        raise ConfigError("not even the cheapest branch of every block fits what a client may train; raise its limit")
    return found


def _closable(gates: Sequence[bool], blocks: Sequence[int]) -> list[int]:
    """Open gates that are not the last of their block."""
    found = []
    start = 0
    for size in blocks:
        opened = [j for j in range(start, start + size) if gates[j]]
        found += opened if len(opened) > 1 else []
        start += size
    return found


def _start(ask: Ask, preference: Sequence[float], weight: float) -> tuple[list[bool], list[float]]:
    """The best of the log odds plus weighted Gumbel noise that fit together; and those sums."""
    uniforms = torch.rand(ask.size, generator=ask.generator, dtype=torch.float64).clamp_min(1e-12)
    scores = (torch.tensor(preference, dtype=torch.float64) - weight * (-uniforms.log()).log()).tolist()
    gates = repaired([False] * ask.size, ask, scores)
    for j in sorted(range(ask.size), key=lambda j: (-scores[j], j)):
        tried = [gate or i == j for i, gate in enumerate(gates)]
        gates = gates if sum(tried) > ask.most or ask.scarce(tried) else tried
    return gates, scores


def _moved(start: list[bool], before: list[list[bool]], scores: list[float], ask: Ask) -> list[bool]:
    """The sample after all swaps that bring it nearer to the distance asked for."""
    gates = np.array(start)
    others = np.array(before, dtype=bool).reshape(len(before), ask.size)
    while True:
        misses = np.abs((others ^ gates).sum(axis=1) - ask.distance).sum()
        swaps = _swaps(gates, others, scores, ask)
        if not swaps or min(swaps)[0] >= misses:
            return gates.tolist()
        _, _, closed, opened = min(swaps)
        gates[closed] = False
        gates[opened] = True


def _swaps(gates: np.ndarray, others: np.ndarray, scores: list[float], ask: Ask) -> list[tuple[float, float, int, int]]:
    """What every swap would miss, what it costs in preference, and its two gates. Shapes ``[n]``, ``[k, n]``."""
    distances = (others ^ gates).sum(axis=1)
    away = np.where(others == gates, 1, -1)  # what a change of each gate adds to each distance
    safe = set(_closable(gates.tolist(), ask.blocks))
    block_of = np.repeat(np.arange(len(ask.blocks)), ask.blocks)
    costs = np.array(ask.costs).reshape(len(ask.costs), ask.size)
    room = np.array(ask.room) + ROUNDING - costs[:, gates].sum(axis=1)
    found = []
    for i in np.flatnonzero(gates):
        fits = (costs - costs[:, [i]] <= room[:, None]).all(axis=0) & ~gates
        places = np.flatnonzero(fits if i in safe else fits & (block_of == block_of[i]))
        missed = np.abs(distances[:, None] + away[:, [i]] + away[:, places] - ask.distance).sum(axis=0)
        found += [(float(m), scores[i] - scores[j], int(i), int(j)) for m, j in zip(missed, places, strict=True)]
    return found
