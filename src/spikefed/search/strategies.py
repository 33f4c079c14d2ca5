"""Which cells to look at next: at random, all of them, by regularised evolution, by NSGA-II.

A strategy is told every cell that it asked for, in the order asked, and nothing else moves it: a search that is
repeated over what it has already scored takes the same way again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import ClassVar

import torch

from spikefed.errors import ConfigError
from spikefed.networks.cells import Cell
from spikefed.search.space import PAIRS, Space

Values = tuple[float, ...]
"""Of the objectives, all the more the better."""


class Strategy(ABC):
    """Asks for cells and is told how good they are."""

    name: ClassVar[str]
    summary: ClassVar[str]
    listens: ClassVar[bool] = False
    """Whether what it asks for depends on what it is told."""

    def __init__(self, space: Space, seed: int, objectives: int) -> None:
        self.space = space
        self.objectives = objectives
        self.generator = torch.Generator().manual_seed(seed)

    @abstractmethod
    def ask(self) -> list[Cell]:
        """The next cells, which do not depend on each other's values; none when there are no more."""

    def tell(self, cells: Sequence[Cell], values: Sequence[Values | None]) -> None:  # noqa: B027 - most do not listen
        """What the cells of the last `ask` are worth; None for one that breaks a limit."""


class Random(Strategy):
    """SNASNet's own: independent draws."""

    name = "random"
    summary = "independent draws, as SNASNet"

    def ask(self) -> list[Cell]:
        """Sixteen draws."""
        return [self.space.draw(self.generator) for _ in range(16)]


class Exhaustive(Strategy):
    """Every different cell of the space, neighbours that share a beginning side by side."""

    name = "exhaustive"
    summary = "every different cell of the space, once"

    def __init__(self, space: Space, seed: int, objectives: int) -> None:
        super().__init__(space, seed, objectives)
        self._left = space.every()

    def ask(self) -> list[Cell]:
        """The next 64."""
        return list(islice(self._left, 64))


class Evolution(Strategy):
    """Regularised evolution [Real et al., AAAI 2019]: the best of a sample has a child, the oldest dies.

    Children come eight at a time, so that they can be scored side by side.
    """

    name = "evolution"
    summary = "regularised evolution: children of the best of a sample, the oldest dies"
    listens = True
    population = 32
    sample = 8
    children = 8

    def __init__(self, space: Space, seed: int, objectives: int) -> None:
        super().__init__(space, seed, objectives)
        if objectives != 1:
            raise ConfigError(
                f"search.strategy 'evolution' takes one objective, and search.objectives has {objectives}; use nsga2"
            )
        self._alive: deque[tuple[Cell, float]] = deque(maxlen=self.population)

    def ask(self) -> list[Cell]:
        """Random cells until the population is full, then children."""
        if len(self._alive) < self.population:
            return [self.space.draw(self.generator) for _ in range(self.children)]
        return [self.space.mutated(self._parent(), self.generator) for _ in range(self.children)]

    def _parent(self) -> Cell:
        order = torch.randperm(len(self._alive), generator=self.generator)[: self.sample]
        return max((self._alive[int(at)] for at in order), key=lambda each: each[1])[0]

    def tell(self, cells: Sequence[Cell], values: Sequence[Values | None]) -> None:
        """A cell that breaks a limit lives on without children."""
        self._alive.extend((c, -math.inf if v is None else v[0]) for c, v in zip(cells, values, strict=True))


class Nsga2(Strategy):
    """NSGA-II [Deb et al. 2002] over several objectives, optuna's."""

    name = "nsga2"
    summary = "NSGA-II over several objectives (optuna's sampler)"
    listens = True
    population = 32

    def __init__(self, space: Space, seed: int, objectives: int) -> None:
        super().__init__(space, seed, objectives)
        try:
            import optuna
        except ImportError as error:
            raise ConfigError("search.strategy 'nsga2' needs optuna; pip install 'spikefed[search]'") from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._states = optuna.trial.TrialState
        sampler = optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)
        self._study = optuna.create_study(
            sampler=sampler, directions=[optuna.study.StudyDirection.MAXIMIZE] * objectives
        )
        self._trials: list[optuna.Trial] = []

    def ask(self) -> list[Cell]:
        """A generation."""
        self._trials = [self._study.ask() for _ in range(self.population)]
        return [
            self.space.cell(
                {pair: trial.suggest_categorical(f"{pair[0]}{pair[1]}", self.space.choices(pair)) for pair in PAIRS}
            )
            for trial in self._trials
        ]

    def tell(self, cells: Sequence[Cell], values: Sequence[Values | None]) -> None:
        """A cell that breaks a limit counts as a failed trial."""
        for trial, value in zip(self._trials, values, strict=True):
            if value is None:
                self._study.tell(trial, state=self._states.FAIL)
            else:
                self._study.tell(trial, list(value))


STRATEGIES: dict[str, type[Strategy]] = {kind.name: kind for kind in (Random, Exhaustive, Evolution, Nsga2)}
"""All strategies by name."""
