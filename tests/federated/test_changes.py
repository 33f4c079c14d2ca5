"""FedAvg by changes of weights, its lossy codecs, and the server optimisers: laws and hand-computed steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.federated.averaging import apply_change, change
from spikefed.federated.messages import from_wire, to_wire
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
from spikefed.federated.methods.fedprox import FedProx, FedProxHyperparameters
from spikefed.wire import WeightsUplink
from spikefed.wire.quantised import Qsgd
from spikefed.wire.sparse import Sparse


def moved(world: World, client: int, by: float, hyper: FedAvgHyperparameters) -> WeightsUplink:
    """An upload whose floats moved by ``by`` and whose counter stands at ``client`` + 1."""
    start = world.networks.initial()
    after = {n: t + by if t.is_floating_point() else t + client + 1 for n, t in start.items()}
    sent = change(after, start) if hyper.payload == "change" else after
    return WeightsUplink(1, client, to_wire(sent), 10, 0.5)


def test_change_and_its_inverse() -> None:
    world = World(None)
    before = world.networks.initial()
    after = {n: t * 1.5 if t.is_floating_point() else t + 3 for n, t in before.items()}
    again = apply_change(before, change(after, before))
    assert all(torch.allclose(again[n], after[n], rtol=1e-6) for n in after)
    assert again["norm.num_batches_tracked"] == after["norm.num_batches_tracked"]


def test_uploading_changes_is_uploading_weights() -> None:
    states = []
    for payload in ("weights", "change"):
        hyper = FedAvgHyperparameters(payload=payload)
        world = World(hyper)
        state, _ = FedAvg().init_server(world.server(0))
        uplinks = {c: moved(world, c, 0.1 * (c + 1), hyper) for c in range(3)}
        states.append(FedAvg().server_round(state, uplinks, world.server())[0]["weights"])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_changes_downwards_keep_clients_at_the_servers_weights() -> None:
    hyper = FedAvgHyperparameters(payload="change", payload_down="change", local_epochs=1, lr=0.01)
    world, method = World(hyper), FedAvg()
    server, downlink = method.init_server(world.server(0))
    assert downlink is None
    states = {c: {} for c in range(2)}
    for round in (1, 2, 3):
        uplinks = {}
        for c in states:
            states[c], uplinks[c], _ = method.client_round(states[c], downlink, world.client(c, round))
            assert all(torch.allclose(server["weights"][n], t, atol=1e-6) for n, t in states[c]["global"].items())
        server, downlink, _ = method.server_round(server, uplinks, world.server(round))


def test_a_change_is_never_applied_twice_nor_skipped() -> None:
    hyper = FedAvgHyperparameters(payload_down="change", local_epochs=0)
    world, method = World(hyper), FedAvg()
    server, _ = method.init_server(world.server(0))
    uplinks = {c: moved(world, c, 0.5, hyper) for c in range(2)}
    server, downlink, _ = method.server_round(server, uplinks, world.server(1))
    state, _, _ = method.client_round({}, None, world.client(0, 1))
    state, _, _ = method.client_round(state, downlink, world.client(0, 2))
    again = method.repeated(downlink, 3, world.server(3))  # round 2 found no quorum
    state, _, _ = method.client_round(state, again, world.client(0, 3))
    assert torch.allclose(state["global"]["fc.weight"], server["weights"]["fc.weight"], atol=1e-6)
    with pytest.raises(ConfigError, match="missed rounds before 3"):
        method.client_round({}, again, world.client(1, 3))


def test_top_k_of_everything_is_fedavg_up_to_fp16() -> None:
    hyper = FedAvgHyperparameters(payload="change")
    world = World(hyper)
    message = moved(world, 0, 0.25, hyper)
    payload, _ = Sparse("all", 250, 1, ternary=False).encode(message.content, message.plan(), None, None)
    got, _ = Sparse("all", 250, 1, ternary=False).decode(memoryview(payload), message.plan(), None, None)
    for name, array in message.tensors.items():
        assert np.allclose(got[name], array, rtol=2**-10, atol=1e-6)


@pytest.mark.parametrize("codec", [Sparse("p1", 250, 1, ternary=True), Sparse("tenth", 250, 10, ternary=True)])
def test_stc_sends_everything_in_the_end(codec: Sparse) -> None:
    """What was decoded, plus what the sender still owes, is what there was to send: nothing is lost, only late."""
    hyper = FedAvgHyperparameters(payload="change")
    world, rng = World(hyper), np.random.default_rng(0)
    memory, sent, due = None, 0.0, 0.0
    for round in range(1, 6):
        tensors = {
            n: rng.normal(size=t.shape).astype(np.float32) if t.is_floating_point() else t.numpy()
            for n, t in world.networks.initial().items()
        }
        message = WeightsUplink(round, 0, tensors, 10, 0.5)
        payload, memory = codec.encode(message.content, message.plan(), memory, None)
        got, _ = codec.decode(memoryview(payload), message.plan(), None, None)
        sent = sent + np.concatenate([a.ravel() for a in got.values() if a.dtype.kind == "f"])
        due = due + np.concatenate([a.ravel() for a in tensors.values() if a.dtype.kind == "f"])
    assert np.allclose(sent + memory.private["residual"], due, atol=1e-4)


def test_qsgd_with_enough_levels_is_fedavg() -> None:
    hyper = FedAvgHyperparameters(payload="change")
    world = World(hyper)
    message = moved(world, 0, 0.25, hyper)
    codec = Qsgd("fine", 250, 1 << 15)
    payload, _ = codec.encode(message.content, message.plan(), None, None)
    got, _ = codec.decode(memoryview(payload), message.plan(), None, None)
    for name, array in message.tensors.items():
        assert np.abs(got[name] - array).max() <= np.linalg.norm(array.astype(np.float64)) / (1 << 15) + 1e-7


OPTIMISERS = [
    (FedAvgM(), FedAvgMHyperparameters(server_lr=0.5, server_momentum=0.9), [0.5 * 0.2, 0.5 * (0.9 * 0.2 + 0.2)]),
    (
        FedAdagrad(),
        FedAdagradHyperparameters(server_lr=0.1, tau=0.1),
        [0.1 * 0.2 / (0.2 + 0.1), 0.1 * 0.2 / (np.sqrt(0.08) + 0.1)],
    ),
    (
        FedAdam(),
        AdaptiveHyperparameters(server_lr=0.1, tau=0.1),
        [0.1 * 0.02 / (np.sqrt(0.0004) + 0.1), 0.1 * 0.038 / (np.sqrt(0.000796) + 0.1)],
    ),
    (
        FedYogi(),
        FedYogiHyperparameters(server_lr=0.1, tau=0.1),
        [0.1 * 0.02 / (np.sqrt(0.0004) + 0.1), 0.1 * 0.038 / (np.sqrt(0.0008) + 0.1)],
    ),
]


@pytest.mark.parametrize("method, hyper, moves", OPTIMISERS, ids=lambda v: getattr(v, "name", ""))
def test_server_optimisers_by_hand_and_statistics_averaged(method, hyper, moves) -> None:
    """Clients move every float by 0.1 and 0.3, so Delta = 0.2 everywhere; two rounds worked out on paper."""
    world = World(hyper)
    state, _ = method.init_server(world.server(0))
    for round, move in enumerate(moves, start=1):
        before = state["weights"]
        uplinks = {}
        for c, by in enumerate((0.1, 0.3)):
            after = {n: t + by if t.is_floating_point() else t + c + 1 for n, t in before.items()}
            uplinks[c] = WeightsUplink(round, c, to_wire(after), 10, 0.5)
        state, downlink, _ = method.server_round(state, uplinks, world.server(round))
        for name in ("fc.weight", "fc.bias", "norm.weight", "norm.bias"):
            assert torch.allclose(state["weights"][name], before[name] + move, rtol=1e-4, atol=1e-6), (name, round)
        for name in ("norm.running_mean", "norm.running_var"):
            assert torch.allclose(state["weights"][name], before[name] + 0.2, atol=1e-6), name
        assert from_wire(downlink.tensors).keys() == before.keys()


def test_fedprox_without_its_term_is_fedavg_and_with_a_large_one_stays_put() -> None:
    ends = {}
    for mu in (None, 0.0, 1e4):
        shared = {"local_epochs": 3, "lr": 1e-4, "optimiser": "sgd", "momentum": 0.0}
        hyper = FedAvgHyperparameters(**shared) if mu is None else FedProxHyperparameters(mu=mu, **shared)
        method = FedAvg() if mu is None else FedProx()
        world = World(hyper)
        _, downlink = method.init_server(world.server(0))
        _, uplink, _ = method.client_round({}, downlink, world.client(0))
        start = world.networks.initial()["fc.weight"].numpy()
        ends[mu] = np.abs(uplink.tensors["fc.weight"] - start).sum(), uplink.tensors["fc.weight"]
    assert np.array_equal(ends[None][1], ends[0.0][1])
    assert ends[1e4][0] < 0.7 * ends[0.0][0]
