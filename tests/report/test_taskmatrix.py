"""Stages in a report: measures by configuration, the matrix as a picture, results of any shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from report.synthetic import make_run
from report.test_write import read_tables
from spikefed.report import load_run, write_report
from spikefed.report.groups import group_runs
from spikefed.report.sections import css_of
from spikefed.report.taskmatrix import matrix_of, stage_rows, stages_table

MATRIX = [[0.9, 0.2], [0.6, 0.8]]


def told(add: float = 0.0, **more: Any) -> dict[str, Any]:
    side = {
        "matrix": [[value + add for value in row] for row in MATRIX],
        "average_accuracy": 0.8 + add,
        "last_accuracy": 0.7 + add,
        "forgetting": 0.3,
        "forward_transfer": None,
    }
    return {"tasks": 2, "unknown": side, "upstream_bytes": [100, 300]} | more


def run_of(folder: Path, stages: Any, **given: Any) -> Path:
    path = make_run(folder, rounds=2, **given)
    result = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps(result | {"stages": stages}))
    return path


def test_a_row_is_the_mean_of_its_seeds_and_the_picture_says_their_numbers(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / str(seed), told(0.02 * seed), seed=seed) for seed in (0, 1)]
    (row,) = stage_rows(group_runs([load_run(run) for run in runs]))
    assert row.matrix is not None
    assert [value for stage in row.matrix for value in stage] == pytest.approx([0.91, 0.21, 0.61, 0.81])
    page = write_report(runs, tmp_path / "report.html").read_text()
    head, line = read_tables(page)["stages-1"]
    assert head[2:] == ["Average", "Last", "Forgetting", "Forward transfer", "Bytes up a stage"]
    assert line[1:4] == ["task unknown", "81.0\u00a0% ± 1.4", "71.0\u00a0% ± 1.4"] and line[-1] == "200 B"
    assert all(f">{word}</text>" in page for word in ("91.0", "21.0", "61.0", "81.0", "stage 1", "task 1"))
    assert "mean of 2 seeds</figcaption>" in page


def test_known_and_unknown_tasks_stand_apart(tmp_path: Path) -> None:
    both = told() | {"known": told(0.05)["unknown"]}
    rows = stage_rows(group_runs([load_run(run_of(tmp_path / "run", both))]))
    assert [(row.side, row.values("last_accuracy")) for row in rows] == [("known", [0.75]), ("unknown", [0.7])]


def test_runs_without_stages_say_nothing_of_them(tmp_path: Path) -> None:
    assert stages_table(0, group_runs([load_run(make_run(tmp_path / "run", rounds=2))]), css_of) == ""


DAMAGED: list[Any] = [
    7,
    [],
    {"unknown": 3},
    {"unknown": {"matrix": [[0.1], []]}},
    {"unknown": {"matrix": [["<i>evil"]]}},
    {"known": {}},
]


@pytest.mark.parametrize("stages", DAMAGED)
def test_what_a_damaged_result_says_harms_no_page(stages: Any, tmp_path: Path) -> None:
    page = write_report([run_of(tmp_path / "run", stages)], tmp_path / "report.html").read_text()
    assert "<i>evil" not in page and "Accuracy in percent on every task" not in page


def test_a_matrix_has_numbers_in_equal_rows() -> None:
    assert matrix_of({"matrix": MATRIX}) == MATRIX
    for broken in ([[0.1, None]], [[0.1], [0.1, 0.2]], [], [[]], "text"):
        assert matrix_of({"matrix": broken}) is None
