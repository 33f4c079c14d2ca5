"""Accuracy at equal bytes: what each method had reached by the time it had sent a given number of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from spikefed.report.curves import Curve, mean, spread
from spikefed.report.groups import Group

MOST = 6


@dataclass(frozen=True)
class EqualRow:
    """One group at every budget.

    Attributes:
        accuracy: for each budget the best server accuracy within it, mean over seeds; None unless every seed had
            finished a round within the budget.
        deviation: the same as sample standard deviation over seeds, None for one seed.
        spent: for each budget whether the run of some seed ended below it, so that more rounds might give more.
    """

    group: Group
    accuracy: list[float | None]
    deviation: list[float | None]
    spent: list[bool]


def equal_rows(groups: Sequence[Group], budgets: Sequence[float], measure: str = "upstream") -> list[EqualRow]:
    """One row a group of one setting; ``budgets`` are cumulative bytes of all clients."""
    rows = []
    for group in groups:
        curves = [c for c in group.curves if c.rounds and c.totals[measure]]
        columns = [[best_within(c, budget, measure) for c in curves] for budget in budgets]
        whole = [[a for a in column if a is not None] if None not in column else [] for column in columns]
        rows.append(
            EqualRow(
                group,
                [mean(w) if w else None for w in whole],
                [spread(w) for w in whole],
                [any((c.total(measure) or 0.0) < budget for c in curves) for budget in budgets],
            )
        )
    return rows


def best_within(curve: Curve, budget: float, measure: str = "upstream") -> float | None:
    """The best accuracy of the rounds that end with at most ``budget`` bytes sent; None when there is none.

    The counterpart of bytes to a target, which asks for the first round at or above an accuracy.
    """
    totals = curve.totals[measure] or []
    within = [a for a, sent in zip(curve.accuracy, totals, strict=False) if sent <= budget and a is not None]
    return max(within, default=None)


def default_budgets(groups: Sequence[Group], measure: str = "upstream") -> list[float]:
    """Round numbers of bytes from the cheapest first round to the dearest whole run: powers of ten, or 1-2-5 steps."""
    curves = [c for g in groups for c in g.curves if c.totals[measure]]
    firsts = [(c.totals[measure] or [0.0])[0] for c in curves]
    if not firsts or max(firsts) <= 0:
        return []
    low, high = min(f for f in firsts if f > 0), max(c.total(measure) or 0.0 for c in curves)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]
        if len(found) >= 3:
            return found[-MOST:]
    return sorted({*found, high})
