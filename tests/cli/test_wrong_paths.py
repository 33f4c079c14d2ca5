"""A file or folder of another kind than a command takes: one sentence that says which it is and what to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_cli import TINY
from typer.testing import CliRunner

import spikefed
from spikefed.cli import app
from spikefed.cli import inspect as _inspect  # noqa: F401 - registers its commands
from spikefed.errors import SpikefedError
from spikefed.experiment import toml


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``experiments/tiny.toml``, a file that extends a missing one, and the run ``runs/tiny``."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "tiny.toml").write_text(toml.dump({**TINY, "rounds": 1}))
    (folder / "heir.toml").write_text('extends = "gone.toml"\n')
    spikefed.run(folder / "experiments" / "tiny.toml", out=folder / "runs" / "tiny")
    return folder


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["run", "experiments/tin.toml"], "does not exist; the nearest in that folder is tiny.toml"),
        (["run", "tiny"], "does not exist; the nearest in that folder is experiments/tiny.toml"),
        (["run", "elsewhere.toml"], "does not exist; give the path of a TOML file"),
        (["run", "heir.toml"], "gone.toml, which heir.toml extends, does not exist"),
        (["run", "experiments"], "is a folder; name an experiment file"),
        (["run", "runs/tiny"], "is the folder of a run, not an experiment file; its settings stand in config.toml"),
        (["describe", "runs/tiny"], "its network is '4C3-AP2': spikefed describe 4C3-AP2 --steps 4 --input CxHxW"),
        (["describe", "experiments/tiny.toml"], "experiments/tiny.toml is no network"),
        (["predict", "experiments/tiny.toml", "x.png"], "holds an experiment: give the folder of its run"),
        (["data", "check", "digts"], "unknown data set 'digts'; did you mean 'digits'?"),
        (["compare", "experiments/tiny.toml", "--out", "runs/tiny"], "runs/tiny is the folder of one run"),
        (
            ["run", "experiments/tiny.toml", "--out", "runs/tiny", "--resume", "--set", "method.name=fedavg"],
            "belongs to another config: method.name was 'fsd' and is now 'fedavg'",
        ),
    ],
)
def test_what_it_is_and_what_to_give(arguments: list[str], why: str, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(at)
    before = sorted(path for path in at.rglob("*"))
    outcome: Any = CliRunner().invoke(app, arguments, catch_exceptions=True)
    assert isinstance(outcome.exception, SpikefedError)
    assert why in " ".join(str(outcome.exception).split())
    assert sorted(path for path in at.rglob("*")) == before
