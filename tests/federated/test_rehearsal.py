"""Public rows beside local training: how often (`rehearse_every`), and how many at a time (`rehearse_batch`)."""

from __future__ import annotations

import pytest
import torch

from federated.tiny import PUBLIC, World
from spikefed.federated.distillation import Goal, rehearsal
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
