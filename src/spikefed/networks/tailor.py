"""What NetTailor's choices cost and which of them stay (Morgado and Vasconcelos, CVPR 2019).

Complexity is multiply-accumulates, as a share of those of all frozen blocks. Kept with probability alpha, each by
itself, a choice counts where something leads from the first layer to it and from it to the last block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.networks.adapters import adapted
from spikefed.networks.layers import PlannedLayer, idle_places, is_block, proxies_of
from spikefed.networks.proxies import DROPPED, Proxies, kept


@dataclass(frozen=True)
class Way:
    """One choice of one block.

    Attributes:
        source: node that it leads from; node 0 is the first layer's output.
        target: node that it leads to, the block's.
        alpha: scalar, in [0, 1].
        share: of the multiply-accumulates of all frozen blocks.
    """

    source: int
    target: int
    alpha: Tensor
    share: float


def ways(net: nn.Module) -> list[Way]:
    """All choices of the task that is on, block after block; empty without proxies."""
    blocks = _blocks(net)
    whole = sum(own.plan.macs for own in blocks)
    found = []
    for own in blocks:
        sources = [own.place - 1, *(proxy.source for proxy in own.each)]
        for source, alpha, macs in zip(sources, own.alphas().cpu(), own.macs, strict=True):
            found.append(Way(source, own.place, alpha, macs / whole))
    return found


def expected_complexity(choices: Sequence[Way], *, paper: bool = False) -> Float[Tensor, ""]:
    """sum c P(the choice is there and of use), in shares of the frozen blocks.

    Whether a node is reached does not depend on the choices behind it, so the probability is alpha times that of the
    way to it times that of the way on. The paper looks one node far and takes 1 - r - prod r_in - prod r_out,
    r = 1 - alpha, which can fall below 0.

    Args:
        choices: of all blocks, from `ways`.
        paper: the paper's formula.
    """
    last = max(way.target for way in choices)
    if paper:
        return torch.stack([way.share * _one_hop(way, choices, last) for way in choices]).sum()
    present = _present(choices, last)
    reach = max(way.target - way.source for way in choices)
    begin = reached(present, reach)
    end = reached(present.flip(0, 1).t(), reach).flip(0)
    return torch.stack([way.share * way.alpha * begin[way.source] * end[way.target] for way in choices]).sum()


def reached(present: Float[Tensor, "n n"], reach: int) -> Float[Tensor, " n"]:
    """Probability that a way leads from node 0 to each node, by a sum over what is reached of the last few nodes.

    Args:
        present: ``present[i, j]``: probability of an edge from i to j > i, each by itself; in [0, 1].
        reach: longest edge; ``2 ** reach`` states are followed.
    """
    states = torch.arange(2**reach)
    bits = (states[:, None] >> torch.arange(reach)) & 1  # bit reach - 1: of the node just before
    chance = torch.zeros(2**reach).index_fill(0, torch.tensor([2 ** (reach - 1)]), 1.0)
    found = [torch.ones(())]
    for node in range(1, len(present)):
        before = range(node - reach, node)
        edges = torch.stack([present[source, node] if source >= 0 else torch.zeros(()) for source in before])
        there = chance * (1 - (1 - bits * edges).prod(dim=1))
        moved = torch.zeros(2**reach).index_add(0, states >> 1, chance - there)
        chance = moved.index_add(0, (states >> 1) + 2 ** (reach - 1), there)
        found.append(there.sum())
    return torch.stack(found)


def _present(choices: Sequence[Way], last: int) -> Tensor:
    """Probability that any of the choices between two nodes is there, ``[last + 1, last + 1]``."""
    rows = [[torch.zeros(()) for _ in range(last + 1)] for _ in range(last + 1)]
    for way in choices:
        rows[way.source][way.target] = 1 - (1 - rows[way.source][way.target]) * (1 - way.alpha)
    return torch.stack([torch.stack(row) for row in rows])


def _one_hop(way: Way, choices: Sequence[Way], last: int) -> Tensor:
    into = [1 - other.alpha for other in choices if other.target == way.source]
    out = [1 - other.alpha for other in choices if other.source == way.target]
    lost = torch.stack(into).prod() if way.source else torch.zeros(())
    unused = torch.stack(out).prod() if way.target < last else torch.zeros(())
    return way.alpha - lost - unused


def dropped(choices: Mapping[str, Tensor], *, below: float, blocks: int = 0) -> dict[str, Tensor]:
    """Scalars with what NetTailor drops at `DROPPED`: proxies of small alpha, and the least universal blocks.

    A block keeps its proxy of the largest alpha where nothing else of it would be left.

    Args:
        choices: scalars ``[1 + n]`` of every block, by name.
        below: proxies whose alpha is smaller go.
        blocks: how many frozen blocks go, those dropped before counted; the smallest alphas first.
    """
    alphas = {name: torch.softmax(choice.detach(), dim=0) for name, choice in choices.items()}
    leaving = sorted(alphas, key=lambda name: float(alphas[name][0]))[:blocks]
    found = {}
    for name, choice in choices.items():
        stays = alphas[name] >= below
        stays[0] = name not in leaving and kept(choice)[0]
        if not stays.any():
            stays[1 + int(alphas[name][1:].argmax())] = True
        found[name] = choice.detach().masked_fill(~stays, DROPPED)
    return found


@dataclass(frozen=True)
class TaskSize:
    """What a task's network is made of.

    Attributes:
        numbers: parameters and running statistics that it needs, those of frozen blocks it uses included.
        frozen: of these, what all tasks share.
        macs: multiply-accumulates of its blocks a sample and time step, as a share of those of all frozen blocks.
    """

    numbers: int
    frozen: int
    macs: float


@torch.no_grad()
def task_size(net: nn.Module) -> TaskSize:
    """Of the task that is on, without what was dropped and what only that needs."""
    layers = list(getattr(net, "places", ()))
    idle = idle_places(layers)
    frozen = own = 0
    for place, layer in enumerate(layers):
        if place in idle:
            continue
        part = layer.part()
        proxies = None if part is None else part.proxies
        if proxies is None or proxies.kept()[0]:
            shared, replaced = _frozen_numbers(layer)
            frozen += shared
            own += replaced
        own += 0 if proxies is None else _proxy_numbers(proxies)
    left = [w for w in ways(net) if float(w.alpha) and w.target not in idle]
    return TaskSize(frozen + own, frozen, sum(way.share for way in left) if left else 1.0)


def _frozen_numbers(layer: PlannedLayer) -> tuple[int, int]:
    """Of a layer: numbers that tasks share, and those that the task has beside or in their place."""
    part = layer.part()
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    shared = {name: t.numel() for name, t in tensors.items() if not name.startswith("parts.")}
    if part is None:
        return sum(shared.values()), 0
    own = sum(t.numel() for name, t in part.state_dict().items() if not name.startswith("proxies."))
    gone = ("weight", "bias") if part.head_weight is not None else ()
    kept_ = sum(n for name, n in shared.items() if name not in gone and not (part.norm and name.startswith("norm.")))
    return kept_, own


def _proxy_numbers(own: Proxies) -> int:
    """Of the proxies that are left, the scalars of what is left counted once each."""
    left = [proxy for proxy, stays in zip(own.each, own.kept()[1:], strict=True) if stays]
    return sum(own.kept()) + sum(t.numel() for proxy in left for t in proxy.state_dict().values())


@contextmanager
def block_outputs(net: nn.Module) -> Iterator[dict[int, Tensor]]:
    """What the blocks of a network gave in its last call, by place, ``[T*B, ...]``, while this is open.

    Blocks are layers that have proxies, or would have: convolutions with neurons, from the second on.
    """
    seen: dict[int, Tensor] = {}
    layers = list(getattr(net, "places", ()))

    def keep(place: int, _layer: nn.Module, _given: Any, out: Tensor) -> None:
        seen[place] = out

    hooks = [
        layer.register_forward_hook(partial(keep, place))
        for place, layer in enumerate(layers)
        if is_block(layer, place)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _blocks(net: nn.Module) -> list[Proxies]:
    return [own for _, layer in adapted(net) if (own := proxies_of(layer)) is not None]
