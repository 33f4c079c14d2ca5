"""The tables of a report as LaTeX that plain pdflatex takes, without a package.

They are read off the page's own tables, so the two cannot differ.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

_SPELT = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", "\u00a0": "~",
    "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--", "—": "---", "µ": r"$\mu$", "·": r"$\cdot$", "…": r"\dots{}",
    "“": "``", "”": "''", "’": "'", "‘": "`", '"': "''", "ε": r"$\varepsilon$", "δ": r"$\delta$", "α": r"$\alpha$",
    "≥": r"$\ge$", "≤": r"$\le$", "→": r"$\to$",
}  # fmt: skip


TEXT_PT = 345.0
"""Width of the text of LaTeX's class ``article`` at 10 pt."""
_LETTER_PT = 5.6
"""Mean width of a letter of Computer Modern at 10 pt, on the safe side."""
_SIZES = (("", 1.0, 12.0), ("\\small\n", 0.93, 12.0), ("\\footnotesize\n", 0.86, 6.0), ("\\scriptsize\n", 0.8, 6.0))
"""Commands, widths of letters beside those at 10 pt, and what a column takes beside its letters, in points."""
_LONGEST = (22, 14, 10)
"""Letters of a cell's line, of tables that are wider and wider."""


@dataclass
class Read:
    """A table of a page.

    Attributes:
        name: what the page calls it.
        caption: what it shows.
        numeric: by column, whether it holds numbers.
        rows: texts, the headings first.
    """

    name: str
    caption: str = ""
    numeric: list[bool] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


class _Tables(HTMLParser):
    """Finds ``div.table-block`` elements and what stands in their cells."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Read] = []
        self._into: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "div" and "data-table" in given:
            self.found.append(Read(given["data-table"] or "table"))
        if not self.found:
            return
        if tag == "caption":
            self._into = []
        elif tag == "tr":
            self.found[-1].rows.append([])
        elif tag in ("th", "td"):
            self._into = []
            if len(self.found[-1].rows) == 1:
                self.found[-1].numeric.append("num" in (given.get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        if self._into is None or tag not in ("caption", "th", "td"):
            return
        text = " ".join("".join(self._into).split(" ")).strip()
        if tag == "caption":
            self.found[-1].caption = text
        else:
            self.found[-1].rows[-1].append(text)
        self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)


def tables_of(page: str) -> list[Read]:
    """Every table of a page, in its order."""
    parser = _Tables()
    parser.feed(page)
    return [table for table in parser.found if table.rows]


def latex(table: Read) -> str:
    """A ``table`` environment to be read in with ``\\input``, no wider than an article's text.

    Of one that is too wide headings and long cells are broken into lines, then it is set small.
    """
    columns = "".join("r" if numeric else "l" for numeric in table.numeric)
    rows, size, gap = _fitted(table.rows)
    size += "\\setlength{\\tabcolsep}{3pt}\n" if gap < 12 else ""
    lines = [_line(rows[0], columns, "b"), "\\hline", *(_line(row, columns, "t") for row in rows[1:])]
    return (
        f"% {table.name}, made by spikefed report\n\\begin{{table}}\n\\centering\n{size}"
        f"\\caption{{{escaped(table.caption)}}}\n\\label{{tab:{table.name}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\hline\n" + "\n".join(lines) + "\n\\hline\n\\end{tabular}\n\\end{table}\n"
    )


def escaped(text: str) -> str:
    """Text as LaTeX sets it; a letter that it may not know becomes a question mark."""
    return "".join(_SPELT.get(c, c if c.isascii() or "\u00c0" <= c <= "\u00ff" else "?") for c in text)


def _width(rows: Sequence[Sequence[Sequence[str]]], scale: float, gap: float) -> float:
    """Of a table whose cells are lists of lines, in points, as far as letters are of mean width."""
    longest = [max(len(line) for cell in column for line in cell) for column in zip(*rows, strict=True)]
    return sum(longest) * _LETTER_PT * scale + gap * len(longest)


def _fitted(cells: Sequence[Sequence[str]]) -> tuple[list[list[list[str]]], str, float]:
    """Cells as lines, the command of a size, and what a column takes beside its letters, so that the table fits."""
    forms = [[[[cell] for cell in row] for row in cells], *(_broken(cells, longest) for longest in _LONGEST)]
    for rows in forms:
        for size, scale, gap in _SIZES if rows is not forms[0] else _SIZES[:1]:
            if _width(rows, scale, gap) <= TEXT_PT:
                return rows, size, gap
    return forms[-1], "\\tiny\n", 6.0


def _broken(rows: Sequence[Sequence[str]], longest: int) -> list[list[list[str]]]:
    """Cells as lines: long ones broken, headings to the width of what stands below them."""
    others = [[_lines(cell, longest) for cell in row] for row in rows[1:]]
    below = [max((len(line) for row in others for line in row[place]), default=1) for place in range(len(rows[0]))]
    return [[_lines(cell, max(wide, 8)) for cell, wide in zip(rows[0], below, strict=True)], *others]


def _lines(text: str, width: int) -> list[str]:
    """At spaces but that behind a ±, and where room is scarce at hyphens."""
    kept = text.replace("± ", "±\u00a0")
    return textwrap.wrap(kept, width, break_long_words=False, break_on_hyphens=width < _LONGEST[0]) or [""]


def _line(cells: Sequence[Sequence[str]], columns: str, level: str) -> str:
    """A row; the lines of a cell begin or end level with the others, ``t`` or ``b``."""
    return " & ".join(_cell(cell, side, level) for cell, side in zip(cells, columns, strict=True)) + r" \\"


def _cell(lines: Sequence[str], side: str, level: str) -> str:
    told = r" \\ ".join(escaped(re.sub(r"^-(?=\d)", "−", line)) for line in lines)
    return told if len(lines) == 1 else rf"\begin{{tabular}}[{level}]{{@{{}}{side}@{{}}}}{told}\end{{tabular}}"
