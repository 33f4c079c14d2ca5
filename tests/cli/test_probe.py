"""``spikefed probe``: tables and JSON of a finished run, and one sentence with exit code 2 for each mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import spikefed
from experiment.conftest import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spikefed.run({**TINY, "rounds": 1}, out=tmp_path_factory.mktemp("probed") / "run")


def invoke(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spikefed", "probe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_it_prints_tables_or_json_and_keeps_the_file(run: Path) -> None:
    shown = invoke(run, "latency", "--set", "images=20", "--label", "few")
    assert shown.returncode == 0, shown.stderr
    head, blank, columns, *rows = shown.stdout.splitlines()
    assert head.startswith("Latency of round 1, 20 images (images = 20") and blank == ""
    assert columns.split()[:2] == ["Steps", "Accuracy"] and [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    told = invoke(run, "latency", "--set", "images=20", "--label", "few", "--json")
    tree = json.loads(told.stdout)
    kept = json.loads((run / "probes" / "few.json").read_text())
    assert tree == kept and tree["measurements"][0]["images"] == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "latancy"], "the nearest is 'latency'"),
        (["{run}", "latency", "--set", "tolerence=1"], "the nearest known key is 'tolerance'"),
        (["{run}", "latency", "--set", "images"], "has no '='"),
        (["{run}", "latency", "--label", "a/b"], "label 'a/b' of a probe"),
        (["{run}/nowhere", "latency"], "is no run folder"),
        (["{run}@1", "latency"], "names a round, and a probe looks at the network that a run ended with"),
        (["{run}", "latency", "--set", "data.dataset=digits"], "is measured on its own data; leave data.* out"),
        (["{run}/model.safetensors", "latency", "--set", "data.dataset=digits"], "is measured on its own data"),
        (["{run}/config.toml", "latency", "--set", "data.dataset=digits"], "cannot be read as a model file"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(run: Path, arguments: list[str], said: str) -> None:
    done = invoke(*(text.format(run=run) for text in arguments))
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def alone(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(run / "model.safetensors", tmp_path_factory.mktemp("alone") / "net.safetensors"))


def test_a_model_file_alone_is_measured_as_in_its_run(run: Path, alone: Path) -> None:
    given = ["accuracy", "--set", "clients=false", "--label", "mine", "--json"]
    inside, outside = (
        invoke(run, *given),
        invoke(alone, *given, "--set", "data.dataset=digits", "--set", "data.test_limit=60"),
    )
    assert inside.returncode == outside.returncode == 0, outside.stderr
    one, other = (json.loads(done.stdout)["measurements"][0] for done in (inside, outside))
    assert one["records"] == other["records"] and one["weights_sha256"] == other["weights_sha256"]
    assert (alone.parent / "net.probes" / "mine.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["latency"], "without its run folder, so name what to measure it on: add --set data.dataset=NAME"),
        (["latency", "--set", "data=digits"], "write --set data.dataset=NAME"),
        (["latency", "--set", "data.dataset=digit"], "digit"),
        (["latency", "--set", "data.datset=digits"], "data.dat"),
        (["latency", "--set", "data.dataset=mnist", "--data-dir", "nowhere"], "mnist"),
    ],
)
def test_a_model_file_alone_needs_data_that_fit(alone: Path, arguments: list[str], said: str) -> None:
    done = invoke(alone, *arguments)
    assert done.returncode == 2 and done.stdout == "" and said in done.stderr and "Traceback" not in done.stderr
    assert not (alone.parent / "net.probes" / "latency.json").exists()


@pytest.mark.parametrize("name", ["chip", "own-chips"])
def test_chips_of_a_model_file_alone_are_measured_on_every_test_image(name: str, alone: Path) -> None:
    given = ["--set", "data.dataset=digits", "--set", "data.test_limit=61", "--set", "repairs=['none', 'adapt']"]
    kind = "profile='ideal'" if name == "chip" else "profiles=['ideal']"
    done = invoke(alone, name, *given, "--set", kind, "--set", "calibration=50", "--json")
    assert done.returncode == 0, done.stderr
    shares = [row["accuracy"] for row in json.loads(done.stdout)["measurements"][0]["records"] if row.get("accuracy")]
    assert shares and all(abs(share * 61 - round(share * 61)) < 1e-9 for share in shares)
