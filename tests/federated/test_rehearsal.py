"""Public rows beside local training: how often (`rehearse_every`), and how many at a time (`rehearse_batch`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from federated.tiny import PUBLIC, World
from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.federated.distillation import Goal, rehearsal
from spikefed.federated.fewsteps import check_steps, first_steps
from spikefed.federated.methods.fsdplus import FsdPlusHyperparameters


@pytest.mark.parametrize("every", [1, 3])
def test_the_weight_of_a_round_is_the_same_however_often_rows_are_rehearsed(every: int) -> None:
    where = World(FsdPlusHyperparameters(rehearse_every=every, distil_batch=6))
    seen: list[int] = []

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(len(target))
        return outputs.new_tensor(1.0)

    ctx = where.client(0)
    net = ctx.networks.load(ctx.networks.initial())
    term = rehearsal(net, Goal(torch.zeros(PUBLIC), loss), ctx, 2.0)
    values = [float(term(torch.zeros(4, 5, 3), torch.zeros(5, dtype=torch.int64))) for _ in range(6)]
    assert sum(values) == 12.0 and values[0] == 2.0 * every
    assert seen == [6] * (6 // every), "rows are shown in those steps alone"


@pytest.mark.parametrize(("asked", "shown"), [(0, 6), (2, 2), (500, PUBLIC)])
def test_a_batch_of_rehearsal_has_a_size_of_its_own(asked: int, shown: int) -> None:
    where = World(FsdPlusHyperparameters(rehearse_batch=asked, distil_batch=6))
    seen: list[int] = []

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(len(target))
        return outputs.new_tensor(1.0)

    ctx = where.client(0)
    net = ctx.networks.load(ctx.networks.initial())
    term = rehearsal(net, Goal(torch.zeros(PUBLIC), loss), ctx, 2.0)
    assert float(term(torch.zeros(4, 5, 3), torch.zeros(5, dtype=torch.int64))) == 2.0, "the weight is of a batch"
    assert seen == [shown]


@pytest.mark.parametrize(("asked", "shown"), [(0, 4), (1, 1), (3, 3), (4, 4)])
def test_a_batch_of_rehearsal_runs_for_its_first_steps(asked: int, shown: int) -> None:
    where = World(FsdPlusHyperparameters(rehearse_steps=asked, distil_batch=6))
    seen: list[tuple[int, int]] = []

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append((len(outputs), target.shape[2]))
        return outputs.new_tensor(1.0)

    net = spiking()
    images = torch.rand(4, 1, 8, 8)
    term = rehearsal(net, Goal(torch.zeros(PUBLIC, 3, 4), loss), shown_to(where, net), 1.0)
    term(net(images), torch.zeros(4, dtype=torch.int64))
    assert seen == [(shown, shown)] and net.steps == 4, "a network has all its steps again"


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_rows_with_a_time_axis_are_shown_for_their_first_steps(steps: int) -> None:
    net = spiking()
    where = World(FsdPlusHyperparameters(rehearse_steps=steps, distil_batch=PUBLIC))
    series = torch.rand(PUBLIC, 4, *net.input_shape, generator=torch.Generator().manual_seed(5))
    shown = series[:, : steps or 4]
    seen: list[torch.Tensor] = []

    def preprocess(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    ctx = replace(shown_to(where, net), public=series, preprocess=preprocess)
    term = rehearsal(net, Goal(torch.zeros(PUBLIC, 3, 4), lambda outputs, target: outputs.sum()), ctx, 1.0)
    term(torch.zeros(4, 5, 3), torch.zeros(5, dtype=torch.int64))
    assert seen[0].shape == shown.shape and all(any(torch.equal(x, row) for row in shown) for x in seen[0])


def spiking(**more: str) -> nn.Module:
    """A small network of four steps for images ``[1, 8, 8]``."""
    draws = torch.Generator().manual_seed(3)
    net = networks.build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=4, generator=draws, **more)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(4.0)
    return net


def shown_to(where: World, net: nn.Module) -> Any:
    """The context of a client whose public rows suit the network."""
    draws = torch.Generator().manual_seed(4)
    where.public = torch.randint(0, 256, (PUBLIC, *net.input_shape), generator=draws, dtype=torch.uint8)
    return where.client(0)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_first_steps_are_those_of_a_longer_run(steps: int) -> None:
    net = spiking().eval()
    images = torch.rand(7, 1, 8, 8)
    every = net(images)
    with first_steps(net, steps):
        few = net(images)
    assert every.any() and torch.equal(few, every[:steps]) and net.steps == 4


def test_steps_that_a_network_cannot_run_for_are_refused_before_anything_is_trained() -> None:
    check_steps(spiking(), 4)
    check_steps(spiking(norm="bntt"), 4)
    check_steps(spiking(norm="bntt"), 0)
    with pytest.raises(ConfigError, match=r"rehearse_steps = 5 is more than network.steps = 4"):
        check_steps(spiking(), 5)
    with pytest.raises(ConfigError, match=r"rehearse_steps = 2 does not go with norm 'bntt'"):
        check_steps(spiking(norm="bntt"), 2)


def test_a_network_that_makes_its_own_steps_is_refused_fewer() -> None:
    own = networks.wrap(spiking(), steps=4, classes=3, mode="images")
    check_steps(own, 0)
    check_steps(own, 4)
    with pytest.raises(ConfigError, match=r"rehearse_steps = 2 does not go with \w+, which takes whole images"):
        check_steps(own, 2)
    check_steps(networks.wrap(nn.Linear(2, 3), steps=4, classes=3, mode="step"), 2)
