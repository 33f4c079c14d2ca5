"""Own data and networks through a whole run: from a file, from Python, resumed, and what is said when they are gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import spikefed
from experiment.runs import Told
from spikefed.errors import CheckpointError, ConfigError, DataError
from spikefed.experiment import RunFolder, toml
from spikefed.experiment import config as configs

CODE = '''
import numpy as np
import torch
from torch import nn

from spikefed.neurons import LIF


def shapes():
    """Bright squares at one of three places."""
    images = np.random.default_rng(0).integers(0, 60, (240, 8, 8), dtype=np.uint8)
    labels = np.arange(240) % 3
    for image, label in zip(images, labels):
        image[2 * label : 2 * label + 3, 2:5] = 250
    return images, labels


class Net(nn.Module):
    def __init__(self, classes, steps):
        super().__init__()
        self.hidden, self.first = nn.Linear(64, 24), LIF(decay=0.5, v_threshold=0.2)
        self.out, self.last = nn.Linear(24, classes), LIF(decay=0.5, v_threshold=0.2)
        self.steps = steps

    def forward(self, x):
        current = self.hidden(x.flatten(1)).expand(self.steps, -1, -1)
        return self.last(self.out(self.first(current)))
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "ownthings.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(folder))
    import ownthings  # pyright: ignore[reportMissingImports]

    yield ownthings
    sys.modules.pop("ownthings")


@pytest.fixture
def own(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["data"] |= {"public": 30, "private_per_client": 80}
    tiny["training"] |= {"local_epochs": 6, "lr": 0.02}
    tiny["method"] |= {"distil_epochs": 4, "server_epochs": 6}
    del tiny["data"]["test_limit"]
    tiny["network"] = {"steps": 4}
    return tiny


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} | {"clients": len(line["clients"])} for line in lines]


def command(*words: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    found = os.pathsep.join(filter(None, [str(path) if path else "", os.environ.get("PYTHONPATH", "")]))
    env = os.environ | {"PYTHONPATH": found}
    code = (
        "import sys; sys.path.pop(0); from spikefed.cli import main; main()"  # as the console script: no current folder
    )
    return subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, env=env, capture_output=True, text=True)


def test_a_file_that_names_both_runs_and_learns(module: Any, own: dict[str, Any], tmp_path: Path) -> None:
    own["data"]["dataset"], own["network"]["name"] = "ownthings:shapes", "ownthings:Net"
    (tmp_path / "own.toml").write_text(toml.dump(own))
    bare = command("run", "own.toml", "--out", "run", cwd=tmp_path)
    assert bare.returncode == 2 and not (tmp_path / "run").exists()
    assert bare.stderr.startswith(
        "error: data.dataset 'ownthings:shapes' names module 'ownthings', which Python does not"
    )
    done = command("run", "own.toml", "--out", "run", "-q", cwd=tmp_path, path=tmp_path / "code")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["accuracy"] > 0.6 and (result["dataset"], result["network"]) == ("ownthings:shapes", "ownthings:Net")
    shown = command("data", "show", "ownthings:shapes", cwd=tmp_path, path=tmp_path / "code")
    assert "192" in shown.stdout and "1x8x8" in shown.stdout and "0 to 250" in shown.stdout
    words = ("describe", "ownthings:Net", "--input", "1x8x8", "--classes", "3", "--steps", "4", "--json")
    table = command(*words, cwd=tmp_path, path=tmp_path / "code")
    assert json.loads(table.stdout)["totals"]["weights"] == 64 * 24 + 24 + 24 * 3 + 3, table.stderr


def test_python_objects_with_a_name_give_the_run_of_the_file(module: Any, own: dict[str, Any], tmp_path: Path) -> None:
    direct = spikefed.run(own, dataset=module.shapes, network=module.Net, out=tmp_path / "direct")
    own["data"]["dataset"], own["network"]["name"] = "ownthings:shapes", "ownthings:Net"
    named = spikefed.run(own, out=tmp_path / "named")
    assert metrics(direct) == metrics(named)
    assert (direct / "config.toml").read_text() == (named / "config.toml").read_text()


def test_live_objects_resume_to_the_same_numbers_in_python_only(
    module: Any, own: dict[str, Any], tmp_path: Path
) -> None:
    images, labels = module.shapes()
    pair = (torch.from_numpy(images), labels)
    torch.manual_seed(1)
    net = module.Net(classes=3, steps=4)
    whole = spikefed.run(own, dataset=pair, network=net, out=tmp_path / "whole")
    part = spikefed.run(own | {"rounds": 2}, dataset=pair, network=net, out=tmp_path / "part")
    shutil.copytree(part, tmp_path / "copy")
    with pytest.raises(DataError, match="'python:tuple' was an object of the Python program that started the run"):
        spikefed.run(RunFolder(part).config, out=part, resume=True)
    spikefed.run(own, dataset=pair, network=net, out=part, resume=True)
    assert metrics(part) == metrics(whole) and len(metrics(part)) == 3
    other = (255 - images, labels)
    with pytest.raises(CheckpointError, match="images or labels of 'python:tuple' are not those that the run in"):
        spikefed.run(own, dataset=other, network=net, out=tmp_path / "copy", resume=True)


def test_npz_runs_from_the_data_folder(module: Any, own: dict[str, Any], tmp_path: Path) -> None:
    images, labels = module.shapes()
    np.savez(tmp_path / "shapes.npz", images=images, labels=labels)
    own["network"]["name"] = "4C3-AP2"
    own["rounds"] = 1
    (tmp_path / "own.toml").write_text(toml.dump(own))
    words = ("--set", "data.dataset=npz:shapes", "--data-dir", str(tmp_path), "--out", "run", "-q")
    done = command("run", "own.toml", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data_sha256" in json.loads((tmp_path / "run" / "provenance.json").read_text())


@pytest.mark.parametrize(("key", "value"), [("twin", "ann"), ("norm", "bn"), ("precision", "bfloat16")])
def test_settings_without_effect_are_refused(module: Any, own: dict[str, Any], key: str, value: str) -> None:
    own["network"] |= {"name": "ownthings:Net", key: value}
    own["method"] = {"name": "fedavg"}
    with pytest.raises(ConfigError, match=f"'network.{key}' has no effect on your own network 'ownthings:Net'"):
        spikefed.run(own)


def test_one_module_cannot_start_clients_differently(module: Any, own: dict[str, Any]) -> None:
    own["method"]["client_reset"] = "own"
    with pytest.raises(ConfigError, match="client_reset = 'own' asks for other initial weights"):
        spikefed.run(own, dataset=module.shapes, network=module.Net(3, 4))


def test_names_of_classes_reach_result_model_and_report(module: Any, own: dict[str, Any], tmp_path: Path) -> None:
    images, labels = module.shapes()
    names = np.array(["low", "mid", "top"])[labels]
    told = Told()
    own["rounds"], own["network"]["name"] = 1, "4C3-AP2"
    folder = spikefed.run(own, dataset=(images, names), out=tmp_path / "run", progress=told)  # type: ignore[arg-type]
    assert told.said[0] == "python:tuple: classes 0 to 2 are low, mid and top."
    assert json.loads((folder / "result.json").read_text())["class_names"] == ["low", "mid", "top"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["spikefed"])["class_names"] == ["low", "mid", "top"]
    page = spikefed.write_report([folder], tmp_path / "report.html").read_text()
    assert '"classNames":["low","mid","top"]' in page


def test_a_file_with_a_byte_order_mark_is_read(own: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_text(toml.dump(own), encoding="utf-8-sig")
    (tmp_path / "plain.toml").write_text(toml.dump(own), encoding="utf-8")
    assert configs.load(tmp_path / "bom.toml") == configs.load(tmp_path / "plain.toml")


def test_series_are_asked_for_or_run_as_said(own: dict[str, Any], tmp_path: Path) -> None:
    waves, labels = np.random.default_rng(0).random((60, 50, 3)), np.arange(60) % 3
    with pytest.raises(DataError, match="say which with data.kind = 'series' or 'images'"):
        spikefed.run(own, dataset=(waves, labels), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_buffer_of_half_precision_is_averaged_and_comes_back(
    module: Any, own: dict[str, Any], tmp_path: Path
) -> None:
    class Scaled(module.Net):
        def __init__(self, classes: int, steps: int) -> None:
            super().__init__(classes, steps)
            self.register_buffer("gain", torch.tensor([1.5, 0.75], dtype=torch.bfloat16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * self.gain[0].float())

    own |= {"rounds": 1, "method": {"name": "fedavg"}}
    folder = spikefed.run(own, dataset=module.shapes, network=Scaled, out=tmp_path / "run")
    with safe_open(folder / "model.safetensors", "pt") as file:
        (name,) = [key for key in file.keys() if key.endswith("gain")]  # noqa: SIM118
        gain = file.get_tensor(name)
    assert gain.dtype == torch.bfloat16 and gain.tolist() == [1.5, 0.75]
