"""A table as a list of columns, each of them heading, note, value and text at once.

From one list come the table of the page, the lines of the terminal and the frame: none can fall out of step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from spikefed.report import text
from spikefed.report.text import ABSENT, Cell
from spikefed.report.tidy import number

WRITTEN: Mapping[str, Callable[[float], str]] = {
    "share": text.percent,
    "pj": text.energy_text,
    "bytes": text.bytes_text,
    "bits": lambda bits: f"{bits:,.0f}\u00a0bit",
    "seconds": text.duration,
    "number": text.number_text,
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
    """

    key: str
    title: str
    value: Callable[[Any], Any]
    unit: str = "number"
    note: str = ""
    css: Callable[[Any], str] = lambda row: ""

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
        return WRITTEN[self.unit](found)


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


def definition(columns: Sequence[Column]) -> str:
    """The columns that have a note, as a list of terms in HTML; empty without any."""
    noted = [column for column in columns if column.note]
    body = "".join(f"<div><dt>{escape(c.title)}</dt><dd>{escape(c.note)}</dd></div>" for c in noted)
    return f'<dl class="facts">{body}</dl>' if noted else ""
