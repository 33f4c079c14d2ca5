"""The running mean of weights: its recursion, what it leaves alone, going on from its state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.training import WeightAverage, held
from spikefed.training.masks import Mask


def steps(net: nn.Module, optim: torch.optim.Optimizer, count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Train on noise; the weights after every step."""
    draws = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(count):
        optim.zero_grad()
        net(torch.randn(8, 3, generator=draws)).square().mean().backward()
        optim.step()
        seen.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
    return seen


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return net, torch.optim.Adam(net.parameters(), lr=0.1)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.98])
def test_it_is_its_recursion_over_weights_and_statistics(decay: float) -> None:
    net, optim = made()
    mean = WeightAverage(decay)
    with mean.follows(net, optim):
        seen = steps(net, optim, 30, seed=1)
    wanted = seen[0]
    for t, weights in enumerate(seen[1:], 1):
        d = min(decay, (1 + t) / (10 + t))
        wanted = {n: d * wanted[n] + (1 - d) * w if w.is_floating_point() else w for n, w in weights.items()}
    assert mean.steps == 30 and mean.tensors.keys() == wanted.keys()
    for name, tensor in mean.tensors.items():
        assert torch.allclose(tensor.double(), wanted[name].double(), atol=1e-5), name
    assert mean.tensors["1.num_batches_tracked"].item() == 30
    assert all(torch.equal(net.state_dict()[n], t) for n, t in seen[-1].items())  # the network trains on untouched


def test_it_goes_on_from_its_state_to_the_bit_and_changes_nothing_it_was_given() -> None:
    net, optim = made()
    whole = WeightAverage(0.9)
    with whole.follows(net, optim):
        steps(net, optim, 6, seed=1)
        steps(net, optim, 5, seed=2)
    net, optim = made()
    first = WeightAverage(0.9)
    with first.follows(net, optim):
        steps(net, optim, 6, seed=1)
    steps_outside = first.steps
    state = first.state
    kept = {name: tensor.clone() for name, tensor in state["tensors"].items()}
    again = WeightAverage(0.9, state)
    with again.follows(net, optim):
        steps(net, optim, 5, seed=2)
    assert steps_outside == 6 and again.steps == whole.steps == 11
    assert all(torch.equal(again.tensors[n], t) for n, t in whole.tensors.items())
    assert all(torch.equal(state["tensors"][n], t) for n, t in kept.items())


def test_outside_nothing_counts() -> None:
    net, optim = made()
    mean = WeightAverage(0.9)
    steps(net, optim, 2, seed=1)
    with mean.follows(net, optim):
        pass
    steps(net, optim, 2, seed=1)
    assert mean.steps == 0 and not mean.tensors


def test_what_a_mask_takes_away_is_0_in_the_mean() -> None:
    net, optim = made()
    mask = Mask({"0.weight": torch.arange(12).view(4, 3) % 3 > 0})
    held(optim, mask.on(net))
    mean = WeightAverage(0.9)
    with mean.follows(net, optim):
        steps(net, optim, 10, seed=1)
    assert mean.tensors["0.weight"][~mask.kept["0.weight"]].abs().max() == 0
