"""The adapter on the real libraries, where they are installed (tests never require them)."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.networks import build_own, check_promises, describe, firing_rates, roles, wrap

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


def promised(net: nn.Module) -> nn.Module:
    made = build_own(net, input_shape=(1, 8, 8), classes=5, steps=4)
    check_promises(made, "mine:Net", (1, 8, 8))
    return made


def test_networks_of_the_libraries_keep_their_promises():
    neuron, layer = _import("spikingjelly.activation_based.neuron"), _import("spikingjelly.activation_based.layer")
    snn, functional = _import("snntorch"), _import("spikingjelly.activation_based.functional")
    jelly = nn.Sequential(
        layer.Flatten(), layer.Linear(64, 20), neuron.ParametricLIFNode(), layer.Dropout(0.3), layer.Linear(20, 5),
        neuron.LIFNode(),
    )  # fmt: skip
    assert promised(jelly).mode == "step"
    multi = copy.deepcopy(jelly)
    functional.set_step_mode(multi, "m")
    assert promised(multi).mode == "sequence"
    leaky = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 20), snn.Synaptic(alpha=0.5, beta=0.9, init_hidden=True), nn.Linear(20, 5),
        snn.Leaky(beta=0.9, init_hidden=True, output=True),
    )  # fmt: skip
    assert promised(leaky).mode == "step"


def test_single_step_neurons_given_a_sequence_are_found():
    neuron, layer = _import("spikingjelly.activation_based.neuron"), _import("spikingjelly.activation_based.layer")
    snn, functional = _import("snntorch"), _import("spikingjelly.activation_based.functional")
    mixed = nn.Sequential(layer.Flatten(), layer.Linear(64, 20), neuron.LIFNode(), layer.Linear(20, 5), neuron.IFNode())
    functional.set_step_mode(mixed, "m")
    mixed[2].step_mode = "s"
    with pytest.raises(ConfigError, match=r"layer '2' \(LIFNode\) works on one time step"):
        promised(mixed)
    for hidden in (True, False):
        flat = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5), snn.Leaky(beta=0.9, init_hidden=hidden))
        with pytest.raises(ConfigError, match=r"layer '2' \(Leaky\) works on one time step"):
            promised(flat)


def test_a_state_that_snntorch_returns_is_carried():
    snn = _import("snntorch")

    class Explicit(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = amplified(nn.Linear(64, 5)), snn.Leaky(beta=0.9)

        def forward(self, x, mem=None):
            return self.lif(self.fc(x.flatten(1)), mem)

    torch.manual_seed(0)
    net = Explicit()
    expected, mem = [], None
    for _ in range(4):
        spikes, mem = net(images(), mem)
        expected.append(spikes)
    assert torch.equal(promised(net)(images()), torch.stack(expected))


def _import(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)
