"""Runs with adapters: what travels, what stays, what each server optimiser does, stopped and resumed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import spikefed
from experiment.runs import fingerprint
from experiment.test_ticket_runs import Interrupted, Stops
from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.federated import method
from spikefed.federated.methods.adapters import SERVERS
from spikefed.networks import read_tensors
from spikefed.networks.roles import FROZEN, task

NETWORK = {"name": "4C3-AP2-8FC", "steps": 4, "norm": "bn"}
DATA = {"clients": 2, "private_per_client": 80, "public": 20, "test_limit": 60}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("parent") / "run"
    told = {"name": "parent", "rounds": 1, "data": DATA, "network": NETWORK, "method": {"name": "fedavg"}}
    return str(spikefed.run({**told, "training": {"local_epochs": 2, "lr": 0.01}, "run": {"threads": 1}}, out=out))


def tables(parent: str, kinds: list[str], own: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    common: dict[str, Any] = {
        "name": "tiny",
        "rounds": 4,
        "data": DATA,
        "network": {**NETWORK, "start": parent, "adapters": {"kinds": kinds}},
        "training": {"local_epochs": 1, "local_batch": 16, "lr": 0.01},
        "run": {"threads": 1},
        "method": {"name": "adapters", **(own or {})},
        "stages": {"rotations": [0, 90], "rounds": 2, "order": [[0, 1], [1, 0]], "heads": "one"},
    }
    return {**common, **changes}


@pytest.mark.slow
def test_killed_in_any_stage_and_resumed_it_is_identical_also_over_processes(parent: str, tmp_path: Path) -> None:
    told = tables(parent, ["thresholds", "bn", "head"], {"server": "adam", "personal": ["bn"]})
    whole = fingerprint(spikefed.run(told, out=tmp_path / "whole"))
    for workers in (1, 2):
        own = {**told, "run": {"threads": 1, "workers": workers}}
        out = tmp_path / f"parts{workers}"
        for rounds in (1, 2):
            with pytest.raises(Interrupted):
                spikefed.run(own, out=out, resume=out.exists(), progress=Stops(rounds))
        assert fingerprint(spikefed.run(own, out=out, resume=True)) == whole


def test_only_parts_travel_and_the_rest_stays_the_parents_to_the_bit(parent: str, tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(tables(parent, ["thresholds", "head"]), out=tmp_path / "run"))
    begun, ended = (read_tensors(RunFolder(path).model).tensors for path in (Path(parent), folder.path))
    assert all(torch.equal(ended[name], tensor) for name, tensor in begun.items())
    parts = {name: tensor for name, tensor in ended.items() if name not in begun}
    assert parts and all(".parts." in name for name in parts)
    one = sum(t.numel() * t.element_size() for t in parts.values()) // 2
    lines = folder.read_lines(folder.metrics)
    sent = lines[0]["upstream_bytes"] / 2
    assert one < sent < one + 400  # a task's parts and a header
    assert lines[-1]["diagnostics"]["drift_ratio"] > 0
    again = spikefed.load_model(folder.path)
    assert networks.tasks_of(again.network) == 2


@pytest.mark.parametrize("server", SERVERS)
def test_absent_tasks_and_their_moments_stay_and_statistics_are_plain_means(parent: str, server: str) -> None:
    """Round 1: client 0 learns task 0, client 1 task 1. Later only client 0 is there."""
    federation = build(configs.from_tree(tables(parent, ["thresholds", "bn", "head"], {"server": server})))
    steps = method("adapters")
    state, _ = steps.init_server(federation.context(0))
    for round, clients in ((1, [0, 1]), (2, [0])):
        uplinks: dict[int, Any] = {
            c: steps.client_round({}, None, federation.client_context(c, round))[1] for c in clients
        }
        before = state
        state, _, _ = steps.server_round(state, uplinks, federation.context(round))
    roles = federation.networks.roles
    absent = [name for name in state["weights"] if roles[name] == task(1)]
    for key, tree in state.items():
        for name in absent:
            if name in before[key]:
                assert torch.equal(tree[name], before[key][name])
    if server not in ("mean",):
        assert any(roles[name] == task(1) for name in state["m"]) and not set(state["m"]) & federation.networks.buffers
    statistics = [n for n in federation.networks.buffers if roles[n] == task(0) and n in uplinks[0].tensors]
    assert statistics
    for name in statistics:
        assert torch.equal(state["weights"][name], torch.from_numpy(uplinks[0].tensors[name].copy()))


@pytest.mark.parametrize("server", SERVERS)
def test_statistics_of_a_shared_task_are_the_weighted_mean_under_every_optimiser(parent: str, server: str) -> None:
    told = tables(parent, ["bn", "head"], {"server": server}, stages={"rotations": [0, 90], "rounds": 2})
    means: list[dict[str, Tensor]] = []
    for own in ("mean", server):
        federation = build(configs.from_tree({**told, "method": {"name": "adapters", "server": own}}))
        steps = method("adapters")
        state, _ = steps.init_server(federation.context(0))
        uplinks = {c: steps.client_round({}, None, federation.client_context(c, 1))[1] for c in (0, 1)}
        after, _, _ = steps.server_round(state, uplinks, federation.context(1))
        means.append({name: after["weights"][name] for name in federation.networks.buffers})
        moved = {n for n, t in after["weights"].items() if not torch.equal(t, state["weights"][n])}
        assert moved and all(federation.networks.roles[name] == task(0) for name in moved)
    assert all(torch.equal(means[0][name], means[1][name]) for name in means[0])


def test_personal_parts_never_leave_their_client(parent: str, tmp_path: Path) -> None:
    federation = build(configs.from_tree(tables(parent, ["thresholds", "bn", "head"], {"personal": ["bn"]})))
    state, uplink, _ = method("adapters").client_round({}, None, federation.client_context(0, 1))
    assert uplink is not None
    kinds = networks.kinds_of(federation.networks.network)
    assert {kinds[name] for name in uplink.tensors} == {"thresholds", "head"}
    assert "bn" in {kinds[name] for name in state["parts"]}
    net = method("adapters").client_network(state, federation.context(1))
    assert net is not None and all(
        torch.equal(networks.state_tensors(net)[name], tensor) for name, tensor in state["parts"].items()
    )


def test_a_pull_towards_the_global_parts_keeps_clients_nearer(parent: str) -> None:
    moved = []
    for mu in (0.0, 100.0):
        federation = build(configs.from_tree(tables(parent, ["thresholds"], {"mu": mu})))
        uplink: Any = method("adapters").client_round({}, None, federation.client_context(0, 1))[1]
        moved.append(sum(float(torch.from_numpy(a.copy()).square().sum()) for a in uplink.tensors.values()))
    assert 0 < moved[1] < moved[0]


def test_whoever_changes_a_frozen_tensor_is_told(parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikefed.federated.methods import adapters

    federation = build(configs.from_tree(tables(parent, ["head"])))

    def meddles(net: Any, ctx: Any, **options: Any) -> float:
        with torch.no_grad():
            next(p for n, p in net.named_parameters() if federation.networks.roles[n] == FROZEN).add_(1)
        return 0.0

    monkeypatch.setattr(adapters, "train_locally", meddles)
    with pytest.raises(ConfigError, match="frozen tensor .* has changed in training"):
        method("adapters").client_round({}, None, federation.client_context(0, 1))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no kind": ({"network": {**NETWORK, "start": "PARENT"}}, "the network has none; set network.adapters.kinds"),
    "fresh": ({"network": {**NETWORK, "adapters": {"kinds": ["head"]}}}, "set network.start to a trained run"),
    "another method": ({"method": {"name": "fedavg"}}, "set method.name = 'adapters'"),
    "all personal": ({"method": {"name": "adapters", "personal": ["thresholds"]}}, "shares none; leave one out"),
    "strange personal": ({"method": {"name": "adapters", "personal": ["bn"]}}, "kinds are thresholds; leave it out"),
    "robust": ({"method": {"name": "adapters", "merge": "median"}}, "set method.merge = 'mean'"),
    "tasks": (
        {"network": {**NETWORK, "start": "PARENT", "adapters": {"kinds": ["head"], "tasks": 3}}},
        r"adapters\.tasks is 3, and \[stages\] has 2 tasks",
    ),
    "outputs": (
        {"network": {**NETWORK, "start": "PARENT", "adapters": {"kinds": ["head"], "outputs": [[0]]}}},
        "outputs has 1 lists for 2 tasks",
    ),
    "strange output": (
        {"network": {**NETWORK, "start": "PARENT", "adapters": {"kinds": ["head"], "outputs": [[0], [12]]}}},
        "task 1 names output 12, and there are 0 to 9",
    ),
    "send": ({"method": {"name": "adapters", "send": ["weight"]}}, "what travels are the adapters"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_do_not_fit_are_one_sentence(what: str, parent: str, tmp_path: Path) -> None:
    changes, sentence = REFUSED[what]
    told = {**tables(parent, ["thresholds"]), **changes}
    if told["network"].get("start") == "PARENT":
        told["network"] = {**told["network"], "start": parent}
    with pytest.raises(ConfigError, match=sentence):
        spikefed.run(told, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_classes_need_a_head_that_learns(parent: str, tmp_path: Path) -> None:
    told = tables(parent, ["thresholds"], stages={"rotations": [0, 90], "rounds": 2, "heads": "task"})
    with pytest.raises(ConfigError, match=r"add 'head' to network\.adapters\.kinds"):
        spikefed.run(told, out=tmp_path / "run")


def test_a_parent_that_computed_with_another_neuron_or_other_steps_is_told(parent: str) -> None:
    told = tables(parent, ["head"])
    start = build(configs.from_tree(told)).start
    assert start is not None and not any("trained with" in note for note in start.notes)
    told["network"] |= {"steps": 2, "neuron": {"threshold": 2.0}}
    start = build(configs.from_tree(told)).start
    assert start is not None and len(start.other) == 2
    assert "network.steps = 4, here 2; network.neuron.threshold = 1.0, here 2.0" in start.notes[-1]
