"""FedAvg of some roles (FedBN) and of single entries: what stays, what is merged, what a server optimiser leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.federated import Selection
from spikefed.federated.messages import to_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.fedopt import (
    AdaptiveHyperparameters,
    FedAdagrad,
    FedAdagradHyperparameters,
    FedAdam,
    FedAvgM,
    FedAvgMHyperparameters,
    FedYogi,
    FedYogiHyperparameters,
)
from spikefed.wire import WeightsUplink

LOCAL = {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
OPTIMISERS: list[tuple[FedAvg, type[FedAvgHyperparameters]]] = [
    (FedAvg(), FedAvgHyperparameters),
    (FedAvgM(), FedAvgMHyperparameters),
    (FedAdagrad(), FedAdagradHyperparameters),
    (FedAdam(), AdaptiveHyperparameters),
    (FedYogi(), FedYogiHyperparameters),
]


def bits(state: Any) -> Any:
    """A nested state as bytes, to be compared."""
    if isinstance(state, dict):
        return {key: bits(value) for key, value in state.items()}
    return state.numpy().tobytes() if isinstance(state, torch.Tensor) else state


def test_fedbn_keeps_normalisations_with_their_clients() -> None:
    world, method = World(FedAvgHyperparameters(send=["weight"], local_epochs=2, lr=0.05)), FedAvg()
    server, downlink = method.init_server(world.server(0))
    states: dict[int, Any] = {0: {}, 1: {}}
    for round in (1, 2, 3):
        uplinks = {}
        for c, before in states.items():
            states[c], uplinks[c], _ = method.client_round(before, downlink, world.client(c, round))
            assert set(uplinks[c].tensors) == {"fc.weight", "fc.bias"} == set(downlink.tensors)
        server, downlink, _ = method.server_round(server, uplinks, world.server(round))
    own = [state["weights"] for state in states.values()]
    for name in LOCAL - {"norm.num_batches_tracked"}:
        assert not torch.equal(own[0][name], own[1][name])
    initial = world.networks.initial()
    assert all(torch.equal(server["weights"][name], initial[name]) for name in LOCAL)
    assert own[0]["norm.num_batches_tracked"] == 3 * own[0]["norm.num_batches_tracked"] // 3 > 0
    mine = method.client_network(states[1], world.server(3))
    assert mine is not None and torch.equal(mine.state_dict()["norm.bias"], own[1]["norm.bias"])


def test_what_stays_goes_on_from_where_the_client_left_it() -> None:
    """A client's round is that of FedAvg from the server's weights and its own normalisation."""
    hyper = FedAvgHyperparameters(send=["weight"], local_epochs=1, lr=0.05)
    world, method = World(hyper), FedAvg()
    _, downlink = method.init_server(world.server(0))
    state, _, _ = method.client_round({}, downlink, world.client(0, 1))
    after, uplink, _ = method.client_round(state, downlink, world.client(0, 2))
    mixed = {**state["weights"], **{n: torch.from_numpy(a) for n, a in downlink.tensors.items()}}
    net = world.networks.load(mixed)
    method.train(net, world.client(0, 2))
    assert bits(world.networks.weights(net)) == bits(after["weights"])
    assert np.array_equal(uplink.tensors["fc.weight"], after["weights"]["fc.weight"].numpy())


@pytest.mark.parametrize("payload", ["weights", "change"])
def test_all_roles_by_name_are_all_of_fedavg_to_the_bit(payload: str) -> None:
    ends = []
    for send in ("all", ["weight", "bn_affine", "bn_stats"]):
        hyper = FedAvgHyperparameters(send=send, payload=payload, payload_down=payload, local_epochs=1)
        world, method = World(hyper), FedAvg()
        server, downlink = method.init_server(world.server(0))
        states: dict[int, Any] = {0: {}, 1: {}}
        for round in (1, 2):
            uplinks = {}
            for c in states:
                states[c], uplinks[c], _ = method.client_round(states[c], downlink, world.client(c, round))
            server, downlink, _ = method.server_round(server, uplinks, world.server(round))
        ends.append((bits(server), [u.encode() for u in uplinks.values()], downlink.encode()))
    assert ends[0] == ends[1]


def test_changes_of_some_roles_keep_clients_at_the_servers_weights() -> None:
    hyper = FedAvgHyperparameters(send=["weight"], payload="change", payload_down="change", local_epochs=1, lr=0.01)
    world, method = World(hyper), FedAvg()
    server, downlink = method.init_server(world.server(0))
    assert downlink is None
    states: dict[int, Any] = {0: {}, 1: {}}
    for round in (1, 2, 3):
        uplinks = {}
        for c in states:
            states[c], uplinks[c], _ = method.client_round(states[c], downlink, world.client(c, round))
            shared = states[c]["global"]
            assert set(shared) == {"fc.weight", "fc.bias"}
            assert all(torch.allclose(server["weights"][n], t, atol=1e-6) for n, t in shared.items())
        server, downlink, _ = method.server_round(server, uplinks, world.server(round))


def uploads(world: World, before: dict[str, torch.Tensor], kept: list[dict[str, Any]]) -> dict[int, WeightsUplink]:
    """One client for each selection, whose entries moved by 0.1, 0.2, ..."""
    found = {}
    for c, entries in enumerate(kept):
        after = {n: t + 0.1 * (c + 1) if t.is_floating_point() else t + c + 1 for n, t in before.items()}
        chosen = Selection(entries)
        arrays = to_wire(chosen.of(after))
        found[c] = WeightsUplink(1, c, arrays, 10, 0.5, kept={n: chosen.arrays()[n] for n in arrays})
    return found


@pytest.mark.parametrize(("method", "kind"), OPTIMISERS, ids=lambda v: getattr(v, "name", ""))
def test_absent_entries_and_their_moments_are_untouched(method: FedAvg, kind: type[FedAvgHyperparameters]) -> None:
    world = World(kind())
    state, _ = method.init_server(world.server(0))
    everything: dict[str, Any] = dict.fromkeys(state["weights"])
    state, _, _ = method.server_round(state, uploads(world, state["weights"], [everything] * 2), world.server(1))
    here = torch.zeros(3, 4, dtype=torch.bool)
    here[0, :2] = True
    there = torch.zeros(3, 4, dtype=torch.bool)
    there[1:, 3] = True
    kept = [{"fc.weight": here, "norm.running_mean": None}, {"fc.weight": there, "norm.running_mean": None}]
    new, _, _ = method.server_round(state, uploads(world, state["weights"], kept), world.server(2))
    sent = here | there
    for key, before in state.items():
        for name in set(before) - {"fc.weight", "norm.running_mean"}:
            assert bits(new[key][name]) == bits(before[name]), (key, name)
        if "fc.weight" in before:
            assert bits(new[key]["fc.weight"][~sent]) == bits(before["fc.weight"][~sent]), key
            assert (new[key]["fc.weight"] != before["fc.weight"])[sent].all(), key
    mean = state["weights"]["norm.running_mean"] + 0.15
    assert torch.allclose(new["weights"]["norm.running_mean"], mean, atol=1e-6)  # statistics: the plain mean


@pytest.mark.parametrize(("method", "kind"), OPTIMISERS, ids=lambda v: getattr(v, "name", ""))
def test_moments_of_what_was_never_sent_are_not_made(method: FedAvg, kind: type[FedAvgHyperparameters]) -> None:
    world = World(kind())
    state, _ = method.init_server(world.server(0))
    state, _, _ = method.server_round(state, uploads(world, state["weights"], [{"fc.bias": None}]), world.server(1))
    assert all(set(value) == {"fc.bias"} for key, value in state.items() if key != "weights")
    assert set(state["weights"]) == set(world.networks.initial())


@pytest.mark.parametrize("merge", ["median", "trimmed", "krum"])
def test_robust_merges_of_some_roles(merge: str) -> None:
    world, method = World(FedAvgHyperparameters(send=["weight"], merge=merge)), FedAvg()
    state, _ = method.init_server(world.server(0))
    part = {"fc.weight": None, "fc.bias": None}
    new, downlink, _ = method.server_round(state, uploads(world, state["weights"], [part] * 3), world.server(1))
    assert set(downlink.tensors) == set(part)
    assert torch.equal(new["weights"]["norm.bias"], state["weights"]["norm.bias"])
    assert (new["weights"]["fc.bias"] != state["weights"]["fc.bias"]).all()


def test_what_a_newcomer_would_type_wrong() -> None:
    assert FedAvgHyperparameters(send="weight").send == ["weight"]
    assert FedAvgHyperparameters(send=["all"]).send == "all"
    assert FedAvgHyperparameters(send=["task[3]", "task"]).send == ["task[3]", "task"]
    for wrong, why in (
        (["weights"], "'weights' is no role of a tensor; use weight, bn_affine"),
        ([], "a list of roles such as"),
        (3, "a list of roles such as"),
        ([3], "a list of roles such as"),
    ):
        with pytest.raises(ValidationError, match=why):
            FedAvgHyperparameters(send=wrong)
    world = World(FedAvgHyperparameters(send=["neuron"]))
    with pytest.raises(ConfigError, match=r"'method.send' = \['neuron'\]: no tensor of this network has the role"):
        FedAvg().exchanges(world.hyper, (4, 3, 2), world.networks)


def test_who_has_a_server_model() -> None:
    networks = World(None).networks
    for send, whole in (("all", True), (["weight", "bn_affine", "bn_stats"], True), (["weight", "bn_affine"], False)):
        assert FedAvg().has_server_model(FedAvgHyperparameters(send=send), networks) is whole
