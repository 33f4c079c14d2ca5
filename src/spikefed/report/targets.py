"""Bytes to a target accuracy and the ratio to FedAvg: Tables 1 and 2 of the FSD paper in form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spikefed.report.curves import MEASURES, mean, spread
from spikefed.report.groups import Group, talkers

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
        base: the FedAvg of that ratio, None when there is none.
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
    base: Group | None = None

    @property
    def complete(self) -> bool:
        return self.seeds > 0 and self.reached == self.seeds


def target_rows(groups: Sequence[Group], targets: Sequence[float]) -> list[TargetRow]:
    """One row for each target and group of one setting, target by target."""
    rows = []
    for target in targets:
        for group in groups:
            base = baseline_of(groups, group)
            rows.append(_row(group, target, _row(base, target, None) if base else None))
    return rows


def seeds_of(row: TargetRow, measure: str) -> list[float]:
    """Bytes of every seed that reached the target and sent any."""
    places = [(curve.totals[measure], curve.first_at(row.target)) for curve in row.group.curves if curve.rounds]
    return [totals[at] for totals, at in places if totals is not None and at is not None and totals[at] > 0]


def baseline_of(groups: Sequence[Group], group: Group | None = None) -> Group | None:
    """The FedAvg that the others are measured against: of several the one that sends most, which is the plain one.

    A ``group`` of another method is measured against the FedAvg of its own network where there is one: that of a larger
    network would flatter it.
    """
    candidates = [g for g in groups if g.method == BASELINE]
    if group is not None and group.method != BASELINE:
        candidates = [g for g in candidates if g.network == group.network] or candidates

    def a_round(group: Group) -> float:
        sent = group.curves[0].per_round("upstream")
        return mean(sent) if sent else 0.0

    return max(candidates, key=a_round, default=None)


def default_targets(groups: Sequence[Group]) -> list[float]:
    """The targets the runs name; two or three whole percents of the curves, too, where none is named or none reached.

    Those are an early one and a late one that every run reaches which sends anything, and one that only the best does.
    """
    named = {t for g in groups for run in g.runs for t in run.targets}
    bests = [c.best for g in talkers(groups) for c in g.curves if c.best is not None]
    if not bests or named and max(bests) >= min(named):
        return sorted(named)
    wanted = [0.9 * min(bests), min(bests), max(bests)]
    return sorted(named | {math.floor(100 * w + 1e-9) / 100 for w in wanted} - {0.0})


def _row(group: Group, target: float, base: TargetRow | None) -> TargetRow:
    curves = [c for c in group.curves if c.rounds]
    hits = [(c, i) for c in curves if (i := c.first_at(target)) is not None]
    rounds = [float(c.rounds[i]) for c, i in hits]
    sizes: dict[str, list[float]] = {m: [t[i] for c, i in hits if (t := c.totals[m]) is not None] for m in MEASURES}
    means = {m: mean(v) if v else None for m, v in sizes.items()}
    complete = bool(hits) and len(hits) == len(curves)
    ratio: dict[str, float | None] = {}
    for measure in ("upstream", "text"):
        own = means[measure]
        other = base.bytes[measure] if base else None
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
        base.group if base else None,
    )
