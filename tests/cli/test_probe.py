"""``spikefed probe``: tables and JSON of a finished run, and one sentence with exit code 2 for each mistake."""

from __future__ import annotations

import json
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
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(run: Path, arguments: list[str], said: str) -> None:
    done = invoke(*(text.format(run=run) for text in arguments))
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and "Traceback" not in done.stderr
