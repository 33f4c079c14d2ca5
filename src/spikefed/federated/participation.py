"""Who takes part in which round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spikefed.errors import ConfigError
from spikefed.federated.randomness import PARTICIPATION, derive_seed


@dataclass(frozen=True)
class Participation:
    """Clients by round; `__call__` is pure.

    Attributes:
        clients: number of clients, N.
        schedule: ``all`` from the start; ``late``: one client in rounds 1 and 2, then all (1, 2, 6, 10 uploads so
            far, as in the FSD tables for DTSNN); ``sample``: a random share each round; ``list``: ``rounds`` says it.
        rounds: for ``list``: clients of rounds 1, 2, ...; the last entry repeats.
        fraction: for ``sample``: share of clients, at least one is drawn.
        straggle: probability that a chosen client misses the round: it is not contacted, nothing goes either way.
            One of them, drawn afresh each round, always sends (V-SNN's code exempts the first of a random order).
        seed: seed of the random choices.
    """

    clients: int
    schedule: Literal["all", "late", "sample", "list"] = "all"
    rounds: tuple[tuple[int, ...], ...] = ()
    fraction: float = 1.0
    straggle: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule == "list":
            if not self.rounds or any(not chosen for chosen in self.rounds):
                raise ConfigError("participation.rounds is empty; give a list of client lists such as [[0], [0, 1]]")
            unknown = sorted({c for chosen in self.rounds for c in chosen if not 0 <= c < self.clients})
            if unknown:
                raise ConfigError(
                    f"participation.rounds names client {unknown[0]}, but there are clients 0 to {self.clients - 1}"
                )

    def __call__(self, round: int) -> list[int]:
        """Client numbers of a 1-based round, ascending, never empty."""
        return self.draw(round)[0]

    def draw(self, round: int) -> tuple[list[int], list[int]]:
        """The clients of a round, and the stragglers: chosen for it, but not contacted; both ascending."""
        rng = np.random.default_rng(derive_seed(self.seed, PARTICIPATION, round))
        if self.schedule == "list":
            chosen = sorted(set(self.rounds[min(round, len(self.rounds)) - 1]))
        elif self.schedule == "late" and round <= 2:
            chosen = [0]
        elif self.schedule == "sample":
            count = max(1, round_half_up(self.fraction * self.clients))
            chosen = sorted(rng.choice(self.clients, size=count, replace=False).tolist())
        else:
            chosen = list(range(self.clients))
        if self.straggle > 0:
            stays = rng.random(len(chosen)) >= self.straggle
            stays[rng.integers(len(chosen))] = True
            asked = [c for c, stay in zip(chosen, stays, strict=True) if stay]
            return asked, sorted(set(chosen) - set(asked))
        return chosen, []


def round_half_up(x: float) -> int:
    """Nearest integer, halves upwards (Python's ``round`` goes to even)."""
    return int(np.floor(x + 0.5))
