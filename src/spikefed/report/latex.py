"""The tables of a report as LaTeX that plain pdflatex takes, without a package.

They are read off the page's own tables, so the two cannot differ.
"""

from __future__ import annotations

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
    """A ``table`` environment to be read in with ``\\input``; wide ones are set small."""
    columns = "".join("r" if numeric else "l" for numeric in table.numeric)
    head, *rows = table.rows
    size = "\\footnotesize\n" if len(columns) > 5 else ""
    lines = [_line(head), "\\hline", *map(_line, rows)]
    return (
        f"% {table.name}, made by spikefed report\n\\begin{{table}}\n\\centering\n{size}"
        f"\\caption{{{escaped(table.caption)}}}\n\\label{{tab:{table.name}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\hline\n" + "\n".join(lines) + "\n\\hline\n\\end{tabular}\n\\end{table}\n"
    )


def escaped(text: str) -> str:
    """Text as LaTeX sets it; a letter that it may not know becomes a question mark."""
    return "".join(_SPELT.get(c, c if c.isascii() or "\u00c0" <= c <= "\u00ff" else "?") for c in text)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"
