"""scripts/paper_targets.py: rows follow from the result files, and the page is what the script makes of them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("paper_targets")


def record(folder: Path, seed: int, accuracies: list[float], **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    curve = [
        {"round": r, "accuracy": a, "upstream_bytes": 1000 * r, "text_upstream_bytes": 100_000 * r}
        for r, a in enumerate(accuracies, start=1)
    ]
    told = {"dataset": "cifar10", "partition": "iid", "label": "fsd+", "best_accuracy": max(accuracies)}
    (folder / f"fsd+-seed{seed}.json").write_text(json.dumps({**told, "curve": curve, **more}))


def test_a_row_is_the_mean_over_the_seeds_that_got_there(targets: Any, tmp_path: Path) -> None:
    record(tmp_path / "cifar10-mini", 0, [0.3, 0.4])
    record(tmp_path / "cifar10-mini", 1, [0.35, 0.5])
    record(tmp_path / "cifar10-mini", 2, [0.9], partition="dirichlet-0.1")
    lines = [line.split("|")[1:-1] for line in targets.table(tmp_path) if "CIFAR-10" in line]
    first, *_, last = [[cell.strip() for cell in line] for line in lines]
    assert first[0] == "CIFAR-10, DTSNN" and first[4:8] == ["`fsd+`", "4 x 2,500", "2", "1.5"]
    assert first[8:] == ["150 kB", "5.91\u00a0×", "1.5 kB"], "0.887 MB are printed for 32 %"
    assert last[1] == "59 %" and last[7:9] == ["not reached", "best round 50.0 %"]


def test_every_printed_target_is_named_once(targets: Any, tmp_path: Path) -> None:
    lines = targets.table(tmp_path)[2:]
    assert len(lines) == sum(map(len, targets.PRINTED.values())) and all("none yet" in line for line in lines)


def test_the_page_has_the_table_of_todays_results(targets: Any) -> None:
    page = (ROOT / "docs" / "results.md").read_text()
    assert targets.filled(page, targets.BEGIN, targets.END, targets.section(ROOT / "results")) == page
