"""Runs converted: the file that is kept loads, predicts and is probed; bad settings are one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import spikefed
from experiment.conftest import TINY
from spikefed.cli.main import whole
from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment import probe_run
from spikefed.experiment.conversion import ConversionPlan, convert_run

ANN: dict[str, Any] = {
    **TINY,
    "name": "ann",
    "rounds": 2,
    "network": {"name": "6C3-AP2-16FC", "twin": "ann"},
    "training": {"local_epochs": 2, "local_batch": 16},
    "method": {"name": "fedavg"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spikefed.run(ANN, out=tmp_path_factory.mktemp("twin") / "ann")


@pytest.mark.parametrize("calibrate", ["train", "public"])
def test_the_file_predicts_what_was_measured(run: Path, calibrate: Any) -> None:
    done = convert_run(run, ConversionPlan(steps=16, calibrate=calibrate, images=30))
    model = spikefed.load_model(done["path"])
    assert model.steps == 16 and done["images"] == (30 if calibrate == "train" else 24)
    told = model.facts.extra["converted"]
    assert told["recipe"] == "local" and set(told["thresholds"]) == {"conv1", "fc1"}
    x = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    assert model.predict(x.numpy()).scores.shape == (5, 10)
    assert abs(done["snn_accuracy"] - done["ann_accuracy"]) < 0.1


def test_converted_twice_is_converted_once(run: Path) -> None:
    plan = ConversionPlan(steps=4, images=30)
    first = Path(convert_run(run, plan)["path"]).read_bytes()
    assert Path(convert_run(run, plan)["path"]).read_bytes() == first


def test_another_round_has_a_file_of_its_own(run: Path) -> None:
    last = Path(convert_run(run, ConversionPlan(steps=4, images=30))["path"])
    first = Path(convert_run(f"{run}@1", ConversionPlan(steps=4, images=30))["path"])
    assert first.name == "local-train-T4-round1.safetensors" and first.read_bytes() != last.read_bytes()


def test_probes_and_exports_take_it(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "converted.safetensors"
    plan = ConversionPlan(steps=4, images=30)
    done = convert_run(run, plan, out=path)
    found = probe_run(path, "accuracy", {"data": {"dataset": "digits", "test_limit": 60}})
    assert found["measurements"][0]["headline"]["accuracy"] == pytest.approx(done["snn_accuracy"])
    assert probe_run(path, "rates", {"data": {"dataset": "digits", "test_limit": 60}})["measurements"]
    from spikefed.models import export

    made = export(spikefed.load_model(path), "torch", tmp_path / "net.py")
    assert made.path.is_file()


def test_no_data_without_the_run(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "model.safetensors"
    alone.write_bytes((run / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="without its run folder"):
        convert_run(alone, ConversionPlan())


def test_a_run_that_spikes(tmp_path: Path) -> None:
    run = spikefed.run({**TINY, "rounds": 1}, out=tmp_path / "snn")
    with pytest.raises(ConfigError, match=r"spikes already.*network.twin = 'ann'"):
        convert_run(run, ConversionPlan())


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (ConversionPlan(steps=0), "1 to 64 time steps but 0"),
        (ConversionPlan(recipe="best"), "use one of max, percentile, channel, local"),  # type: ignore[arg-type]
        (ConversionPlan(calibrate="test"), "use one of train, public, synthetic"),  # type: ignore[arg-type]
        (ConversionPlan(images=0), "0 calibration images"),
    ],
)
def test_settings_that_are_none(run: Path, plan: ConversionPlan, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        convert_run(run, plan)


def test_the_command(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "net.safetensors"
    arguments = ["convert", str(run), "--steps", "4", "--out", str(out)]
    done = CliRunner().invoke(whole(), [*arguments, "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["path"] == str(out) and out.is_file()
    shown = CliRunner().invoke(whole(), [*arguments, "--recipe", "max"])
    assert "points to the ANN's" in shown.stdout and "fc2" in shown.stdout
    assert isinstance(CliRunner().invoke(whole(), [*arguments, "--steps", "0"]).exception, ConfigError)
