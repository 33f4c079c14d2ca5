"""scripts/search_page.py: the tables of docs/search.md are what the script makes of results/search."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("search_page")


def test_the_page_holds_the_tables_of_the_collected_files(script: Any) -> None:
    page = script.PAGE.read_text()
    for study, table in script.TABLES.values():
        assert table(json.loads((script.RESULTS / f"{study}.json").read_text())) in page


def test_different_networks_together_are_better_than_their_mean(script: Any) -> None:
    runs = json.loads((script.RESULTS / "mixed.json").read_text())
    assert len(runs) == 3
    assert all(min(run["server"], run["vote"]) >= sum(run["clients"]) / len(run["clients"]) for run in runs.values())


def test_a_row_of_samplers_is_a_mean_over_both_partitions(script: Any) -> None:
    costs = (
        "macs_share",
        "bytes_share",
        "macs_of_full",
        "bytes_of_full",
        "search_macs_of_full",
        "search_bytes_of_full",
    )
    one = {"seeds": 2, "accuracy": 0.5, "accuracy_deviation": 0.01, "peak_share": 0.5, **dict.fromkeys(costs, 0.2)}
    other = {**one, "accuracy": 0.25, "peak_share": 0.75, **dict.fromkeys(costs, 0.4)}
    row = script.samplers_table({"groups": {"ann lean iid": one, "ann lean dirichlet-0.5": other}}).splitlines()[-1]
    assert row == "| ANN, lean | 50.0 ± 1.0 | 25.0 ± 1.0 | 30 %, 30 % | 75 % | 30 %, 30 % | 30 %, 30 % |"
