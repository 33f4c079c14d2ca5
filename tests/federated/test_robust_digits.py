"""One of four clients lies from the start: the robust vote keeps the accuracy, the plain vote does not."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

import spikefed

ROOT = Path(__file__).parents[2]
LIAR = ["attack.clients=[3]", "attack.claim=1.0"]


def accuracy(tmp_path: Path, vote: str, attack: str | None) -> float:
    overrides = ["run.threads=1", f"method.vote='{vote}'"]
    overrides += [*LIAR, f"attack.kind='{attack}'"] if attack else []
    out = tmp_path / f"{vote}-{attack}"
    folder = spikefed.run(ROOT / "experiments" / "fsd-digits.toml", overrides=overrides, out=out)
    return json.loads((folder / "result.json").read_text())["accuracy"]


@pytest.mark.slow
def test_votes_against_one_liar_of_four(tmp_path: Path) -> None:
    honest = accuracy(tmp_path, "weighted", None)
    assert accuracy(tmp_path, "agreement", "invert-spikes") >= honest - 0.02
    assert accuracy(tmp_path, "median", "flip-labels") >= honest - 0.02
    assert accuracy(tmp_path, "weighted", "invert-spikes") <= honest - 0.05


@pytest.mark.parametrize("dataset", ["digits", "fashion-mnist-mini"])
def test_recorded_runs_hold_what_the_page_says(dataset: str) -> None:
    """Mean over seeds: median and agreement within 2 points of the plain vote without a liar, under both attacks."""
    path = ROOT / "results" / "robust" / f"{dataset}.json"
    if not path.is_file():
        pytest.skip(f"{path.name} has not been measured")
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"]

    def mean(rule: str, attack: str) -> float | None:
        found = [r["accuracy"] for r in runs if (r["method"], r["rule"], r["attack"]) == ("fsd", rule, attack)]
        return statistics.mean(found) if found else None

    honest = mean("weighted", "none")
    assert honest is not None
    checked = 0
    for rule in ("median", "agreement"):
        for attack in ("flip-labels", "invert-spikes"):
            found = mean(rule, attack)
            if found is not None:
                assert found >= honest - 0.02, (rule, attack)
                checked += 1
    assert checked >= 1
