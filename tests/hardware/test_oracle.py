"""SpikingJelly's counters and estimators say the same of the same network, where it is installed."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from spikefed.hardware import SpikeSim, count_operations, energy_report, lemaire
from spikefed.hardware.memory import memory_bytes
from spikefed.networks import wrap

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional, layer, neuron, op_counter

T = 5


def network(leaky: bool, groups: int = 2) -> nn.Sequential:
    """Two convolutions (one with stride, one with groups) and a linear layer, all spiking, no pools."""
    torch.manual_seed(2)
    fire = (lambda: neuron.LIFNode(tau=2.0, v_threshold=0.4)) if leaky else (lambda: neuron.IFNode(v_threshold=0.6))
    net = nn.Sequential(
        layer.Conv2d(1, 6, 3, padding=1),
        fire(),
        layer.Conv2d(6, 4, 3, stride=2, padding=1, groups=groups, bias=False),
        fire(),
        layer.Flatten(),
        layer.Linear(4 * 16, 10),
        fire(),
    )
    functional.set_step_mode(net, "m")
    return net.eval()


def run(net: nn.Module, x: torch.Tensor, *counters) -> list[int]:
    functional.reset_net(net)
    with torch.no_grad(), op_counter.DispatchCounterMode(list(counters), strict=False):
        net(x)
    functional.reset_net(net)
    return [counter.get_total() for counter in counters]


def ours(net: nn.Module, image: torch.Tensor):
    wrapped = wrap(net, steps=T, classes=10, input_shape=(1, 8, 8), mode="sequence")
    return wrapped, count_operations(wrapped, image)


IMAGE = 2 * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("leaky", [False, True])
def test_operations_and_memory(leaky: bool) -> None:
    net = network(leaky)
    ignore = [type(net[1])]  # the arithmetic inside neurons is no synaptic operation
    synops, mac = run(
        net,
        IMAGE.expand(T, 1, 1, 8, 8),
        op_counter.SynOpCounter(extra_ignore_modules=ignore),
        op_counter.MACCounter(extra_ignore_modules=ignore),
    )
    _, layers = ours(net, IMAGE)
    assert sum(c.events for c in layers if not c.dense) == synops > 0
    assert sum(c.macs * T for c in layers if c.dense) == mac
    report = op_counter.estimate_simple_energy(net, IMAGE.expand(T, 1, 1, 8, 8))
    functional.reset_net(net)
    moved = sum(memory_bytes(c, T, "every-step") for c in layers)
    assert moved == report.counts["memory_access_bytes"]
    assert moved * 24.96 == pytest.approx(report.energy_memory_pj)


@pytest.mark.parametrize("leaky", [False, True])
def test_lemaire(leaky: bool) -> None:
    net = network(leaky)
    spikes = (IMAGE > 1.0).float()  # binary input: the first layer is event-driven too
    frames = spikes.expand(T, 1, 1, 8, 8)
    config = op_counter.LemaireEnergyConfig(strict=False)
    theirs = op_counter.estimate_lemaire_energy(net, frames, config=config)
    functional.reset_net(net)
    layers = _sequence_counts(net, frames)
    assert all(not c.dense for c in layers)
    parts = [lemaire(c, T) for c in layers]
    for name, part in (
        ("ops_pj", "operations_pj"),
        ("addressing_pj", "addressing_pj"),
        ("inout_pj", "queues_pj"),
        ("params_pj", "parameters_pj"),
        ("potential_pj", "potentials_pj"),
    ):
        assert sum(getattr(p, part) for p in parts) == pytest.approx(theirs.breakdown_pj[name]), name


def _sequence_counts(net: nn.Module, frames: torch.Tensor):
    """Counts of a network that takes spike frames itself; time becomes its number of steps."""

    class Sequence(nn.Module):
        steps = T

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # [1, T, 1, 8, 8]
            functional.reset_net(self.net)
            return self.net(x.transpose(0, 1))

    layers = count_operations(Sequence(), frames.transpose(0, 1))
    functional.reset_net(net)
    return layers


def test_lemaire_of_a_dense_layer() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    theirs = op_counter.estimate_lemaire_energy(net, IMAGE, config=op_counter.LemaireEnergyConfig(strict=False))
    (counts,) = count_operations(net, IMAGE)
    assert lemaire(counts, 1, network_spikes=False).total_pj == pytest.approx(theirs.total_pj)


def test_spikesim_dense() -> None:
    net = network(False, groups=1)  # theirs leaves grouped convolutions out
    from spikingjelly.activation_based.op_counter.spikesim import estimate_spikesim_energy

    wrapped, layers = ours(net, IMAGE)
    functional.reset_net(net)
    theirs = estimate_spikesim_energy(net, IMAGE.expand(T, 1, 1, 8, 8), strict=False)
    functional.reset_net(net)
    assert sum(SpikeSim().energy_pj(c, T) for c in layers) == pytest.approx(theirs.energy_total_pj, rel=1e-12)
    assert energy_report(wrapped, IMAGE).total("spikesim_pj") == pytest.approx(theirs.energy_total_pj, rel=1e-12)
