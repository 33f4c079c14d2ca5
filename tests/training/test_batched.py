"""Stacked networks train exactly as their members one by one; a step recorded elsewhere than on CUDA is the step."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from spikefed.errors import ConfigError
from spikefed.networks import build
from spikefed.neurons import use_kernels
from spikefed.training.batched import StackedNetworks
from spikefed.training.graphs import GraphedStep, optimiser_state

SHAPE, CLASSES, CLIENTS, BATCH = (2, 8, 8), 3, 4, 5


def networks(norm: str = "bn", dtype: torch.dtype = torch.float64):
    options = {"input_shape": SHAPE, "classes": CLASSES, "steps": 3, "norm": norm, "coding": "direct"}
    return [build("6C3-AP2-10C3-12FC", **options, seed=seed).to(dtype) for seed in range(CLIENTS)]


def data(dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, CLIENTS, BATCH, *SHAPE, generator=generator).to(dtype)
    return x, torch.randint(0, CLASSES, (3, CLIENTS, BATCH), generator=generator)


def loss(out: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(out.mean(0), labels)


@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_stacked_training_is_training_one_by_one(norm: str, name: str) -> None:
    alone, (x, y) = networks(norm), data()
    together = copy.deepcopy(alone)
    stacked = StackedNetworks(together)
    options = {"lr": 0.05, "momentum": 0.9} if name == "SGD" else {"lr": 0.01}
    make = getattr(torch.optim, name)
    with use_kernels("reference"):
        for i, net in enumerate(alone):
            optimiser = make(net.parameters(), **options)
            for step in range(3):
                optimiser.zero_grad()
                loss(net(x[step, i]), y[step, i]).backward()
                optimiser.step()
        optimiser = make(stacked.parameters(), **options)
        for step in range(3):
            optimiser.zero_grad()
            out = stacked(x[step])
            assert out.shape == (CLIENTS, 3, BATCH, CLASSES)
            sum(loss(out[i], y[step, i]) for i in range(CLIENTS)).backward()  # type: ignore[union-attr]
            optimiser.step()
    stacked.write_back(together)
    for one, other, start in zip(alone, together, networks(norm), strict=True):
        moved = 0.0
        for (key, wanted), (_, got), (_, before) in zip(
            one.state_dict().items(), other.state_dict().items(), start.state_dict().items(), strict=True
        ):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11, msg=key)
            moved += float((wanted - before).abs().sum())
        assert moved > 0


def test_fast_kernels_give_the_same_outputs_stacked_or_alone() -> None:
    nets, (x, _) = networks(dtype=torch.float32), data(torch.float32)
    stacked = StackedNetworks(nets).eval()
    with torch.no_grad():
        out = stacked(x[0])
        for i, net in enumerate(nets):
            torch.testing.assert_close(out[i], net.eval()(x[0, i]))


def test_networks_that_differ_are_refused() -> None:
    options = {"input_shape": SHAPE, "classes": CLASSES, "steps": 3}
    nets = [build("6C3-12FC", **options), build("6C3-14FC", **options)]
    with pytest.raises(ConfigError, match="architecture"):
        StackedNetworks(nets)
    with pytest.raises(ConfigError, match="at least one"):
        StackedNetworks([])


def test_a_graphed_step_on_the_cpu_is_the_step_itself() -> None:
    weight = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=1.0, momentum=0.5)

    def step(x: torch.Tensor) -> torch.Tensor:
        value = (weight * x).sum()
        optimiser.zero_grad(set_to_none=False)
        value.backward()
        optimiser.step()
        return value.detach()

    graphed = GraphedStep(step, torch.ones(3), state=lambda: [weight, *optimiser_state(optimiser)])
    assert not graphed.recorded and weight.tolist() == [0, 0, 0]  # making it trains nothing
    graphed(torch.tensor([1.0, 2.0, 3.0]))
    assert weight.tolist() == [-1, -2, -3] and len(optimiser_state(optimiser)) == 1
