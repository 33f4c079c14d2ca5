"""One list of columns makes the page's table, the terminal's lines and the frame."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from report.test_write import Tables
from spikefed.report.columns import Column, frame_rows, html, lines

ROWS: list[dict[str, Any]] = [
    {"layer": "conv <1>", "rate": 0.2041, "pj": 1.5e6, "silent": 0.046, "ok": True},
    {"layer": "fc", "rate": None, "pj": 12, "silent": 0.0, "ok": False, "sd": 0.012},
]
COLUMNS = [
    Column("layer", "Layer", lambda row: row["layer"], "text", "where"),
    Column("rate", "Rate", lambda row: row["rate"]),
    Column("cost_pj", "Cost", lambda row: row["pj"], "pj"),
    Column("silent", "Silent", lambda row: row["silent"], "share", spread=lambda row: row.get("sd")),
    Column("ok", "Fine", lambda row: row["ok"], "text", css=lambda row: "good" if row["ok"] else ""),
]
EXPECTED = [
    ["Layer", "Rate", "Cost", "Silent", "Fine"],
    ["conv <1>", "0.2041", "1.5\u00a0µJ", "4.6\u00a0%", "yes"],
    ["fc", "–", "12\u00a0pJ", "0.0\u00a0% ± 1.2", "no"],
]


@pytest.mark.parametrize(
    ("unit", "value", "wanted"),
    [
        ("number", 446208.4, "446,208"),
        ("number", 3280.0, "3,280"),
        ("number", 3279.6, "3,280"),
        ("number", 999.95, "1,000"),
        ("number", 999.4, "999.4"),
        ("number", -1234.5, "-1,234"),
        ("number", 0.00012345, "0.0001234"),
        ("limit", 4.333, "4.333"),
        ("limit", -6.387, "none"),
        ("limit", 0.0, "none"),
    ],
)
def test_large_numbers_have_commas_and_a_limit_below_zero_is_none(unit: str, value: float, wanted: str) -> None:
    assert Column("key", "Key", lambda row: row, unit).text(value) == wanted


def test_a_deviation_has_no_exponent() -> None:
    column = Column("key", "Key", lambda row: row[0], spread=lambda row: row[1])
    assert [column.text((5000.0, sd)) for sd in (0.0, 1.234, 1234.0)] == ["5,000", "5,000 ± 1.2", "5,000 ± 1,234"]


def test_the_page_has_headings_texts_notes_and_sort_values() -> None:
    page = html("layers", "Layers", COLUMNS, ROWS)
    tables = Tables()
    tables.feed(page)
    assert tables.tables["layers"] == EXPECTED
    assert 'title="where"' in page and 'data-value="0.2041"' in page and 'class="good"' in page
    assert "<1>" not in page and "conv <1>" in unescape(page)


def test_the_terminal_has_the_same_in_columns() -> None:
    head, first, second = lines(COLUMNS, ROWS)
    assert [head.split()[0], *head.split()[-2:]] == ["Layer", "Silent", "Fine"]
    for line, cells in ((first, EXPECTED[1]), (second, EXPECTED[2])):
        assert [cell for cell in cells if cell not in line] == []
    assert head.index("Rate") + len("Rate") == first.index("0.2041") + len("0.2041"), "numbers stand to the right"
    assert first.index("yes") == second.index("no") == head.index("Fine"), "text stands to the left"


def test_the_frame_has_the_values() -> None:
    assert frame_rows(COLUMNS, ROWS)[0] == {
        "layer": "conv <1>", "rate": 0.2041, "cost_pj": 1.5e6, "silent": 0.046, "ok": True,
    }  # fmt: skip


@pytest.mark.parametrize("value", [None, "", [], {"a": 1}, "text", True, float("nan"), 10**400, -3, 1e300])
@pytest.mark.parametrize("unit", ["share", "pj", "bytes", "bits", "seconds", "number", "text", "unheard-of"])
def test_a_cell_may_hold_anything(value: Any, unit: str) -> None:
    column = Column("x", "X", lambda row: row["x"], unit)
    assert column.text({"x": value}) and html("t", "T", [column], [{"x": value}]) and lines([column], [{"x": value}])
