"""Paired differences: seed by seed, with their interval, and no verdict from one seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from report.synthetic import make_run
from report.test_write import read_tables
from spikefed.report import load_run, write_report
from spikefed.report.groups import Group, group_runs
from spikefed.report.paired import UNPROVEN, paired_rows, says


def grouped(folders: list[Path]) -> list[Group]:
    return group_runs([load_run(folder) for folder in folders])


def test_differences_are_of_the_same_seed_at_the_last_round_that_both_have(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / f"a{s}", method="fedavg", seed=s, rounds=4, top=0.8) for s in (0, 1, 2)]
    folders += [make_run(tmp_path / f"f{s}", seed=s, rounds=6, top=0.9) for s in (1, 2, 5)]
    (row,) = paired_rows(grouped(folders))
    runs = {folder.name: load_run(folder).rounds[3]["server_accuracy"] for folder in folders}
    assert row.differences == pytest.approx([runs["f1"] - runs["a1"], runs["f2"] - runs["a2"]])
    assert row.rounds == [4, 4] and row.base.method == "fedavg"


def test_the_page_gives_the_interval_of_the_differences(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / f"a{s}", method="fedavg", seed=s, rounds=8, top=0.7) for s in range(3)]
    folders += [make_run(tmp_path / f"f{s}", seed=s, rounds=8, top=0.95) for s in range(3)]
    head, cells = read_tables(write_report(folders, tmp_path / "report.html").read_text())["paired-1"]
    (row,) = paired_rows(grouped(folders))
    low, high = stats.t.interval(0.95, 2, sum(row.differences) / 3, stats.sem(row.differences))
    assert head[4] == "95 % interval" and cells[4] == f"+{100 * low:.1f} to +{100 * high:.1f}"
    assert cells[5] == "3 of 3" and cells[6] == "better, over 3 seeds"


def test_one_seed_says_nothing_yet(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "a", method="fedavg", rounds=3), make_run(tmp_path / "f", rounds=3)]
    page = write_report(folders, tmp_path / "report.html").read_text()
    cells = read_tables(page)["paired-1"][1]
    assert cells[4] == UNPROVEN and cells[6] == "nothing yet: run more seeds"
    assert "All of it is one seed: another may say otherwise." in page
    assert paired_rows(grouped(folders[:1])) == []


def test_equal_methods_are_not_told_apart(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / f"a{s}", method="fedavg", seed=s, rounds=3, top=0.9) for s in range(3)]
    folders += [make_run(tmp_path / f"f{s}", seed=s, rounds=3, top=0.9) for s in range(3)]
    (row,) = paired_rows(grouped(folders))
    assert says(row) == "not told apart"
