"""The command line as a user meets it: output, JSON, one-sentence errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from spikefed import data, networks
from spikefed.cli import app
from spikefed.cli import inspect as _inspect  # noqa: F401 - registers its commands
from spikefed.errors import SpikefedError
from spikefed.experiment import toml

TINY: dict[str, Any] = {
    "name": "tiny",
    "rounds": 2,
    "data": {"clients": 2, "private_per_client": 40, "public": 24, "test_limit": 60},
    "network": {"name": "4C3-AP2", "steps": 4},
    "training": {"local_epochs": 1},
    "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1},
    "run": {"threads": 1},
}


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(toml.dump(TINY))
    return path


def test_run_compare_report(file: Path, tmp_path: Path) -> None:
    run = invoke("run", str(file), "--out", str(tmp_path / "run"), "--json", "-q")
    assert run.exit_code == 0
    assert json.loads(run.stdout)["rounds"] == 2
    twin = tmp_path / "twin.toml"
    twin.write_text('extends = "tiny.toml"\nname = "twin"\n[method]\nname = "fedavg"\n')
    compare = invoke("compare", str(file), str(twin), "--out", str(tmp_path / "out"), "--seeds", "0,1", "-q")
    assert compare.exit_code == 0
    report = Path(compare.stdout.strip())
    assert report.name == "report.html" and "fedavg" in report.read_text()
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == [
        "tiny-seed0", "tiny-seed1", "twin-seed0", "twin-seed1",
    ]  # fmt: skip
    told = invoke("compare", str(file), "--out", str(tmp_path / "out"), "--seeds", "0,1", "-q", "--json")
    found = json.loads(told.stdout)
    assert [job["rounds"] for job in found["jobs"]] == [2, 2] and found["jobs"][0]["error"] is None
    assert Path(found["report"]).is_file() and found["jobs"][1]["seed"] == 1
    again = invoke("report", str(tmp_path / "run"), "--out", str(tmp_path / "again.html"), "--target", "0.1")
    assert again.exit_code == 0 and (tmp_path / "again.html").stat().st_size > 100_000


@pytest.mark.parametrize("kind", ["datasets", "networks", "methods", "codecs", "presets", "probes"])
def test_list(kind: str) -> None:
    rows = json.loads(invoke("list", kind, "--json").stdout)
    assert rows and all(row["name"] for row in rows)
    text = invoke("list", kind).stdout
    assert all(row["name"] in text for row in rows)


def test_list_knows_everything_built_in() -> None:
    assert {row["name"] for row in json.loads(invoke("list", "networks", "--json").stdout)} == {
        n.name for n in networks.networks()
    }
    assert {row["name"] for row in json.loads(invoke("list", "datasets", "--json").stdout)} == {
        *(d.name for d in data.datasets()),
        *data.EVENT_SETS,
    }
    assert {"faithful", "authors"} <= {row["name"] for row in json.loads(invoke("list", "presets", "--json").stdout)}


def test_describe_under_the_masks_of_a_model_file(tmp_path: Path) -> None:
    state = networks.copy_tensors(networks.build("small", input_shape=(1, 28, 28), classes=10, steps=2))
    kept = {"fc1.weight": torch.zeros(state["fc1.weight"].shape, dtype=torch.bool)}
    kept["fc1.weight"][:, :8] = True
    pruned = {n: t * kept[n] if n in kept else t for n, t in state.items()}
    (tmp_path / "pruned").write_bytes(networks.write_tensors(pruned, kept))
    (tmp_path / "dense").write_bytes(networks.write_tensors(state))
    asked = ["describe", "small", "--steps", "2", "--masks"]
    totals = json.loads(invoke(*asked, str(tmp_path / "pruned"), "--json").stdout)["totals"]
    assert totals["weights"] - totals["left"] == int((~kept["fc1.weight"]).sum())
    assert "weights left" in invoke(*asked, str(tmp_path / "pruned")).stdout
    for name, why in (("dense", "holds no masks"), ("none", "cannot be read as a model file")):
        error = invoke(*asked, str(tmp_path / name)).exception
        assert isinstance(error, SpikefedError) and why in str(error)


def test_describe() -> None:
    totals = json.loads(invoke("describe", "vgg9-bntt", "--input", "3x32x32", "--steps", "8", "--json").stdout)[
        "totals"
    ]
    assert (totals["weights"], totals["state_bytes"]) == (5_938_880, 23_964_928)
    assert "194,717,696" in invoke("describe", "vgg9-bntt", "--input", "3x32x32").stdout
    assert "conv2: weights " in invoke("describe", "small", "--steps", "2", "--paths").stdout


def test_describe_tells_paths_of_the_precision_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(networks, "explain", lambda net: [f"computes in {net.precision}"])
    assert "computes in float32" in invoke("describe", "small", "--paths").stdout
    assert "computes in bfloat16" in invoke("describe", "small", "--paths", "--precision", "bfloat16").stdout
    for wrong, why in ((["--precision", "bfloat16"], "add --paths"), (["--paths", "--precision", "half"], "or auto")):
        assert why in str(invoke("describe", "small", *wrong).exception)


def test_data_check_says_what_is_missing(tmp_path: Path) -> None:
    rows = {
        row["name"]: row for row in json.loads(invoke("data", "check", "--data-dir", str(tmp_path), "--json").stdout)
    }
    assert rows["digits"]["status"] == "ok" and rows["mnist"]["status"] == "missing" and rows["mnist"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [("describe", "small", "--input", "28"), ("describe", "smal"), ("run", "none.toml"), ("report", "none")],
)
def test_bad_input_is_a_spikefed_error(arguments: tuple[str, ...]) -> None:
    outcome = invoke(*arguments)
    assert isinstance(outcome.exception, SpikefedError) and "\n" not in str(outcome.exception)


def test_process_exit_codes_and_streams(file: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "spikefed", *arguments], capture_output=True, text=True, cwd=tmp_path
        )

    bad = run("run", str(file), "--set", "data.clinets=3")
    assert bad.returncode == 2 and bad.stdout == ""
    assert bad.stderr.strip() == "error: unknown key 'data.clinets'; the nearest known key is 'data.clients'"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.toml"]
    good = run("run", str(file))
    assert good.returncode == 0 and (tmp_path / "runs" / "tiny-seed0" / "result.json").is_file()
    lines = good.stderr.splitlines()
    assert [line.split("accuracy")[0].strip() for line in lines[-2:]] == ["round 1/2", "round 2/2"]
    assert good.stdout.startswith("tiny (fsd), seed 0: server accuracy")
    assert run("run", str(file)).returncode == 2  # the folder holds a run
    assert run("run", str(file), "--resume", "-q").returncode == 0


def test_help_names_every_command() -> None:
    text = invoke("--help").stdout
    for command in ("run", "compare", "report", "list", "describe", "data"):
        assert command in text


def test_an_interrupted_command_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from spikefed.cli import main as run

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("spikefed.deploy.status.status_of", interrupt)
    monkeypatch.setattr("sys.argv", ["spikefed", "status", "anything"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130 and "--resume" in capsys.readouterr().err


NOISY = """
import logging, warnings
print("hello from a library")
warnings.warn("a library warns")
logging.warning("a library logs")
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, steps):
        super().__init__()
        self.head, self.steps = nn.Linear(64, classes), steps

    def forward(self, x):
        warnings.warn("and again")
        return self.head(x.flatten(1)).expand(self.steps, -1, -1)
"""


@pytest.mark.parametrize("loud", [False, True], ids=["quiet", "asked for"])
def test_libraries_are_quiet_on_our_console(loud: bool, tmp_path: Path) -> None:
    (tmp_path / "noisynet.py").write_text(NOISY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    environment.pop("PYTHONWARNINGS", None)
    if loud:
        environment["PYTHONWARNINGS"] = "default"
    words = ["describe", "noisynet:Net", "--input", "1x8x8", "--classes", "3", "--steps", "4", "--json"]
    command = [sys.executable, "-m", "spikefed", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totals"]["weights"] == 64 * 3 + 3  # what was printed is not in the way
    assert ("a library warns" in done.stderr) == loud and "a library logs" not in done.stderr


def test_data_check_of_one_set() -> None:
    told = invoke("data", "check", "digits", "--json")
    assert [(row["name"], row["status"]) for row in json.loads(told.stdout)] == [("digits", "ok")]
