"""What an own network must keep to is found by running it: no memory between batches, no time taken for the batch."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from networks.test_adapter import JellyNode, body
from spikefed.errors import ConfigError
from spikefed.federated import NetworkFactory
from spikefed.networks import build, build_own, check_promises, copy_tensors, wrap
from spikefed.networks.state import Fresh, hidden_tensors, reset
from spikefed.neurons import LIF

STEPS, CLASSES, SHAPE = 5, 3, (1, 4, 4)


def made(source: Any, **changes: Any) -> Any:
    return build_own(source, **{"input_shape": SHAPE, "classes": CLASSES, "steps": STEPS} | changes)


def check(source: Any, **changes: Any) -> Any:
    net = made(source, **changes)
    check_promises(net, "mine:Net", SHAPE)
    return net


class Remembers(nn.Module):
    """One step a call; a membrane that nobody clears."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, CLASSES)
        self.mem: Any = None

    def forward(self, x: Tensor) -> Tensor:
        current = self.fc(x.flatten(1))
        old = 0.0 if self.mem is None or self.mem.shape != current.shape else self.mem
        self.mem = 0.9 * old + current
        return (self.mem > 0.3).float()


class RemembersInBuffer(Remembers):
    def __init__(self) -> None:
        super().__init__()
        del self.mem
        self.register_buffer("mem", torch.zeros(1, CLASSES), persistent=False)


class RemembersInTraining(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            self.mem = None
        return super().forward(x)


class RemembersSlowly(Remembers):
    """Silent at the strength of pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(0.05 * x)


class RemembersInAList(Remembers):
    def __init__(self) -> None:
        super().__init__()
        self.states = [torch.zeros(1)]

    def forward(self, x: Tensor) -> Tensor:
        self.mem = self.states[0] if self.states[0].dim() == 2 else None
        out = super().forward(x)
        self.states[0] = self.mem
        return out


class WithReset(Remembers):
    """A user's own manner of clearing."""

    def reset(self) -> None:
        self.mem = None


class Inside(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (Remembers, "hidden state in mem"),
        (RemembersInBuffer, "hidden state in mem"),
        (RemembersInTraining, "hidden state in mem"),
        (RemembersSlowly, "hidden state in mem"),
        (RemembersInAList, r"hidden state in mem, states\.0|hidden state in states\.0"),
        (lambda: Inside(Remembers()), r"hidden state in part\.mem"),
    ],
)
def test_a_network_that_remembers_is_refused_with_the_cure(source: Any, where: str) -> None:
    with pytest.raises(ConfigError, match=where) as error:
        check(source)
    assert "network.state = 'keep'" in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("network.name 'mine:Net' gives other outputs when the same images come again")


def test_draws_that_no_seed_reaches_are_refused_too() -> None:
    class OfItsOwn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.draws = nn.Linear(16, CLASSES), np.random.default_rng()

        def forward(self, x: Tensor) -> Tensor:
            return (self.fc(x.flatten(1)) > float(self.draws.normal())).float()

    with pytest.raises(ConfigError, match="a state or a generator that is not seen from here"):
        check(OfItsOwn)


