"""Accuracy and bytes of runs as curves, and what a group of seeds has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from spikefed.federated.takehome import KEYS
from spikefed.report.tidy import number

# measure -> (key in metrics.jsonl, what a reader calls it)
MEASURES = {
    "upstream": ("upstream_bytes", "Upstream, encoded"),
    "paper": ("paper_upstream_bytes", "Upstream, Algorithm 2 payload"),
    "text": ("text_upstream_bytes", "Upstream, paper's text measure"),
    "downstream": ("downstream_bytes", "Downstream, encoded"),
}


def axis_title(measure: str, each_round: bool = False) -> str:
    """What an axis of bytes says: what is summed, over whom, from when on."""
    return f"{MEASURES[measure][1]}: bytes of all clients, {'each round' if each_round else 'from round 1 on'}"


@dataclass(frozen=True)
class Curve:
    """One run round by round. All lists have one entry a round.

    Attributes:
        rounds: round numbers, rising.
        accuracy: server accuracy in [0, 1], None where it was not measured.
        totals: for each measure of `MEASURES`, the cumulative bytes of all clients, or None when the run lacks it.
        home: what clients take home, by key of `federated.takehome`; empty where the run does not measure it.
    """

    rounds: list[int]
    accuracy: list[float | None]
    totals: dict[str, list[float] | None]
    home: dict[str, list[float | None]] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        return max((a for a in self.accuracy if a is not None), default=None)

    def best_of_first(self, rounds: int) -> float | None:
        """Best accuracy of the first ``rounds`` rounds, None where none was measured."""
        return max((a for a in self.accuracy[:rounds] if a is not None), default=None)

    @property
    def last(self) -> float | None:
        """Accuracy after the last round that was measured."""
        return next((a for a in reversed(self.accuracy) if a is not None), None)

    def last_home(self, key: str) -> float | None:
        """`last` of what clients take home."""
        return next((a for a in reversed(self.home.get(key, [])) if a is not None), None)

    def total(self, measure: str) -> float | None:
        """Bytes over the whole run so far."""
        totals = self.totals[measure]
        return totals[-1] if totals else None

    def per_round(self, measure: str) -> list[float] | None:
        """Bytes of each round alone."""
        totals = self.totals[measure]
        if totals is None:
            return None
        return [b - a for a, b in zip([0.0, *totals], totals, strict=False)]

    def first_at(self, target: float) -> int | None:
        """Index of the first round whose accuracy is at least ``target``."""
        return next((i for i, a in enumerate(self.accuracy) if a is not None and a >= target), None)


class HasRounds(Protocol):
    """What a curve is made of.

    Attributes:
        rounds: one mapping a round, as in ``metrics.jsonl``.
    """

    @property
    def rounds(self) -> list[dict[str, Any]]: ...


def curve_of(run: HasRounds) -> Curve:
    """The curve of a run; cumulative bytes are summed up from per-round bytes where only those are given."""
    accuracy = [number(e.get("server_accuracy", e.get("accuracy"))) for e in run.rounds]
    totals = {measure: _totals(run, key) for measure, (key, _) in MEASURES.items()}
    home = {key: [number(e.get(key)) for e in run.rounds] for key in KEYS if any(e.get(key) for e in run.rounds)}
    return Curve([e["round"] for e in run.rounds], accuracy, totals, home)


def _totals(run: HasRounds, key: str) -> list[float] | None:
    out: list[float] = []
    for entry in run.rounds:
        total = number(entry.get(f"{key}_total"))
        if total is None:
            step = number(entry.get(key))
            if step is None:
                return None
            total = (out[-1] if out else 0.0) + step
        if total < (out[-1] if out else 0.0):
            return None  # bytes from the start never fall: the file is damaged
        out.append(total)
    return out or None


@dataclass(frozen=True)
class Band:
    """Mean of several seeds with the lowest and highest, at the rounds that all of them have."""

    rounds: list[int]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    totals: dict[str, list[float] | None]
    home: dict[str, list[float | None]] = field(default_factory=dict)


def band_of(curves: Sequence[Curve]) -> Band:
    """Seeds together. A seed without any round yet is left out."""
    curves = [c for c in curves if c.rounds]
    if not curves:
        return Band([], [], [], [], dict.fromkeys(MEASURES))
    common = sorted(set.intersection(*(set(c.rounds) for c in curves)))
    places = [[c.rounds.index(r) for r in common] for c in curves]
    columns = [[c.accuracy[p[i]] for c, p in zip(curves, places, strict=True)] for i in range(len(common))]
    known = [[a for a in column if a is not None] for column in columns]
    totals: dict[str, list[float] | None] = {}
    for measure in MEASURES:
        rows = [c.totals[measure] for c in curves]
        if any(row is None for row in rows):
            totals[measure] = None
        else:
            picked = [[row[i] for i in p] for row, p in zip(rows, places, strict=True) if row is not None]
            totals[measure] = [mean(column) for column in zip(*picked, strict=True)]
    home: dict[str, list[float | None]] = {}
    for key in KEYS:
        rows = [[c.home[key][i] for i in p] for c, p in zip(curves, places, strict=True) if key in c.home]
        if rows:
            told = [[a for a in column if a is not None] for column in zip(*rows, strict=True)]
            home[key] = [mean(column) if column else None for column in told]
    return Band(
        common,
        [mean(k) if k else None for k in known],
        [min(k, default=None) for k in known],
        [max(k, default=None) for k in known],
        totals,
        home,
    )


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation, None for fewer than two values."""
    if len(values) < 2:
        return None
    middle = mean(values)
    return (sum((v - middle) ** 2 for v in values) / (len(values) - 1)) ** 0.5


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean, None for fewer than two values.

    Of three values it is wide: three seeds prove little, and it says so.
    """
    deviation = spread(values)
    if deviation is None:
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * deviation / len(values) ** 0.5
    return mean(values) - half, mean(values) + half
