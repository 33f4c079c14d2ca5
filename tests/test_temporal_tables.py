"""scripts/temporal.py: what a table says of the centroids of runs, from records made by hand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")


@pytest.fixture
def temporal(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("temporal")


def record(arm: str, seed: int, epochs: int, centroid: float, right: float, error: float = 0.3) -> dict[str, Any]:
    said = {"centroid": centroid, "centroid_se": error, "accuracy": [0.5, right]}
    return {"run": arm, "seed": seed, "epochs": epochs, "accuracy": 0.9, "probes": {"temporal": said}}


RECORDS = [
    record("temporal-x-first-adam", 0, 1, 4.0, 0.6, error=0.4),  # falls by 1.5, three errors of 0.5
    record("temporal-x-adam", 0, 24, 2.5, 1.0),
    record("temporal-x-first-adam", 1, 1, 4.0, 0.6, error=0.4),  # falls by 0.5, one error
    record("temporal-x-adam", 1, 24, 3.5, 1.0),
    record("temporal-x-first-sgd", 0, 1, 4.0, 0.6, error=0.4),  # rises by 1.5, not learnt
    record("temporal-x-sgd", 0, 24, 5.5, 0.99),
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "study.json"
    path.write_text(json.dumps(RECORDS))
    return path


def test_a_row_is_an_arm_by_its_own_name(temporal: Any, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    temporal.table(page)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows == [
        "| `adam` | 90.0 % | 4.00 to 3.00; fell in 1, rose in 0 of 2 |",
        "| `sgd` | 90.0 % | 4.00 to 5.50; fell in 0, rose in 1 of 1 |",
    ]


def test_runs_that_know_their_images_are_told_apart(
    temporal: Any, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    temporal.learnt(page)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows == [
        "| all right | 2 | fell in 2, by two errors in 1; rose by two in 0 |",
        "| not all right | 1 | fell in 0, by two errors in 0; rose by two in 1 |",
    ]


def test_the_page_has_the_table_of_every_study(temporal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "temporal.md").read_text()
    for name in (
        "digits",
        "digits-nets-decayed",
        "fashion-mnist",
        "fashion-mnist-learnt",
        "kappa-digits-decayed",
        "kappa-fashion-mnist-learnt",
    ):
        temporal.table(ROOT / "results" / "temporal" / f"{name}.json")
    missing = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| `") and row not in page]
    assert missing == []
