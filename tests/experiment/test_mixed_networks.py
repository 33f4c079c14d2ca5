"""Clients of different networks, merged by their spikes on the public set: no weights are shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, build, from_tree
from spikefed.networks import describe, state_tensors

OWN = ["supernet:203-13:width=8", "8C3-AP2-24FC", "supernet:030-30:width=6"]


def config(method: str = "fsd", **changes: Any) -> dict[str, Any]:
    return {
        "name": "mixed",
        "rounds": 3,
        "data": {"clients": 4, "private_per_client": 100, "public": 100, "test_limit": 100},
        "network": {"name": "4C3-AP2-16FC", "steps": 4, "clients": OWN},
        "training": {"local_epochs": 4, "local_batch": 10, "lr": 5e-3},
        "method": {"name": method, "client_reset": "never"},
        "run": {"threads": 1, "take_home": True},
        **changes,
    }


def test_each_client_has_its_own_network_and_the_server_another() -> None:
    federation = build(from_tree(config()))
    names = [federation.of_client(c).networks.network.name for c in range(4)]
    assert names == [*OWN, OWN[0]]
    assert federation.client_context(3, 1).networks is federation.client_context(0, 1).networks
    assert federation.context(1).networks.network.name == "4C3-AP2-16FC"
    sizes = {describe(federation.of_client(c).networks.network).parameters for c in range(3)}
    assert len(sizes) == 3


def test_their_vote_is_worth_at_least_their_mean_and_no_weights_travel(tmp_path: Path) -> None:
    run = spikefed.run(config(), out=tmp_path / "run")
    lines = RunFolder(run).read_lines(RunFolder(run).metrics)
    for line in lines:
        assert line["vote_accuracy"] >= line["clients_accuracy_mean"]
    assert lines[-1]["vote_accuracy"] > 0.6
    spikes = 100 * 10 * 4 / 8  # bytes of a client's output trains, uncoded
    assert lines[-1]["upstream_bytes"] < 4 * spikes


@pytest.mark.parametrize("method", ["fsd", "fsd+"])
def test_stopped_resumed_and_over_processes_it_ends_where_it_would_have(method: str, tmp_path: Path) -> None:
    small = {"training": {"local_epochs": 1, "local_batch": 25}, "run": {"threads": 1, "keep_clients": True}}
    whole = spikefed.run(config(method, **small), out=tmp_path / "whole")
    for rounds in (1, 3):
        run = {"threads": 1, "keep_clients": True, "workers": rounds}
        spikefed.run(config(method, **{**small, "run": run, "rounds": rounds}), out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == fingerprint(whole)
    for client, name in enumerate([*OWN, OWN[0]]):
        file, saved = (spikefed.load_model(each, client=client) for each in (whole, tmp_path / "parts"))
        assert file.network.name == name == file.facts.network["name"]
        assert all(torch.equal(t, state_tensors(saved.network)[n]) for n, t in state_tensors(file.network).items())


def test_a_client_s_network_comes_back_from_a_checkpoint(tmp_path: Path) -> None:
    run = spikefed.run(config(rounds=1), out=tmp_path / "run")
    model = spikefed.load_model(run, client=2)
    assert model.network.name == OWN[2] and spikefed.load_model(run).network.name == "4C3-AP2-16FC"


def test_the_key_leaves_older_experiments_their_hash_and_model_files_their_bytes(tmp_path: Path) -> None:
    tables = config()
    del tables["network"]["clients"]
    plain = from_tree(tables)
    tables["network"]["clients"] = []
    assert from_tree(tables).hash() == plain.hash() != from_tree(config()).hash()


def test_what_a_newcomer_would_type_wrong() -> None:
    for tables, why in (
        (config() | {"method": {"name": "fedavg"}}, "exchanges weights, which fit one network only"),
        (config() | {"method": {"name": "hdsfl"}}, "exchanges spikes of a hidden layer"),
        (config() | {"method": {"name": "local"}}, "has no network at the server"),
        (config(network={"name": "small", "clients": ["nonesuch"]}), "network.name 'nonesuch' is not known"),
        (config(network={"name": "small", "clients": ["mine:Net"]}), "networks that spikefed builds by name"),
        (config(network={"name": "small", "clients": ["small"], "start": "runs/x"}), "'network.start' does not fit"),
    ):
        with pytest.raises(ConfigError, match=why):
            build(from_tree(tables))
