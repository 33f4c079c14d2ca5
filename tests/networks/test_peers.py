"""The adapter on the real libraries, where they are installed (tests never require them)."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from spikefed.networks import describe, firing_rates, roles, wrap

pytestmark = pytest.mark.filterwarnings("ignore")


def images(batch: int = 6) -> torch.Tensor:
    return 3 * torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def check(net: nn.Module, own_state: set[str]) -> None:
    """No state survives, another network is not touched, copies after a call work, gradients reach all weights."""
    other = copy.deepcopy(net)
    first = net(images())
    assert 0 < first.mean() < 1
    assert torch.equal(other(images()), first)
    net(images(9))
    assert torch.equal(net(images()), first)
    first.mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert torch.equal(copy.deepcopy(net)(images()), first)
    assert {name for name, role in roles(net).items() if role == "weight"} == own_state
    assert len(firing_rates(net, images())) == 2
    assert describe(net).weights == sum(net.state_dict()[name].numel() for name in own_state)


STATE = {"module.1.weight", "module.1.bias", "module.3.weight", "module.3.bias"}


def amplified(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.weight.mul_(4)
    return layer


def test_spikingjelly_step_by_step():
    neuron = _import("spikingjelly.activation_based.neuron")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), amplified(nn.Linear(64, 20)), neuron.LIFNode(), amplified(nn.Linear(20, 5)), neuron.LIFNode()
    )
    wrapped = wrap(net, steps=4, classes=5, input_shape=(1, 8, 8))
    assert wrapped.mode == "step"
    check(wrapped, STATE)


def test_spikingjelly_multi_step_equals_step_by_step():
    neuron, layer = _import("spikingjelly.activation_based.neuron"), _import("spikingjelly.activation_based.layer")
    functional = _import("spikingjelly.activation_based.functional")
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Flatten(),
        amplified(layer.Linear(64, 20)),
        neuron.LIFNode(),
        amplified(layer.Linear(20, 5)),
        neuron.LIFNode(),
    )
    multi = copy.deepcopy(net)
    functional.set_step_mode(multi, "m")
    wrapped = wrap(multi, steps=4, classes=5, input_shape=(1, 8, 8))
    assert wrapped.mode == "sequence"
    assert torch.equal(wrapped(images()), wrap(net, steps=4, classes=5)(images()))
    check(wrapped, STATE)


def test_snntorch():
    snn = _import("snntorch")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(),
        amplified(nn.Linear(64, 20)),
        snn.Leaky(beta=0.9, init_hidden=True),
        amplified(nn.Linear(20, 5)),
        snn.Leaky(beta=0.9, init_hidden=True, output=True),
    )
    wrapped = wrap(net, steps=4, classes=5, input_shape=(1, 8, 8))
    check(wrapped, STATE)
    others = {role for name, role in roles(wrapped).items() if name not in STATE}
    assert others <= {"frozen", "neuron"}


def _import(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)
