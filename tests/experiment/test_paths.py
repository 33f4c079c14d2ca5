"""Relative paths of a config count from one place, the folder of the command, and messages name it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

import spikefed
from spikefed.errors import ConfigError, DataError, SpikefedError
from spikefed.experiment import build, load
from spikefed.experiment import config as configs

BARS = np.kron(np.eye(4, dtype=np.uint8)[:, :, None] * 200, np.ones((2, 8), np.uint8)).reshape(4, 8, 8)


@pytest.fixture
def place(tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the command; the experiment file lies in a folder beside it, and SPIKEFED_DATA is not set."""
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("SPIKEFED_DATA", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return here


def saved(place: Path, tree: dict[str, Any], **tables: dict[str, Any]) -> Path:
    tree = {**tree, **{name: {**tree.get(name, {}), **keys} for name, keys in tables.items()}}
    file = place.parent / "files" / "exp.toml"
    file.write_text(tomli_w.dumps(tree))
    return file


def bars(path: Path) -> None:
    images = np.tile(BARS, (60, 1, 1))
    np.savez(path, images=images, labels=np.tile(np.arange(4), 60))


MISSING = {
    "npz": {"data": {"dataset": "npz:bars.npz"}},
    "csv": {"data": {"dataset": "csv:bars.csv"}},
    "images": {"data": {"dataset": "images:bars"}},
    "shares": {"data": {"dataset": "shares:bars"}},
    "public": {"data": {"public_dataset": "npz:bars.npz"}},
    "data.dir": {"data": {"dataset": "mnist", "dir": "bars"}},
    "data.dir and npz": {"data": {"dataset": "npz:bars.npz", "dir": "bars"}},
    "nir": {"network": {"name": "nir:bars.nir"}},
    "start": {"network": {"start": "bars"}},
    "profile": {"chips": {"profile": "bars.toml"}, "method": {"name": "fedavg"}},
    "module": {"network": {"name": "bars:Net"}},
}


@pytest.mark.parametrize("what", MISSING)
def test_a_message_names_the_folder_that_paths_count_from(what: str, place: Path, tiny: dict[str, Any]) -> None:
    tables = MISSING[what]
    if "method" in tables:
        tiny = {**tiny, "method": {}}
    with pytest.raises(SpikefedError) as found:
        build(load(saved(place, tiny, **tables)))
    assert str(place) in str(found.value) and "\n" not in str(found.value)


def test_an_absolute_path_needs_no_folder(place: Path, tiny: dict[str, Any]) -> None:
    with pytest.raises(SpikefedError) as found:
        build(load(saved(place, tiny, data={"dataset": f"npz:{place.parent / 'bars.npz'}"})))
    assert "count from the folder" not in str(found.value)


def test_files_and_modules_are_found_there_and_not_beside_the_experiment(place: Path, tiny: dict[str, Any]) -> None:
    code = "from spikefed.networks import build\n\n\ndef net(input_shape, classes, steps, seed):\n    return build("
    code += "'4C3-AP2', input_shape=input_shape, classes=classes, steps=steps, seed=seed)\n"
    file = saved(place, tiny, data={"dataset": "npz:bars"}, network={"name": "nets_of_paths:net"})
    bars(file.parent / "bars.npz")
    (file.parent / "nets_of_paths.py").write_text(code)
    with pytest.raises(DataError, match="npz:bars was not found"):
        build(load(file))
    bars(place / "bars.npz")
    with pytest.raises(ConfigError, match="names module 'nets_of_paths'"):
        build(load(file))
    (place / "nets_of_paths.py").write_text(code)
    federation = build(load(file))
    assert len(federation.train) and sys.modules["nets_of_paths"].__file__ == str(place / "nets_of_paths.py")
    assert sys.path[-1] == str(place), "a folder of the user's must not hide anybody's module"


def test_only_files_that_belong_together_count_from_each_other(place: Path, tiny: dict[str, Any]) -> None:
    saved(place, tiny)
    (place.parent / "files" / "child.toml").write_text('extends = "exp.toml"\nseed = 3\n')
    assert configs.load(Path("../files/child.toml")).seed == 3


def test_a_run_and_a_model_are_looked_for_there_too(place: Path) -> None:
    with pytest.raises(SpikefedError, match=f"count from the folder that the command is run in, {place}"):
        spikefed.load_model("runs/none")
