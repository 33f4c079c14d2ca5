"""Masked activations: by hand, ReLU at first, what a mask learns, zeros counted; who has none is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.networks.mime import masked, step_slope
from spikefed.networks.roles import FROZEN, task


def test_the_slope_is_the_papers() -> None:
    u = torch.tensor([-1.5, -1.0, -0.5, -0.4, -0.1, 0.0, 0.2, 0.7, 1.01])
    assert torch.allclose(step_slope(u), torch.tensor([0.0, 0.4, 0.4, 0.4, 1.6, 2.0, 1.2, 0.4, 0.0]))


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 4, 4)])
def test_values_and_gradients_are_those_of_the_equations(shape: tuple[int, ...]) -> None:
    draws = torch.Generator().manual_seed(0)
    y = torch.randn(5, 3, 4, 4, generator=draws).requires_grad_(True)
    tau = (0.5 * torch.randn(shape, generator=draws)).requires_grad_(True)
    upstream = torch.randn(5, 3, 4, 4, generator=draws)
    a = masked(y, tau)
    a.backward(upstream)
    with torch.no_grad():
        m = (y - tau >= 0).float()
        assert torch.equal(a, y * m + 0.0)
        through = y * step_slope(y - tau) * upstream
        assert y.grad is not None and torch.allclose(y.grad, m * upstream + through)
        per_item = -through.sum(0)
        expected = per_item if shape == (3, 4, 4) else per_item.sum((1, 2), keepdim=True) if shape else per_item.sum()
        assert tau.grad is not None and torch.allclose(tau.grad, expected, atol=1e-5)


def twin(norm: Any = "bn", name: str = "4C3-AP2-8C3-AP2-16FC") -> nn.Module:
    net = networks.ann_twin(name, input_shape=(1, 8, 8), classes=4, norm=norm, seed=1)
    net.train()
    with torch.no_grad():
        net(images(32, 7))
    return net.eval()


def images(count: int = 6, seed: int = 4) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("kinds", [["mime"], ["mime", "bn", "head", "low-rank"]])
def test_parts_begin_as_relu_to_the_bit_and_freeze_the_rest(per: Any, kinds: Any) -> None:
    net = twin()
    before = net(images())
    own = networks.adapt(copy.deepcopy(net), kinds, tasks=2, per=per)
    for number in (0, 1):
        networks.select_task(own, number)
        assert torch.equal(own(images()), before)
    assert set(networks.roles(own).values()) == {FROZEN, task(0), task(1)}
    rows = {row.kind: row.values for row in networks.adapter_rows(own)}
    assert rows["mime"] == {"layer": 3, "channel": 28, "neuron": 4 * 64 + 8 * 16 + 16}[per]


def test_masks_raised_by_the_regulariser_leave_more_zeros_and_the_count_says_so() -> None:
    net = networks.adapt(twin(), ["mime"], per="neuron")
    taus = [p for n, p in net.named_parameters() if n.endswith("mask_threshold")]
    low = networks.low_thresholds(net)
    assert low is not None and float(low.detach()) == sum(p.numel() for p in taus)  # exp(0) each
    low.backward()
    assert all(p.grad is not None and torch.equal(p.grad, -torch.ones_like(p)) for p in taus)
    with networks.without_parts(net):
        relu = networks.zero_shares(net, images())
    assert torch.equal(networks.zero_shares(net, images()), relu)
    with torch.no_grad():
        for p in taus:
            p.fill_(0.3)
    assert bool((networks.zero_shares(net, images()) > relu).all())
    assert float(relu.std()) > 0  # dynamic: it differs between images


def test_zeros_are_counted_before_the_pool() -> None:
    net = twin(norm="none", name="4C3-AP2")
    found = networks.zero_shares(net, images())
    first: Any = net.get_submodule("conv1")
    y = F.relu(F.conv2d(images(), first.weight, first.bias, padding=1))
    assert torch.allclose(found, (y == 0).flatten(1).double().mean(1))


def test_a_spiking_network_has_no_masks_and_a_twin_no_firing_thresholds() -> None:
    spiking = networks.build("4C3-AP2", input_shape=(1, 8, 8), classes=4, steps=2)
    with pytest.raises(ConfigError, match="'mime' masks the activations of an ANN twin"):
        networks.adapt(spiking, ["mime"])
    with pytest.raises(ConfigError, match="an ANN twin has none; its kind is 'mime'"):
        networks.adapt(twin(), ["thresholds"])
    with pytest.raises(ConfigError, match=r"for networks of the zoo and layouts, not for Linear"):
        networks.adapt(nn.Linear(2, 2), ["head"])
