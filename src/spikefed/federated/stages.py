"""The stages of a search for tickets: what every round of a run trains, from where, and with how many time steps.

The whole plan of a run follows from its hyperparameters; only Early-Bird may end a stage before its rounds are over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from spikefed.errors import ConfigError

Kind = Literal["probe", "saliency", "search", "train"]
"""``probe``: dense, for Early-Time's profile alone; ``saliency``: a gradient; ``search``: to find masks; ``train``: a
ticket at all time steps, whose accuracy counts."""

NOTE = "ticket"
"""Name of the tensor that tells clients of the stage, beside the network's."""

_KINDS = ("probe", "saliency", "search", "train")


@dataclass(frozen=True)
class Stage:
    """Some rounds under one mask.

    Attributes:
        kind: see `Kind`.
        level: which sparsity of the schedule its mask has, from 1; 0: none, it is dense.
        rounds: how many it takes, at most.
        start: its first weights: the ``initial`` ones, those stored for rewinding, or ``kept`` as they are.
        early: with T_early time steps, where Early-Time is on.
        stores: after this many rounds its weights are stored for rewinding; None: not.
        twin: trains the ReLU twin of the network.
        probes: after this many rounds, which have all time steps, T_early is chosen; 0: not here.
        begins: rounds of its learning-rate schedule that are behind at its start.
        schedule: rounds of that schedule; 0: its own.
    """

    kind: Kind
    level: int
    rounds: int
    start: Literal["initial", "rewind", "kept"]
    early: bool = False
    stores: int | None = None
    twin: bool = False
    probes: int = 0
    begins: int = 0
    schedule: int = 0


def program(hyper: Any) -> list[Stage]:
    """The stages of a run with these hyperparameters (`methods.tickets.TicketHyperparameters`)."""
    early = hyper.early_time
    whole = hyper.level_rounds
    twin = hyper.search_on == "ann"
    after = whole - hyper.rewind_round if hyper.restart == "rewind" else whole
    start: Any = {"rewind": "rewind", "initial": "initial", "keep": "kept"}[hyper.restart]
    levels = range(1, len(hyper.targets) + 1)
    probes = hyper.probe_rounds if early else 0
    apart = early and hyper.early_probe == "before"
    stages = [Stage("probe", 0, probes, "initial", probes=probes)] if apart else []
    within = 0 if apart else probes
    dense = Stage("search", 0, hyper.search_rounds or whole, "initial", early, hyper.rewind_round, twin, within)
    if hyper.search == "imp":
        alone = early or twin  # what searches is then not the ticket itself
        kind: Kind = "search" if alone else "train"
        stages += [dense, *(Stage(kind, k, after, start, early, twin=twin) for k in levels)]
        if alone:
            # The last mask needs no training of its own in the search.
            stages = stages[:-1] + [Stage("train", k, after, start) for k in levels]
    elif hyper.search == "one-shot":
        stages += [dense, *(Stage("train", k, after, start) for k in levels)]
    elif hyper.search == "early-bird":
        stages += [dense, *(Stage("train", k, whole, "initial") for k in levels)]
    else:
        if hyper.search == "snip":
            stages += [Stage("saliency", 0, 1, "initial")]
        stages += [Stage("train", k, whole, "initial") for k in levels]
    return _under_one_schedule(stages) if hyper.restart == "keep" else stages


def _under_one_schedule(stages: list[Stage]) -> list[Stage]:
    """Stages that go on from each other's weights share one schedule of the learning rate."""
    whole = total_rounds([s for s in stages if s.kind != "probe"])
    behind = 0
    shared: list[Stage] = []
    for stage in stages:
        shared.append(stage if stage.kind == "probe" else replace(stage, begins=behind, schedule=whole))
        behind += 0 if stage.kind == "probe" else stage.rounds
    return shared


def total_rounds(stages: list[Stage]) -> int:
    """Rounds of all stages, where none ends early."""
    return sum(stage.rounds for stage in stages)


@dataclass(frozen=True)
class Note:
    """What the server tells clients of the stage they are in.

    Attributes:
        kind: of the stage.
        steps: time steps to train with; 0: the network's own.
        at: rounds of the learning-rate schedule behind.
        rounds: of the schedule.
        twin: trains the ReLU twin.
        level: of the stage, where clients have masks of their own; None: the mask comes with the weights.
    """

    kind: Kind
    steps: int
    at: int
    rounds: int
    twin: bool = False
    level: int | None = None

    @classmethod
    def of(cls, stage: Stage, at: int, steps: int, leveled: bool = False) -> Note:
        """The note of a stage after ``at`` of its rounds.

        Args:
            stage: the stage.
            at: rounds of it that are behind.
            steps: T_early, 0 if there is none.
            leveled: it tells the level as well.
        """
        rounds = stage.schedule or stage.rounds
        level = stage.level if leveled else None
        return cls(stage.kind, steps if stage.early else 0, stage.begins + at, rounds, stage.twin, level)

    def array(self) -> np.ndarray:
        """As it travels: int32 ``[5]``, with a level ``[6]``."""
        numbers = [_KINDS.index(self.kind), self.steps, self.at, self.rounds, int(self.twin)]
        return np.array(numbers if self.level is None else [*numbers, self.level], dtype=np.int32)

    @classmethod
    def read(cls, tensors: Mapping[str, np.ndarray]) -> Note:
        """Inverse of `array`.

        Raises:
            ConfigError: the message holds none, or one that makes no sense.
        """
        numbers = [int(n) for n in tensors.get(NOTE, np.zeros(0, np.int32)).reshape(-1)]
        if len(numbers) not in (5, 6) or not 0 <= numbers[0] < len(_KINDS) or min(numbers) < 0:
            raise ConfigError(f"the server's note on the stage is {numbers}; both ends need the same version")
        level = numbers[5] if len(numbers) == 6 else None
        return cls(_KINDS[numbers[0]], *numbers[1:4], twin=bool(numbers[4]), level=level)

    def rate(self, lr: float, floor: float, schedule: str) -> float:
        """Learning rate of the round: one step of the schedule a round, whatever the stage.

        Args:
            lr: at the beginning.
            floor: share of it at the end of a cosine.
            schedule: ``cosine`` or ``constant``.
        """
        if schedule == "constant":
            return lr
        part = min(self.at / max(self.rounds, 1), 1.0)
        return lr * (floor + (1 - floor) * (1 + math.cos(math.pi * part)) / 2)
