"""``spikefed energy``: of a file, of a run, as JSON, and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spikefed.cli import app
from spikefed.cli import energy as _energy  # noqa: F401 - registers its command
from spikefed.errors import CheckpointError
from spikefed.experiment import run, toml

TINY: dict[str, Any] = {
    "name": "tiny",
    "rounds": 2,
    "data": {"clients": 2, "private_per_client": 40, "public": 24, "test_limit": 60},
    "network": {"name": "4C3-AP2-8C3-AP2", "steps": 4},
    "training": {"local_epochs": 3},
    "method": {"name": "fsd", "distil_epochs": 2, "server_epochs": 1},
    "run": {"threads": 1},
}


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["energy", *arguments], catch_exceptions=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(toml.dump(TINY))
    return path


def test_a_file_is_counted_with_fresh_weights(file: Path) -> None:
    found = json.loads(invoke(str(file), "--images", "8", "--json").stdout)
    assert not found["trained"] and found["totals"]["images"] == 8
    assert [layer["counts"]["macs"] for layer in found["layers"]] == [64 * 4 * 9, 16 * 8 * 4 * 9, 32 * 10]
    round = found["client_round"]
    # 10 % of the private rows validate.
    assert (round["local_samples"], round["public_samples"]) == (36 * 3, 24 * 2)
    assert round["training_pj"] == pytest.approx((108 + 48) * found["totals"]["training_per_sample"]["snn_pj"])
    assert round["upstream_bytes"] is round["radio_pj"] is None
    text = invoke(str(file), "--images", "8").stdout
    assert "fresh weights" in text and "conv2" in text


def test_public_rows_that_are_rehearsed_or_drawn_are_counted_as_trained(file: Path) -> None:
    def public(*settings: str) -> float:
        told = [part for setting in settings for part in ("--set", setting)]
        done = invoke(str(file), "--images", "2", "--json", *told)
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout)["client_round"]["public_samples"]

    # 36 private rows in batches of 10 are 4 steps, for 3 epochs, each beside a batch of 6 public rows.
    batches = ("training.local_batch=10", "method.distil_batch=6")
    assert public("method.name=fsd+", "method.distil_epochs=0", *batches) == 4 * 3 * 6
    assert public("method.name=fsd+", "method.rehearse=0", "method.distil_epochs=2", *batches) == 24 * 2
    assert public("method.name=ds-fl", "method.distil_epochs=2", "method.public_per_round=10") == 10 * 2


@pytest.mark.parametrize(
    ("batch", "drop_last", "steps", "samples"),
    [
        (10, "false", 4, 36),
        (10, "true", 3, 30),
        (64, "true", 1, 36),  # a client with less than a batch trains on what it has
        (35, "false", 1, 36),  # one sample is no batch: it joins the one before
    ],
)
def test_batches_are_counted_as_training_cuts_them(
    file: Path, batch: int, drop_last: str, steps: int, samples: int
) -> None:
    settings = (
        "method.name=fsd+",
        "method.distil_epochs=0",
        "method.distil_batch=6",
        f"training.local_batch={batch}",
        f"training.drop_last={drop_last}",
    )
    done = invoke(str(file), "--images", "2", "--json", *[p for s in settings for p in ("--set", s)])
    assert done.exit_code == 0, done.exception
    round = json.loads(done.stdout)["client_round"]
    assert (round["local_samples"], round["public_samples"]) == (samples * 3, steps * 3 * 6)


def test_a_price_of_the_radio_needs_a_run(file: Path) -> None:
    assert "the run's folder" in invoke(str(file), "--images", "2", "--radio-nj-per-byte", "5").stdout


def test_a_run_brings_its_weights_and_its_bytes(file: Path, tmp_path: Path) -> None:
    folder = run(file, out=tmp_path / "run")
    found = json.loads(invoke(str(folder), "--radio-nj-per-byte", "50", "--json").stdout)
    result = json.loads((folder / "result.json").read_text())
    assert found["trained"] and found["accuracy"] == result["accuracy"]
    round = found["client_round"]
    assert round["upstream_bytes"] * 2 * 2 == pytest.approx(result["upstream_bytes"])
    assert round["downstream_bytes"] * 2 * 2 == pytest.approx(result["downstream_bytes"])
    assert round["radio_pj"] == pytest.approx((round["upstream_bytes"] + round["downstream_bytes"]) * 50_000)
    again = json.loads(invoke(str(folder), "--json", "--first-layer", "every-step").stdout)
    assert again["totals"]["mac"] == 4 * found["totals"]["mac"]
    assert again["totals"]["spike_rate"] == found["totals"]["spike_rate"]
    assert again["client_round"]["radio_pj"] is None


def test_the_ann_twin_has_no_spike_lines(file: Path) -> None:
    settings = ["--set", "method.name=fedavg", "--set", "network.twin=ann", "--images", "4"]
    found = json.loads(invoke(str(file), *settings, "--json").stdout)
    assert found["totals"]["break_even"] == [] and found["totals"]["synops"] == 0
    assert "against an ANN" not in invoke(str(file), *settings).stdout


def test_an_unfinished_run_is_named(file: Path, tmp_path: Path) -> None:
    folder = run(file, out=tmp_path / "run")
    (folder / "model.safetensors").unlink()
    error = invoke(str(folder)).exception
    assert isinstance(error, CheckpointError) and "--resume" in str(error)