def test_what_every_call_clears_or_every_seed_reaches_passes() -> None:
    class Draws(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.drop, self.seen = nn.Linear(16, CLASSES), nn.Dropout(0.5), 0

        def forward(self, x: Tensor) -> Tensor:
            self.seen += 1  # counted, never used
            level = random.random() + float(np.random.rand()) + float(torch.rand(()))  # noqa: NPY002
            return (self.drop(self.fc(x.flatten(1))) > 0.1 * level).float()

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm, self.lif = nn.Linear(16, CLASSES), nn.BatchNorm1d(CLASSES), LIF(decay=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.norm(self.fc(x.flatten(1))).expand(STEPS, -1, -1))

    for source in (Draws, Normed, WithReset, lambda: body(JellyNode(), JellyNode()), lambda: Inside(WithReset())):
        net = made(source)
        before = copy_tensors(net)
        check_promises(net, "mine:Net", SHAPE)
        assert all(torch.equal(t, before[n]) for n, t in copy_tensors(net).items())
    check_promises(build("4C3", input_shape=SHAPE, classes=3, steps=2), "4C3", SHAPE)
    check_promises(wrap(body(JellyNode(), JellyNode()), steps=STEPS, classes=CLASSES), "mine:Net", SHAPE)


def test_state_that_is_saved_with_the_weights_may_not_follow_the_batch() -> None:
    class Saved(Remembers):
        def __init__(self) -> None:
            super().__init__()
            del self.mem
            self.register_buffer("mem", torch.zeros(1))

    with pytest.raises(ConfigError, match="'mem' is saved with the weights and changes its shape .*persistent=False"):
        check(Saved)


# Kept on purpose.


def test_kept_state_goes_from_batch_to_batch_and_ends_with_the_step() -> None:
    for source in (Remembers, RemembersInBuffer, RemembersInAList):
        net = check(source, state="keep")
        images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
        net.fresh()
        first, second = net(images), net(images)
        assert not torch.equal(first, second)
        net.fresh()
        assert torch.equal(net(images), first) and torch.equal(net(images), second)
        twin = copy.deepcopy(net)
        twin.fresh()
        assert torch.equal(twin(images), first)


def test_gradients_of_kept_state_end_with_the_batch() -> None:
    class Currents(Remembers):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            return self.mem

    net = check(Currents, state="keep", readout="current")
    for _ in range(2):
        net(torch.ones(2, *SHAPE)).sum().backward()
    assert net.module.mem.grad_fn is None and net.module.fc.weight.grad.any()


def test_a_factory_gives_every_participant_a_fresh_network() -> None:
    factory = NetworkFactory(lambda seed: made(Remembers, state="keep", seed=seed), seed=0)
    images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = factory.load()(images)
        assert not torch.equal(factory.network(images), first)
        assert torch.equal(factory.load()(images), first)


def test_what_the_observation_left_behind_is_no_state() -> None:
    net = made(Remembers, state="keep")
    assert net.module.mem is None


class Elsewhere(Remembers):
    held: Any = {}

    def forward(self, x: Tensor) -> Tensor:
        self.mem = self.held.get("mem")
        out = super().forward(x)
        Elsewhere.held["mem"] = self.mem
        return out


def test_state_that_cannot_be_brought_back_is_refused() -> None:
    Elsewhere.held.clear()
    with pytest.raises(ConfigError, match="its state is somewhere that network.state = 'keep' does not reach"):
        check(Elsewhere, state="keep")

    class Locked(Remembers):
        def __init__(self) -> None:
            super().__init__()
            self.lines = (number for number in range(3))

    with pytest.raises(ConfigError, match="network.state = 'keep' needs state that can be copied"):
        check(Locked, state="keep")


def test_fresh_forgets_attributes_that_came_later_and_leaves_the_weights() -> None:
    module = Remembers()
    fresh, weight = Fresh(module), module.fc.weight
    module(torch.ones(2, *SHAPE))
    module.later = torch.ones(1)
    assert set(hidden_tensors(module)) == {"mem", "later"}
    fresh.restore(module)
    assert module.mem is None and not hasattr(module, "later") and module.fc.weight is weight


# What is reset.


class Redraws(nn.Linear):
    def reset(self) -> None:
        nn.init.normal_(self.weight)


class Zeroes(nn.Linear):
    def reset(self) -> None:
        nn.init.zeros_(self.weight)


class AsksForASeed(nn.Linear):
    def reset(self, seed: int) -> None:
        raise AssertionError


class ForgetsStatistics(nn.BatchNorm1d):
    def reset(self) -> None:
        self.reset_running_stats()


class RedrawsABuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("reservoir", torch.rand(3, 3))

    def reset(self) -> None:
        self.reservoir.uniform_()


@pytest.mark.parametrize(
    "part",
    [Redraws(3, 3), Zeroes(3, 3), AsksForASeed(3, 3), ForgetsStatistics(3), RedrawsABuffer()],
    ids=lambda part: type(part).__name__,
)
def test_a_reset_that_touches_more_than_state_is_never_called(part: nn.Module) -> None:
    with torch.no_grad():
        for tensor in part.state_dict().values():
            tensor.add_(1)
    before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    reset(nn.Sequential(part))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in part.state_dict().items())


def test_a_membrane_in_a_saved_buffer_is_cleared() -> None:
    class Saved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mem", torch.zeros(3))

        def reset(self) -> None:
            self.mem.zero_()

    part = Saved()
    part.mem.add_(1)
    reset(part)
    assert not part.mem.any()


def test_neurons_that_came_in_later_are_cleared_and_other_networks_are_not() -> None:
    net, other = body(JellyNode(), JellyNode()), body(JellyNode(), JellyNode())
    reset(net)
    net[2] = JellyNode()
    for module in (net, other):
        module(torch.full((2, *SHAPE), 3.0))
    reset(net)
    assert net[2].v == 0.0 and isinstance(other[2].v, Tensor)


def test_a_module_that_python_cannot_copy_is_one_sentence() -> None:
    module = Remembers()
    module.lines = (number for number in range(3))  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="network Remembers cannot be copied .*give its class or a function"):
        made(module)
