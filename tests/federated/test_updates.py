"""Noise on updates, drift of clients, and the learning rate's milestones."""

from __future__ import annotations

import pytest
import torch

from federated.tiny import World
from spikefed.federated.local import learning_rate
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.updates import add_update_noise, model_deviation

ROLES = {"a": "weight", "n.running_mean": "bn_stats", "n.running_var": "bn_stats", "count": "bn_stats"}


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def tensors(size: int = 20_000) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    start = {"a": torch.zeros(size), "n.running_mean": torch.zeros(size), "n.running_var": torch.ones(size)}
    after = {"a": start["a"] + 0.5, "n.running_mean": start["n.running_mean"] - 2, "n.running_var": torch.ones(size)}
    return start | {"count": torch.tensor(4)}, after | {"count": torch.tensor(9)}


def test_noise_has_the_spread_of_sigma_times_the_mean_absolute_update() -> None:
    start, after = tensors()
    noisy = add_update_noise(after, start, 3.0, ROLES, draw())
    for name, scale in (("a", 3 * 0.5), ("n.running_mean", 3 * 2.0)):
        added = noisy[name] - after[name]
        assert added.std().item() == pytest.approx(scale, rel=0.03)
        assert abs(added.mean().item()) < 4 * scale / 20_000**0.5
    assert torch.equal(noisy["n.running_var"], after["n.running_var"])  # its update is 0
    assert torch.equal(noisy["count"], torch.tensor(9))


def test_statistics_can_be_spared_and_a_variance_stays_at_least_zero() -> None:
    start, after = tensors()
    after["n.running_var"] = after["n.running_var"] + 1
    spared = add_update_noise(after, start, 5.0, ROLES, draw(), statistics=False)
    assert torch.equal(spared["n.running_mean"], after["n.running_mean"])
    assert not torch.equal(spared["a"], after["a"])
    noisy = add_update_noise(after, start, 5.0, ROLES, draw())
    assert (noisy["n.running_var"] == 0).any() and (noisy["n.running_var"] >= 0).all()


def test_sigma_zero_changes_no_bit_of_a_round() -> None:
    ups = []
    for hyper in (
        FedAvgHyperparameters(),
        FedAvgHyperparameters(update_noise=0.0),
        FedAvgHyperparameters(update_noise=1.0),
    ):
        world = World(hyper)
        _, downlink = FedAvg().init_server(world.server(0))
        ups.append(FedAvg().client_round({}, downlink, world.client(0))[1].tensors["fc.weight"])
    assert (ups[0] == ups[1]).all() and not (ups[0] == ups[2]).any()


def test_deviation_by_hand() -> None:
    average = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([2.0]), "n.running_var": torch.tensor([1.0])}
    roles = {"a": "weight", "b": "weight", "n.running_var": "bn_stats"}
    own = {"a": torch.tensor([3.0, 5.0]), "b": torch.tensor([1.0]), "n.running_var": torch.tensor([100.0])}
    # ||(0, 1)|| / 5 + 1 / 2; statistics are no weights.
    assert model_deviation({7: own, 8: average}, average, roles) == pytest.approx({7: 0.7, 8: 0.0})


def test_fedavg_reports_the_mean_deviation_of_its_participants() -> None:
    world = World(FedAvgHyperparameters(local_epochs=1, lr=0.05))
    method = FedAvg()
    state, downlink = method.init_server(world.server(0))
    one = {0: method.client_round({}, downlink, world.client(0))[1]}
    assert method.server_round(state, one, world.server())[2].values["model_deviation"] == pytest.approx(0, abs=1e-6)
    two = one | {1: method.client_round({}, downlink, world.client(1))[1]}
    assert method.server_round(state, two, world.server())[2].values["model_deviation"] > 1e-3


def test_learning_rate_drops_after_every_milestone() -> None:
    hyper = FedAvgHyperparameters(lr=0.1, lr_milestones=[40, 60, 80], lr_decay=0.2)
    rates = [learning_rate(hyper, r) for r in (1, 40, 41, 60, 61, 81, 100)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.0008, 0.0008])
    assert learning_rate(FedAvgHyperparameters(lr=0.1), 1000) == 0.1


def test_the_learning_rate_of_the_round_reaches_the_optimiser() -> None:
    # Plain SGD, one full batch: the step is proportional to the rate, so a tenth of the rate moves a tenth as far.
    moved = []
    for round in (1, 2):
        hyper = FedAvgHyperparameters(
            local_epochs=1, local_batch=64, optimiser="sgd", momentum=0.0, lr=0.5, lr_milestones=[1], lr_decay=0.1
        )
        world = World(hyper)
        _, downlink = FedAvg().init_server(world.server(0))
        up = FedAvg().client_round({}, downlink, world.client(0, round))[1]
        start = world.networks.initial()["fc.weight"]
        moved.append((torch.from_numpy(up.tensors["fc.weight"].copy()) - start).norm().item())
    assert moved[1] == pytest.approx(0.1 * moved[0], rel=1e-3)
