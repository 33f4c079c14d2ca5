"""FedAvg: the mean, its weights, integers, and blindness to order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from federated.tiny import World
from spikefed.federated.messages import from_wire, to_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.selection import merge_selected
from spikefed.wire import WeightsUplink


def uplink(world: World, client: int, samples: int, scale: float) -> WeightsUplink:
    tensors = {name: (t * scale).to(t.dtype) for name, t in world.networks.initial().items()}
    return WeightsUplink(1, client, to_wire(tensors), samples, 0.5)


def test_identical_clients_are_the_identity() -> None:
    world = World(FedAvgHyperparameters())
    state, _ = FedAvg().init_server(world.server(0))
    uplinks = {c: uplink(world, c, 10 * c + 1, 1.0) for c in range(5)}
    state, downlink, _ = FedAvg().server_round(state, uplinks, world.server())
    for name, tensor in world.networks.initial().items():
        assert torch.allclose(state["weights"][name], tensor, rtol=1e-7, atol=0)
        assert np.array_equal(downlink.tensors[name], state["weights"][name].numpy())


@pytest.mark.parametrize("weighting, expected", [("samples", (1 * 30 + 3 * 10) / 40), ("uniform", 2.0)])
def test_weights_of_the_mean(weighting: str, expected: float) -> None:
    world = World(FedAvgHyperparameters(weighting=weighting))
    state, _ = FedAvg().init_server(world.server(0))
    uplinks = {0: uplink(world, 0, 30, 1.0), 1: uplink(world, 1, 10, 3.0)}
    state, _, diagnostics = FedAvg().server_round(state, uplinks, world.server())
    assert torch.allclose(state["weights"]["fc.weight"], expected * world.networks.initial()["fc.weight"])
    assert sum(diagnostics.weights.values()) == pytest.approx(1.0)


def test_statistics_are_averaged_and_counters_rounded() -> None:
    tensors = {
        0: {"norm.running_var": torch.tensor([1.0]), "norm.num_batches_tracked": torch.tensor(3)},
        1: {"norm.running_var": torch.tensor([2.0]), "norm.num_batches_tracked": torch.tensor(4)},
    }
    merged = merge_selected(tensors, {0: 0.4, 1: 0.6}, tensors[0])
    assert merged["norm.running_var"].item() == pytest.approx(1.6)
    assert merged["norm.num_batches_tracked"].item() == 4 and merged["norm.num_batches_tracked"].dtype == torch.int64


def test_order_never_matters_bit_for_bit() -> None:
    world = World(FedAvgHyperparameters())
    state, _ = FedAvg().init_server(world.server(0))
    uplinks = {c: uplink(world, c, c + 1, 0.1 + 0.37 * c) for c in range(4)}
    one, _, _ = FedAvg().server_round(state, uplinks, world.server())
    two, _, _ = FedAvg().server_round(state, dict(reversed(uplinks.items())), world.server())
    assert all(torch.equal(one["weights"][k], two["weights"][k]) for k in one["weights"])


def test_one_client_is_plain_training() -> None:
    world = World(FedAvgHyperparameters(local_epochs=2, lr=0.05))
    method = FedAvg()
    state, downlink = method.init_server(world.server(0))
    _, up, report = method.client_round({}, downlink, world.client(0))
    state, _, _ = method.server_round(state, {0: up}, world.server())
    assert not torch.equal(state["weights"]["fc.weight"], world.networks.initial()["fc.weight"])
    assert torch.equal(state["weights"]["fc.weight"], from_wire(up.tensors)["fc.weight"])
    assert np.isfinite(report.values["train_loss"])


def test_the_message_does_not_share_memory_with_the_network() -> None:
    world = World(FedAvgHyperparameters(local_epochs=1))
    _, downlink = FedAvg().init_server(world.server(0))
    _, up, _ = FedAvg().client_round({}, downlink, world.client(0))
    sent = up.tensors["fc.weight"].copy()
    world.networks.load(None)
    assert np.array_equal(up.tensors["fc.weight"], sent)
