"""``data show``: a source's columns and notes, and who holds what in an experiment before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from spikefed.cli import app
from spikefed.experiment import holdings, load
from spikefed.experiment.holdings import bars

RUN = CliRunner()


def write(folder: Path) -> Path:
    labels = np.arange(300) % 3
    person = np.arange(300) // 75
    labels[person == 0] = 0
    images = np.random.default_rng(0).integers(0, 256, (300, 4, 4), dtype=np.uint8)
    names = np.array(["ant", "bee", "cat"])[labels]
    np.savez(folder / "mine.npz", images=images, labels=names, person=person)
    text = f'[data]\ndataset = "npz:mine"\ndir = "{folder}"\nclients = 3\npartition = "column"\nby = "person"\n'
    (folder / "mine.toml").write_text(text + "public = 20\ntest_groups = [3]\nown_test = 0.2\n")
    return folder / "mine.toml"


def test_an_experiment_file_shows_who_holds_what(tmp_path: Path) -> None:
    file = write(tmp_path)
    told = json.loads(RUN.invoke(app, ["data", "show", str(file), "--json"]).stdout)
    rows = {row["name"]: row for row in told["holders"]}
    assert list(rows) == ["public", "client 0 (0)", "client 1 (1)", "client 2 (2)", "test"]
    assert rows["client 0 (0)"]["per_class"][1:] == [0, 0] and rows["public"]["per_class"] is None
    held = sum(row[key] for row in told["holders"][1:4] for key in ("train", "validation", "test"))
    assert held == 225 - 20 and rows["test"]["train"] == 75 and told["classes"] == ["ant", "bee", "cat"]
    shown = RUN.invoke(app, ["data", "show", str(file)]).stdout
    assert "client 0 (0)" in shown and "█··" in shown and "left out of training: person 3 tested on." in shown
    assert holdings(load(file)).rows()["holders"][1]["train"] == rows["client 0 (0)"]["train"]


def test_a_source_shows_its_columns_and_what_was_done_to_it(tmp_path: Path) -> None:
    write(tmp_path)
    shown = RUN.invoke(app, ["data", "show", "npz:mine", "--data-dir", str(tmp_path)]).stdout
    assert "column 'person' has 4 values: data.partition = 'column' and data.by = 'person' make them clients" in shown
    assert "classes 0 to 2 are ant, bee and cat." in shown
    told = json.loads(RUN.invoke(app, ["data", "show", "npz:mine", "--data-dir", str(tmp_path), "--json"]).stdout)
    assert told["class_names"] == ["ant", "bee", "cat"] and told["columns"] == {"person": 4}


def test_bars_have_a_character_a_class() -> None:
    assert bars([0, 8, 4, 1]) == "·█▄▁" and bars([0, 0]) == "··" and len(bars([1] * 100)) == 41


def test_settings_and_share_folders_are_shown_as_a_run_would_have_them(tmp_path: Path) -> None:
    from experiment.shares import write_elsewhere, write_file

    file, shares = write_file(tmp_path), write_elsewhere(tmp_path / "shares")
    told = json.loads(RUN.invoke(app, ["data", "show", str(file), "--data", str(shares), "--json"]).stdout)
    assert [row["name"] for row in told["holders"]] == ["public", "client 0", "client 1", "client 2", "test"]
    assert [row["train"] + row["validation"] for row in told["holders"]] == [24, 30, 26, 22, 18]
    assert told["classes"] == ["row", "column"]
    fewer = RUN.invoke(app, ["data", "show", str(file), "--set", "data.public=7", "--json"])
    assert json.loads(fewer.stdout)["holders"][0]["train"] == 7
    assert "'digits' is none" in str(RUN.invoke(app, ["data", "show", "digits", "--data", str(shares)]).exception)
