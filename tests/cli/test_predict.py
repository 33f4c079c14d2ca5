"""``spikefed predict``: tables, CSV and JSON of a run's network, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spikefed import data
from spikefed.cli.main import whole
from spikefed.errors import SpikefedError
from spikefed.experiment import run

TEST = data.limited(data.load("digits", "test"), 60)
TINY: dict[str, Any] = {
    "name": "tiny",
    "rounds": 1,
    "data": {"clients": 2, "private_per_client": 40, "public": 24, "test_limit": 60},
    "network": {"name": "4C3-AP2", "steps": 4},
    "training": {"local_epochs": 2},
    "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1, "client_reset": "never"},
    "run": {"threads": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(TINY, out=tmp_path_factory.mktemp("predict") / "run")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(whole(), ["predict", *map(str, arguments)], catch_exceptions=True)


def test_an_npz_with_labels_says_the_runs_accuracy(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", images=TEST.images.numpy(), labels=TEST.labels.numpy())
    told = invoke(folder, tmp_path / "test.npz")
    accuracy = json.loads((folder / "result.json").read_text())["accuracy"]
    assert told.exit_code == 0 and f"accuracy {accuracy:.4f} on 60 images" in told.stdout
    assert "and 40 more; --csv prints all" in told.stdout
    found = json.loads(invoke(folder, tmp_path / "test.npz", "--json").stdout)
    assert found["accuracy"] == accuracy and len(found["images"]) == 60
    assert found["images"][0].keys() == {"image", "label", "name", "confidence", "silent", "truth"}
    lines = invoke(folder, tmp_path / "test.npz", "--csv").stdout.splitlines()
    assert lines[0] == "image,label,class,confidence,truth" and len(lines) == 61


def test_pictures_and_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(TEST.images[0, 0].numpy()).save(tmp_path / "one.png")
    Image.fromarray(TEST.images[1, 0].numpy()).save(tmp_path / "two.jpg")
    told = invoke(folder, tmp_path / "one.png", tmp_path / "two.jpg", "--csv")
    assert told.exit_code == 0 and [line.split(",")[0] for line in told.stdout.splitlines()[1:]] == [
        str(tmp_path / "one.png"),
        str(tmp_path / "two.jpg"),
    ]
    assert invoke(f"{folder}@1", tmp_path, "--csv").stdout == told.stdout
    assert invoke(folder / "model.safetensors", tmp_path, "--csv").stdout == told.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("{run}@9", "x.png"), "no checkpoint of round 9"),
        (("{run}@last", "x.png"), "names round 'last'; write a number"),
        (("{run}", "x.png"), "there is no file x.png"),
        (("{run}", "x.png", "--levels", "3"), "--levels '3' are not two different numbers"),
        (("{run}", "x.png", "--levels", "1,1"), "are not two different numbers"),
        (("{run}", "x.png", "--client", "8"), "has nothing of client 8"),
        (("nowhere", "x.png"), "there is no run folder or model file nowhere"),
    ],
)
def test_mistakes_are_one_sentence(folder: Path, words: tuple[str, ...], text: str) -> None:
    told = invoke(*(word.format(run=folder) for word in words))
    assert isinstance(told.exception, SpikefedError) and text in str(told.exception)


def test_the_exit_code_is_2(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "model.safetensors"
    bad.write_bytes((folder / "model.safetensors").read_bytes()[:-5])
    done = subprocess.run(
        [sys.executable, "-m", "spikefed", "predict", str(bad), "x.png"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_two_ways_to_print_are_asked_about(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", images=TEST.images.numpy())
    told = invoke(folder, tmp_path / "test.npz", "--csv", "--json")
    assert isinstance(told.exception, SpikefedError) and "give one of them" in str(told.exception)
    assert told.stdout == ""
