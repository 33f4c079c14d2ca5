"""Time in own networks: state that is carried from step to step, sequences, single-step neurons in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from networks.test_adapter import JellyNode, OverTime, TorchLeaky, body
from networks.test_promises import CLASSES, SHAPE, STEPS, check, made
from spikefed.errors import ConfigError
from spikefed.networks import wrap
from spikefed.neurons import LIF


class Stepped(nn.Module):
    """Returns its state and takes it back: the manner of norse's cells and of what nirtorch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, CLASSES)
        nn.init.constant_(self.fc.weight, 0.05)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        current = self.fc(x.flatten(1))
        mem = current if state is None else 0.9 * state["mem"] + current
        spikes = (mem > 1.0).float()
        return spikes, {"mem": mem * (1 - spikes)}


class SteppedInTwo(Stepped):
    def forward(self, x: Tensor, syn: Any = None, mem: Any = None) -> Any:  # type: ignore[override]
        spikes, new = super().forward(x, None if mem is None else {"mem": mem})
        return spikes, x, new["mem"]


def by_hand(net: nn.Module, images: Tensor) -> Tensor:
    outs, state = [], None
    for _ in range(STEPS):
        out, state = net(images, state)
        outs.append(out)
    return torch.stack(outs)


def test_state_that_is_returned_goes_into_the_next_step() -> None:
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    one = Stepped()
    expected = by_hand(one, images)
    assert len(expected.unique(dim=0)) > 1  # the steps differ
    torch.manual_seed(0)
    two = SteppedInTwo()
    for module, carried in ((one, ("state",)), (two, ("syn", "mem"))):
        net = check(module)
        assert net.mode == "step" and net.carried == carried
        assert torch.equal(net(images), expected) and torch.equal(net(images), expected)


def test_gradients_go_back_through_the_carried_state() -> None:
    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, CLASSES)

        def forward(self, x: Tensor, state: Any = None) -> Any:
            mem = self.fc(x.flatten(1)) + (0 if state is None else 0.5 * state)
            return mem, mem

    net = wrap(Smooth(), steps=2, classes=CLASSES, readout="current")
    net(torch.ones(1, *SHAPE))[1].sum().backward()
    assert torch.allclose(net.module.fc.weight.grad, torch.full((CLASSES, 16), 1.5))


def test_a_state_of_another_name_is_asked_about() -> None:
    class Odd(Stepped):
        def forward(self, x: Tensor, memory: Any = None) -> Any:  # type: ignore[override]
            return super().forward(x, memory)

    class Unrelated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(16, CLASSES)

        def forward(self, x: Tensor, mask: Any = None) -> Any:
            current = self.fc(x.flatten(1))
            return (current > 0).float(), current if mask is None else current[:, :, None] * mask[None, :, :2]

    with pytest.raises(ConfigError, match="its parameter 'memory' takes; call that parameter 'state'"):
        check(Odd)
    assert check(Unrelated).carried == ()


class Layers(nn.Module):
    """A sequence network: layers without time over ``[T, B, ...]``, neurons as given."""

    def __init__(self, *neurons: nn.Module) -> None:
        super().__init__()
        parts = body(*neurons)
        self.hidden, self.first = OverTime(nn.Sequential(parts[0], parts[1])), parts[2]
        self.out, self.last = OverTime(parts[3]), parts[4]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.out(self.first(self.hidden(x))))


class OwnNeuron(nn.Module):
    """No name that tells a neuron; one step a call, and its membrane in whatever shape came."""

    def __init__(self) -> None:
        super().__init__()
        self.level = 1.0
        self.mem: Any = 0.0

    def reset(self) -> None:
        self.mem = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.mem = 0.9 * self.mem + x
        return (self.mem > self.level).float()


@pytest.mark.parametrize(
    ("net", "place"),
    [
        (lambda: Layers(JellyNode("m"), JellyNode("s")), r"'last' \(JellyNode\)"),
        (lambda: Layers(JellyNode("s"), JellyNode("m")), r"'first' \(JellyNode\)"),
        (lambda: Layers(LIF(decay=0.5), TorchLeaky()), r"'last' \(TorchLeaky\)"),
        (lambda: Layers(LIF(decay=0.5), OwnNeuron()), r"'last' \(OwnNeuron\)"),
    ],
)
def test_a_single_step_neuron_given_a_sequence_is_refused_with_the_cure(net: Any, place: str) -> None:
    with pytest.raises(ConfigError, match=f"layer {place} works on one time step but is given the whole sequence"):
        check(net)


def test_sequences_that_are_taken_as_sequences_pass() -> None:
    for net in (lambda: Layers(JellyNode("m"), JellyNode("m")), lambda: Layers(LIF(decay=0.5), LIF(decay=0.0))):
        assert check(net).mode == "sequence"


def test_a_pruned_module_can_be_given_after_it_has_run() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES), LIF(decay=0.5))
    prune.l1_unstructured(module[1], "weight", 0.5)
    net = Layers(LIF(decay=0.5), LIF(decay=0.5))
    prune.l1_unstructured(net.hidden.layer[1], "weight", 0.5)
    net(torch.rand(STEPS, 2, *SHAPE))
    twin = made(net).module
    assert torch.equal(twin.hidden.layer[1].weight, net.hidden.layer[1].weight)
    assert net.hidden.layer[1].weight.grad_fn is not None and "hidden.layer.1.weight_mask" in twin.state_dict()
