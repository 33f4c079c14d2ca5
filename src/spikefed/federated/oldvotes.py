"""What a public set remembers in a run of stages: the vote at the end of every stage, kept by the server.

Public rows have no labels and nobody's privacy, and the server has them anyway: what the clients said of them when a
task was fresh costs no byte to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.federated.contract import Context, State
from spikefed.networks.monitor import device_of
from spikefed.training import StepHook

VOTES = "old_votes"
"""Where the server's state keeps them: by stage, ``target`` and, where it speaks of some rows only, ``rows``."""

VoteLoss = Callable[[Tensor, Tensor], Tensor]
"""``(outputs [T, B, C], target of the batch) -> scalar``."""


class OldVotes(StepHook):
    """Every step of the server's distillation also learns a batch of rows as the vote of one stage before had them.

    Args:
        kept: votes by stage, not empty.
        strength: factor of the term.
        batch: rows of a step.
        loss: of the method.
        ctx: public set, preprocessing.
    """

    def __init__(
        self, kept: Mapping[str, Mapping[str, Tensor]], strength: float, batch: int, loss: VoteLoss, ctx: Context
    ) -> None:
        self._kept = [kept[key] for key in sorted(kept, key=int)]
        self._strength = strength
        self._batch = batch
        self._loss = loss
        self._ctx = ctx

    def term(self, net: nn.Module, x: Tensor, outputs: Tensor, generator: torch.Generator) -> Tensor | None:
        # The stage is drawn anew every step, so that a step costs one more batch whatever the number of stages.
        vote = self._kept[int(torch.randint(len(self._kept), (), generator=generator))]
        target = vote["target"]
        pick = torch.randint(len(target), (min(self._batch, len(target)),), generator=generator)
        rows = vote["rows"][pick] if "rows" in vote else pick
        device = device_of(net)
        said = net(self._ctx.preprocess(self._ctx.public[rows].to(device)), generator=generator)
        return self._strength * self._loss(said, target[pick].to(device))


def hooks_of(state: State, loss: VoteLoss, ctx: Context) -> list[StepHook]:
    """The hook of a round's distillation at the server; none where nothing is kept yet.

    Args:
        state: the server's.
        loss: of the method, on its targets.
        ctx: the server's context of the round.
    """
    kept = {key: vote for key, vote in state.get(VOTES, {}).items() if len(vote["target"])}
    if not ctx.hyper.old_votes or not kept:
        return []
    return [OldVotes(kept, ctx.hyper.old_votes, ctx.hyper.distil_batch, loss, ctx)]


def kept_votes(state: State, target: Tensor, rows: Tensor | None, ctx: Context) -> dict[str, Any]:
    """What the server's state keeps: the votes so far, and this round's where it ends a stage.

    Args:
        state: before the round.
        target: the merged vote, ``[R, ...]``.
        rows: public rows that it speaks of, ``[R]``; None: all.
        ctx: the server's context of the round.
    """
    calendar = ctx.networks.calendar
    if not ctx.hyper.old_votes or calendar is None:
        return {}
    votes = dict(state.get(VOTES, {}))
    if calendar.ends(ctx.round):
        votes[str(calendar.stage(ctx.round))] = {"target": target} | ({} if rows is None else {"rows": rows})
    return {VOTES: votes} if votes else {}
