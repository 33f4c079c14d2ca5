"""Runs whose thresholds learn: resumed as uninterrupted, sent alone, begun from a network with fixed ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.networks import read_tensors


def tables(**changes: Any) -> dict[str, Any]:
    base = {
        "name": "thresholds",
        "rounds": 2,
        "data": {"clients": 2, "private_per_client": 32, "public": 20, "test_limit": 30},
        "network": {"name": "4C3-AP2-12FC", "steps": 4, "norm": "bn", "thresholds": "channel"},
        "training": {"local_epochs": 1, "local_batch": 16},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    return copy.deepcopy(base) | changes


def learnt(path: Path) -> torch.Tensor:
    tensors = read_tensors(RunFolder(path).model).tensors
    return torch.cat([t.flatten() for name, t in tensors.items() if name.endswith("log_threshold")])


def test_a_file_without_the_key_is_the_experiment_it_was() -> None:
    with_default = configs.from_tree(tables(network={"name": "small", "thresholds": None}))
    assert with_default.hash() == configs.from_tree(tables(network={"name": "small"})).hash()
    assert with_default.hash() != configs.from_tree(tables(network={"name": "small", "thresholds": "layer"})).hash()


def test_thresholds_learn_and_a_run_resumes_as_if_never_stopped(tmp_path: Path) -> None:
    whole = spikefed.run(tables(), out=tmp_path / "whole")
    assert learnt(whole).numel() == 4 + 12 + 10 and learnt(whole).abs().max() > 0
    spikefed.run(tables(rounds=1), out=tmp_path / "half")
    halves = spikefed.run(tables(), out=tmp_path / "half", resume=True)
    assert fingerprint(halves) == fingerprint(whole)
    assert spikefed.load_model(whole).predict(torch.rand(3, 1, 8, 8)).labels.shape == (3,)


def test_a_message_of_thresholds_alone_has_their_bytes(tmp_path: Path) -> None:
    path = spikefed.run(tables(method={"name": "fedavg", "send": ["neuron"]}), out=tmp_path / "sent")
    lines = RunFolder(path).read_lines(RunFolder(path).ledger)
    assert all(line["payload_bits"] == 32 * 26 for line in lines if line["kind"] == "weights")


def test_a_trained_network_with_fixed_thresholds_lends_its_tensors(tmp_path: Path) -> None:
    network = tables()["network"]
    fixed = {key: value for key, value in network.items() if key != "thresholds"}
    before = spikefed.run(tables(network=fixed), out=tmp_path / "before")
    after = tables(network=network | {"start": str(before)}, training={"local_epochs": 0, "local_batch": 16})
    path = spikefed.run(after, out=tmp_path / "after")
    theirs, ours = (dict(read_tensors(RunFolder(run).model).tensors) for run in (before, path))
    assert not learnt(path).any() and all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ({"twin": "ann"}, "twin = 'ann' has none"),
        ({"name": "nir:net.nir"}, "thresholds stand in its file"),
        ({"name": "own:net"}, "no effect on your own network"),
        ({"thresholds": "neuron"}, "network.thresholds"),
    ],
)
def test_thresholds_where_none_can_learn_are_one_sentence(network: dict[str, str], sentence: str, tmp_path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        spikefed.run(tables(network=tables()["network"] | network), out=tmp_path / "refused")
