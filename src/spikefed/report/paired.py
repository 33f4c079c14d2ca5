"""Methods against one another, seed by seed: differences of accuracy with their interval, and nothing from one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikefed.report import columns
from spikefed.report.columns import Column
from spikefed.report.curves import interval, mean
from spikefed.report.groups import Group
from spikefed.report.targets import baseline_of
from spikefed.report.text import fixed, plural

UNPROVEN = "one seed: no interval"


@dataclass(frozen=True)
class PairedRow:
    """One method beside the one that it is held against.

    Attributes:
        group: the method.
        base: what it is held against.
        differences: of accuracy after the last common round, of each seed that both have, in [-1, 1].
        rounds: that round, by seed.
    """

    group: Group
    base: Group
    differences: list[float]
    rounds: list[int]


def paired_rows(groups: Sequence[Group]) -> list[PairedRow]:
    """A row for every method but the baseline: FedAvg of its network, else the first method of the setting."""
    out = []
    for group in groups:
        base = baseline_of(groups, group) or groups[0]
        if group is not base and (found := _paired(group, base)):
            out.append(PairedRow(group, base, [d for d, _ in found], [r for _, r in found]))
    return out


def paired_table(setting: int, groups: Sequence[Group], css: Any) -> str:
    """The table of one setting; empty where no two methods have a seed in common.

    Args:
        setting: its number on the page.
        css: gives a group's style class.
    """
    rows = paired_rows(groups)
    if not rows:
        return ""
    heads = [
        Column("method", "Method", lambda row: row.group.label, "text", css=lambda row: css(row.group)),
        Column("against", "Against", lambda row: row.base.label, "text", css=lambda row: css(row.base)),
        Column("seeds", "Seeds in common", lambda row: len(row.differences)),
        Column("difference", "Difference, points", lambda row: round(100 * mean(row.differences), 2), "number",
               "percent points of accuracy after the last round that both have, mean over the seeds"),
        Column("interval", "95 % interval", between, "text", "of that mean (Student’s t over the seeds)"),
        Column("above", "Seeds above", above, "text"),
        Column("says", "Says", says, "text", "three seeds prove little: the interval is the statement"),
    ]  # fmt: skip
    return columns.html(f"paired-{setting + 1}", "Accuracy beside the baseline, paired by seed", heads, rows)


def between(row: PairedRow) -> str:
    """``-0.4 to +2.1``, in percent points."""
    ends = interval(row.differences)
    return UNPROVEN if ends is None else " to ".join(_signed(end) for end in ends)


def above(row: PairedRow) -> str:
    """``2 of 3``."""
    return f"{sum(d > 0 for d in row.differences)} of {len(row.differences)}"


def says(row: PairedRow) -> str:
    """Whether the interval leaves 0 out."""
    ends = interval(row.differences)
    if ends is None:
        return "nothing yet: run more seeds"
    if ends[0] > 0 or ends[1] < 0:
        return f"{'better' if ends[0] > 0 else 'worse'}, over {plural(len(row.differences), 'seed')}"
    return "not told apart"


def _paired(group: Group, base: Group) -> list[tuple[float, int]]:
    """Difference and round of every seed that both have."""
    theirs = {run.seed: curve for run, curve in zip(base.runs, base.curves, strict=True)}
    out = []
    for run, curve in zip(group.runs, group.curves, strict=True):
        other = theirs.get(run.seed)
        if other is None or run.seed is None:
            continue
        own = {r: a for r, a in zip(curve.rounds, curve.accuracy, strict=True) if a is not None}
        beside = {r: a for r, a in zip(other.rounds, other.accuracy, strict=True) if a is not None}
        if common := own.keys() & beside.keys():
            last = max(common)
            out.append((own[last] - beside[last], last))
    return out


def _signed(share: float) -> str:
    return f"{'+' if share >= 0 else '−'}{fixed(abs(100 * share), 1)}"
