"""scripts/skew.py: rows follow from the collected files, and the page is what the script makes of them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")


@pytest.fixture
def skew(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("skew")


def run(seed: int, shares: list[float], **more: Any) -> dict[str, Any]:
    keys = ("clients_accuracy_mean", "vote_accuracy")
    rounds = [
        {"round": r, "server_accuracy": share, "upstream_bytes_total": 1000 * r} | dict.fromkeys(keys, share / 2)
        for r, share in enumerate(shares, start=1)
    ]
    return {"dataset": "digits", "images": "test", "seed": seed, "asked": 2, "rounds": rounds, **more}


def test_a_row_goes_as_far_as_its_shortest_run(skew: Any) -> None:
    rows = [{"lever": "x", "runs": [run(1, [0.5, 0.7]), run(2, [0.6])]}, {"lever": "y", "runs": [run(1, [0.5, 0.7])]}]
    first, second = [[cell.strip() for cell in line.split("|")[1:-1]] for line in skew.tried_table(rows)[2:]]
    assert first == ["x", "digits, test", "1, 2", "1 of 2", "55.0 ± 7.1", "27.5 ± 3.5", "27.5 ± 3.5", "1 kB"]
    assert second[3:5] == ["2", "50.0, 70.0"] and second[-1] == "2 kB"


def test_what_was_not_measured_is_left_out(skew: Any) -> None:
    one = run(1, [0.5])
    one["rounds"][0]["vote_accuracy"] = None
    line = skew.tried_table([{"lever": "x", "runs": [one]}])[2]
    assert line.split("|")[-3].strip() == ""


def test_differences_are_paired_by_seed_with_their_interval(skew: Any) -> None:
    """By hand: 2, 4 and 6 points have the mean 4 and the deviation 2; t of 2 degrees of freedom is 4.3027."""
    ours = {"lever": "a", "runs": [run(s, [0.1, 0.5 + s / 50]) for s in (3, 1, 2)]}
    theirs = {"lever": "b", "runs": [run(s, [0.9, 0.5]) for s in (1, 2, 3)]}
    half = 4.30265 * 2 / 3**0.5
    interval = f"95 % interval {4 - half:+.1f} to {4 + half:+.1f}"
    [line] = skew.differences([ours, theirs])
    assert line == f"* a, beyond b: +2.0, +4.0, +6.0 points (seeds 1, 2, 3), mean +4.0, {interval}."
    alone = {"lever": "c", "runs": [run(2, [0.4])]}
    assert skew.differences([ours, alone]) == ["* a, beyond c: +14.0 points (seeds 2)."]


def test_the_page_has_the_tables_of_todays_results(skew: Any) -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    assert skew.tables(page) == page
    assert all(json.loads(path.read_text()) for path in (skew.TRIED, skew.COST, skew.LARGER, skew.LAST, skew.BALANCE))
