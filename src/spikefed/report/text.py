"""Numbers and tables as a reader sees them: decimal bytes, percent, and accessible HTML tables."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from html import escape

ABSENT = "–"


def fixed(value: float, digits: int = 0) -> str:
    """A number with so many decimals; a tie goes away from zero, as in the page's script (Python's format: to even)."""
    if not abs(value) < 2**53:
        return f"{value:.{digits}f}"  # whole, or no number
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def number_in(text: str) -> float | None:
    """The number that a reader wrote; None where it is none, or not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def bytes_text(count: float | None) -> str:
    """Decimal units (1 MB = 1e6 B), three significant digits: ``"873 kB"``, ``"1.73 MB"``."""
    if count is None:
        return ABSENT
    if abs(count) < 999.5:
        return f"{fixed(count)} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if abs(count) < 999.5 or unit == "TB":
            break
    digits = 2 if abs(count) < 9.995 else 1 if abs(count) < 99.95 else 0
    return f"{fixed(count, digits)} {unit}"


def percent(value: float | None, digits: int = 1) -> str:
    """``0.813`` as ``"81.3 %"`` with a no-break space."""
    return ABSENT if value is None else f"{fixed(100 * value, digits)}\u00a0%"


def energy_text(pj: float | None) -> str:
    """Picojoules with a unit, three digits: ``"12.3 nJ"``, ``"1.41 µJ"``."""
    if pj is None:
        return ABSENT
    for factor, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
        if abs(pj) >= 0.9995 * factor:
            return f"{pj / factor:.3g}\u00a0{unit}"
    return f"{pj:.3g}\u00a0pJ"


def number_text(value: float | None) -> str:
    """A number without a unit: whole ones and those from 1,000 up with commas, others with four digits."""
    if value is None:
        return ABSENT
    whole = value == int(value) or abs(value) >= 999.95  # which would be written 1000
    return f"{value:,.0f}" if whole and abs(value) < 1e15 else f"{value:.4g}"


def limit_text(value: float) -> str:
    """A number that something has to stay below: ``"none"`` where that must be below zero."""
    return number_text(value) if value > 0 else "none"


def target_text(value: float) -> str:
    """A target without needless digits: ``"82 %"``, ``"82.5 %"``."""
    return f"{100 * value:.4g}\u00a0%"


def times(value: float | None) -> str:
    """A ratio: ``"170 ×"``, ``"1.79 ×"``."""
    if value is None:
        return ABSENT
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{fixed(value, digits)}\u00a0×"


def duration(seconds: float | None) -> str:
    """``"48 s"``, ``"3 min 20 s"``, ``"2 h 05 min"``."""
    if seconds is None:
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def short_duration(seconds: float | None) -> str:
    """As `duration`, and ``"12.3 ms"``, ``"4.56 µs"`` of what is below 0.05 s: for what was measured."""
    if seconds is None or not 0 < seconds < 0.05:
        return duration(seconds)
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"


def span_text(seconds: float | None) -> str:
    """As `duration`, and days from two of them on: for what a slow link takes, ``"12.3 days"``, ``"1,040 days"``."""
    if seconds is None or seconds < 48 * 3600:
        return duration(seconds)
    days = seconds / 86400
    return f"{days:,.0f} days" if days >= 99.95 else f"{days:.3g} days"


def plural(count: int, word: str) -> str:
    """Count and word: ``1 round``, ``2 rounds``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


@dataclass(frozen=True)
class Cell:
    """Text, the value it sorts and exports by, a tooltip, and a class."""

    text: str
    value: float | str | None = None
    note: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Column:
    """Heading of a table's column, whether it holds numbers, and a tooltip."""

    title: str
    numeric: bool = True
    note: str = ""


def table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell | str]],
    breaks: Set[int] = frozenset(),
) -> str:
    """A table with caption, scoped headers and the sort value of each cell; the page's script makes it sortable.

    ``breaks`` are the places of rows that begin a new block, set off by a stronger line.

    Args:
        name: identifier in the page.
        caption: what the table shows.
        columns: headings.
        rows: cells in the columns' order.
        breaks: numbers of rows before which a rule is drawn.
    """
    head = "".join(
        f'<th scope="col"{_class("num" if c.numeric else "")}{_attr("title", c.note)}>{escape(c.title)}</th>'
        for c in columns
    )
    body = "".join(f"<tr{_class('first' if i in breaks else '')}>{_row(columns, r)}</tr>\n" for i, r in enumerate(rows))
    return (
        f'<div class="table-block" data-table="{escape(name)}"><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div></div>"
    )


def _row(columns: Sequence[Column], row: Sequence[Cell | str]) -> str:
    out = []
    for place, (column, item) in enumerate(zip(columns, row, strict=True)):
        cell = item if isinstance(item, Cell) else Cell(item)
        tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
        css = " ".join(filter(None, ["num" if column.numeric else "", cell.kind]))
        sort = "" if cell.value is None else f' data-value="{escape(str(cell.value))}"'
        out.append(f"<{tag}{scope}{_class(css)}{sort}{_attr('title', cell.note)}>{cell_html(cell)}</{tag}>")
    return "".join(out)


def cell_html(cell: Cell) -> str:
    """A cell's content; a trailing ``± ...`` is set small."""
    head, mark, tail = cell.text.partition(" ± ")
    return escape(head) + (f" <small>± {escape(tail)}</small>" if mark else "")


def _class(css: str) -> str:
    return f' class="{escape(css)}"' if css else ""


def _attr(name: str, value: str) -> str:
    return f' {name}="{escape(value)}"' if value else ""
