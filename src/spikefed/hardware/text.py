"""Numbers and tables of energy estimates as the terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence


def energy(pj: float) -> str:
    """Energy with a unit: 12.3 nJ, 1.4 uJ, 0.896 mJ."""
    for factor, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ")):
        if abs(pj) >= 0.1 * factor:
            return f"{pj / factor:.3g} {unit}"
    return f"{pj:.3g} pJ"


def aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines of equal columns: the first two columns of text to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in table
    ]
    return [line.rstrip() for line in lines]
