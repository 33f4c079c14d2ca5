"""A table as a list of columns, each of them heading, note, value and text at once.

From one list come the table of the page, the lines of the terminal and the frame: none can fall out of step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spikefed.report import text
from spikefed.report.text import ABSENT, Cell
from spikefed.report.tidy import number

WRITTEN: Mapping[str, Callable[[float], str]] = {
    "share": text.percent,
    "pj": text.energy_text,
    "bytes": text.bytes_text,
    "bits": lambda bits: f"{bits:,.0f}\u00a0bit",
    "seconds": text.short_duration,
    "number": text.number_text,
    "limit": text.limit_text,
}
"""How a number of a unit is written."""


@dataclass(frozen=True)
class Column:
    """One column of a table over rows of any kind.

    Attributes:
        key: name in the frame.
        title: heading.
        value: of a row: a number or text to sort and export by; None where there is nothing.
        unit: how a number is written: a key of `WRITTEN`, or ``text``.
        note: what a reader must know of the column.
        css: of a row: style classes of its cell.
        spread: of a row: standard deviation of its value, written behind it; None where there is none.
    """

    key: str
    title: str
    value: Callable[[Any], Any]
    unit: str = "number"
    note: str = ""
    css: Callable[[Any], str] = lambda row: ""
    spread: Callable[[Any], float | None] = lambda row: None

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers, which stand to the right."""
        return self.unit != "text"

    def text(self, row: Any) -> str:
        """The cell as a reader sees it."""
        value = self.value(row)
        if value is None or value == "":
            return ABSENT
        found = number(value)
        if self.unit == "text" or found is None:
            return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        deviation = self.spread(row)
        written = WRITTEN.get(self.unit, text.number_text)(found)
        return f"{written} ± {self._deviation(deviation)}" if deviation else written

    def _deviation(self, value: float) -> str:
        """In percent points beside a share, else in the unit of the value."""
        if self.unit == "share":
            return text.fixed(100 * value, 1)
        if self.unit in ("number", "limit"):
            return f"{value:.2g}" if value < 99.5 else f"{value:,.0f}"
        return WRITTEN[self.unit](value)


def html(name: str, caption: str, columns: Sequence[Column], rows: Sequence[Any]) -> str:
    """The table of a page, which its script makes sortable.

    Args:
        name: identifies the table on the page.
        caption: what it shows.
    """
    heads = [text.Column(column.title, column.numeric, column.note) for column in columns]
    cells = [[Cell(c.text(row), c.value(row), kind=c.css(row)) for c in columns] for row in rows]
    return text.table(name, caption, heads, cells)


def lines(columns: Sequence[Column], rows: Sequence[Any]) -> list[str]:
    """Heading and rows for a terminal: text to the left, numbers to the right."""
    table = [[column.title for column in columns], *([column.text(row) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in table
    ]


def frame_rows(columns: Sequence[Column], rows: Sequence[Any]) -> list[dict[str, Any]]:
    """The values by key, a mapping a row, for `pandas.DataFrame`."""
    return [{column.key: column.value(row) for column in columns} for row in rows]
