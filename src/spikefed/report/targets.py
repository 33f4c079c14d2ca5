"""Bytes to a target accuracy and the ratio to FedAvg: Tables 1 and 2 of the FSD paper in form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spikefed.report.curves import MEASURES, mean, spread
from spikefed.report.groups import Group

BASELINE = "fedavg"


@dataclass(frozen=True)
class TargetRow:
    """One group at one target.

    Attributes:
        target: server accuracy in [0, 1].
        reached: how many of the group's seeds got there.
        seeds: how many seeds have at least one round.
        best: highest accuracy of any seed, None without a round.
        rounds: first round at or above the target, mean over the seeds that reached it; None when none did.
        rounds_spread: sample standard deviation of that round over seeds, None for one seed.
        bytes: cumulative bytes at that round for each measure, mean over the seeds that reached it.
        bytes_spread: the same as standard deviation.
        ratio: FedAvg's bytes over this group's bytes for ``"upstream"`` and ``"text"``. None unless every seed of
            both groups reached the target, as a ratio over the lucky seeds only would flatter.
    """

    group: Group
    target: float
    reached: int
    seeds: int
    best: float | None
    rounds: float | None
    rounds_spread: float | None
    bytes: dict[str, float | None]
    bytes_spread: dict[str, float | None]
    ratio: dict[str, float | None]

    @property
    def complete(self) -> bool:
        return self.seeds > 0 and self.reached == self.seeds


def target_rows(groups: Sequence[Group], targets: Sequence[float]) -> list[TargetRow]:
    """One row for each target and group of one setting, target by target."""
    baseline = baseline_of(groups)
    rows = []
    for target in targets:
        base = _row(baseline, target, None) if baseline else None
        rows += [_row(group, target, base) for group in groups]
    return rows


def baseline_of(groups: Sequence[Group]) -> Group | None:
    """The FedAvg that the others are measured against: of several the one that sends most, which is the plain one."""
    candidates = [g for g in groups if g.method == BASELINE]

    def a_round(group: Group) -> float:
        sent = group.curves[0].per_round("upstream")
        return mean(sent) if sent else 0.0

    return max(candidates, key=a_round, default=None)


def default_targets(groups: Sequence[Group]) -> list[float]:
    """The targets the experiment files name, else two or three whole percents of the curves.

    Those are an early one and a late one that every run reaches, and one that only the best run does.
    """
    named = {t for g in groups for run in g.runs for t in run.targets}
    if named:
        return sorted(named)
    bests = [c.best for g in groups for c in g.curves if c.best is not None]
    if not bests:
        return []
    wanted = [0.9 * min(bests), min(bests), max(bests)]
    return sorted({math.floor(100 * w + 1e-9) / 100 for w in wanted} - {0.0})


def _row(group: Group, target: float, base: TargetRow | None) -> TargetRow:
    curves = [c for c in group.curves if c.rounds]
    hits = [(c, i) for c in curves if (i := c.first_at(target)) is not None]
    rounds = [float(c.rounds[i]) for c, i in hits]
    sizes: dict[str, list[float]] = {m: [t[i] for c, i in hits if (t := c.totals[m]) is not None] for m in MEASURES}
    means = {m: mean(v) if v else None for m, v in sizes.items()}
    complete = bool(hits) and len(hits) == len(curves)
    ratio: dict[str, float | None] = {}
    for measure in ("upstream", "text"):
        own, other = means[measure], base.bytes[measure] if base else None
        ratio[measure] = other / own if complete and base and base.complete and own and other else None
    return TargetRow(
        group,
        target,
        len(hits),
        len(curves),
        max((c.best for c in curves if c.best is not None), default=None),
        mean(rounds) if rounds else None,
        spread(rounds),
        means,
        {m: spread(v) for m, v in sizes.items()},
        ratio,
    )
