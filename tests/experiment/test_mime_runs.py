"""Runs of an ANN twin with masked activations: what travels, what freezes, what the regulariser and the probe say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from experiment.test_adapter_runs import DATA
from experiment.test_ticket_runs import Interrupted, Stops
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, probe_run
from spikefed.networks import read_tensors, zero_shares

NETWORK = {"name": "4C3-AP2-8FC", "norm": "bn", "twin": "ann"}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("parent") / "run"
    told = {"name": "parent", "rounds": 1, "data": DATA, "network": NETWORK, "method": {"name": "fedavg"}}
    return str(spikefed.run({**told, "training": {"local_epochs": 2, "lr": 0.01}, "run": {"threads": 1}}, out=out))


def tables(parent: str, **own: Any) -> dict[str, Any]:
    adapters = {"kinds": ["mime", "head"], "per": "neuron"}
    return {
        "name": "tiny",
        "rounds": 4,
        "data": DATA,
        "network": {**NETWORK, "start": parent, "adapters": adapters},
        "training": {"local_epochs": 2, "local_batch": 16, "lr": 0.02},
        "run": {"threads": 1},
        "method": {"name": "adapters", **own},
        "stages": {"rotations": [0, 90], "rounds": 2, "order": "latin"},
    }


def test_weights_stay_masks_travel_and_the_regulariser_makes_zeros(parent: str, tmp_path: Path) -> None:
    zeros = []
    for beta in (0.0, 0.1):
        folder = RunFolder(spikefed.run(tables(parent, sparsity=beta), out=tmp_path / f"run{beta}"))
        begun, ended = (read_tensors(RunFolder(path).model).tensors for path in (Path(parent), folder.path))
        assert all(torch.equal(ended[name], tensor) for name, tensor in begun.items())
        assert any(name.endswith("mask_threshold") and bool(t.any()) for name, t in ended.items())
        model = spikefed.load_model(folder.path)
        x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        zeros.append(float(zero_shares(model.network, x).mean()))
    assert zeros[1] > zeros[0]
    rows = probe_run(folder.path, "many-tasks", {"images": 20})["measurements"][-1]["records"]
    activity = [row for row in rows if row["part"] == "activity"]
    assert len(activity) == 1 and activity[0]["zero_share"] > activity[0]["parent_zero_share"]
    stored = [row for row in rows if row["part"] == "storage"]
    assert [row["numbers"] for row in stored] == [4 * 64 + 8 + 10 * 8 + 10]
    energy = [row for row in rows if row["part"] == "energy"]
    assert all(row["shared_operations"] < row["operations"] for row in energy)


@pytest.mark.slow
def test_killed_and_resumed_it_is_identical(parent: str, tmp_path: Path) -> None:
    told = tables(parent, sparsity=0.01)
    whole = fingerprint(spikefed.run(told, out=tmp_path / "whole"))
    out = tmp_path / "parts"
    for rounds in (1, 2):
        with pytest.raises(Interrupted):
            spikefed.run(told, out=out, resume=out.exists(), progress=Stops(rounds))
    assert fingerprint(spikefed.run(told, out=out, resume=True)) == whole


def test_settings_that_do_not_fit_are_one_sentence(parent: str, tmp_path: Path) -> None:
    told = tables(parent, sparsity=0.1)
    told["network"]["adapters"] = {"kinds": ["head"]}
    with pytest.raises(ConfigError, match=r"method\.sparsity raises thresholds, and the tasks have none"):
        spikefed.run(told, out=tmp_path / "run")
    told["network"]["adapters"] = {"kinds": ["thresholds"]}
    with pytest.raises(ConfigError, match="an ANN twin has none; its kind is 'mime'"):
        spikefed.run(told, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
