"""The frame of a run of stages, and damaged results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from report.synthetic import make_run
from spikefed.report import load_run
from spikefed.report.matrices import stage_rows


def staged(folder: Path, known: Any) -> Path:
    make_run(folder, method="fedavg", rounds=2)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"stages": {"tasks": 2, "known": known}}))
    return folder


def test_the_frame_has_a_row_for_every_stage_and_task(tmp_path: Path) -> None:
    run = load_run(staged(tmp_path / "run", {"matrix": [[0.9, 0.1], [0.6, 0.8]]}))
    assert stage_rows(run.result)[2] == {"stage": 1, "task": 0, "known": 0.6, "unknown": None}
    assert run.stages_frame()["known"].tolist() == [0.9, 0.1, 0.6, 0.8]


@pytest.mark.parametrize("broken", [None, 3, {"matrix": []}, {"matrix": [[0.5], [0.1, 0.2]]}, {"matrix": [["x"]]}])
def test_a_damaged_matrix_gives_no_rows(broken: Any, tmp_path: Path) -> None:
    assert stage_rows(load_run(staged(tmp_path / "run", broken)).result) == []
