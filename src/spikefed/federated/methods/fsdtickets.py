"""FSD between sparse students: tickets (Kim et al., ECCV 2022) where no weights travel.

Nobody can hand out a mask in FSD: every participant prunes its own student, clients from their own training, the server
from its distilled network, by magnitude and one global threshold each. A client that begins
every round with the common initial weights then trains a ticket in the paper's sense. Spikes of the first T' steps
travel both ways, and networks run no more steps than those on the public set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import (
    ClientContext,
    Context,
    Diagnostics,
    Hyperparameters,
    Message,
    NetworkFactory,
    State,
)
from spikefed.federated.distillation import Goal
from spikefed.federated.fewsteps import check_shorter, cut_images, shortened
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters
from spikefed.federated.secure import Votes
from spikefed.federated.setup import Setup
from spikefed.federated.ticketsearch import packed, unpacked
from spikefed.networks.roles import prunable
from spikefed.training import Mask, density, held, magnitudes, mask_of_best
from spikefed.wire import SpikeDownlink, SpikeUplink


class FsdTicketHyperparameters(FsdHyperparameters):
    """Hyperparameters of pruning beside those of FSD."""

    sparsities: list[float] = Field(
        default=[0.9], description="share of the weights that is gone after each pruning, rising in (0, 1)"
    )
    level_rounds: int = Field(
        default=1, ge=1, description="dense rounds before the first pruning, and rounds between two prunings"
    )
    sent_steps: int = Field(
        default=0, ge=0, description="T': the first time steps whose spikes travel both ways; 0: all of them"
    )

    @field_validator("sparsities")
    @classmethod
    def _rising(cls, value: list[float]) -> list[float]:
        if not value or any(not 0 < s < 1 for s in value) or sorted(set(value)) != value:
            raise ValueError("give sparsities that rise within (0, 1), such as [0.5, 0.8, 0.9]")
        return value

    def unused(self, rounds: int) -> tuple[str, ...]:
        """See `Hyperparameters.unused`: sparsities that no round trains."""
        for place, share in enumerate(self.sparsities, start=1):
            if (last := place * self.level_rounds) >= rounds:
                return (
                    f"method.sparsities: {share:g} is not trained in this run, as its first round is {last + 1} "
                    f"(method.level_rounds) and there are {rounds}",
                )
        return ()

    def sparsity(self, round: int) -> float:
        """Of students in a round, from 1: 0 in the first ``level_rounds``."""
        level = min((round - 1) // self.level_rounds, len(self.sparsities))
        return self.sparsities[level - 1] if level else 0.0


class FsdTickets(Fsd):
    """FSD whose students prune themselves and whose messages hold the first T' time steps."""

    name: ClassVar[str] = "fsd-tickets"
    title: ClassVar[str] = "FSD tickets"
    summary: ClassVar[str] = "FSD between students that prune themselves, on the spikes of the first steps"
    hyperparameters: ClassVar[type[Hyperparameters]] = FsdTicketHyperparameters

    def check(self, hyper: Any, setup: Setup) -> None:
        super().check(hyper, setup)
        last = len(hyper.sparsities) * hyper.level_rounds
        if setup.rounds and setup.rounds < last:
            raise ConfigError(
                f"the last of {len(hyper.sparsities)} prunings, one every {hyper.level_rounds} rounds, comes after "
                f"round {last} but the run has {setup.rounds}; set rounds above {last}, or fewer sparsities"
            )

    def exchanges(self, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory) -> tuple[Any, Any]:
        """See `Method.exchanges`: rows, classes and the steps that are sent.

        Raises:
            ConfigError: more steps than there are, or fewer where the network's steps cannot be changed.
        """
        rows, classes, steps = shape
        if hyper.sent_steps > steps:
            raise ConfigError(
                f"method.sent_steps = {hyper.sent_steps} but the network has {steps} time steps; use 1 to {steps}, or 0"
            )
        if 0 < hyper.sent_steps < steps:
            check_shorter(networks.network)
        return super().exchanges(hyper, (rows, classes, hyper.sent_steps or steps), networks)

    def holding(
        self, optim: torch.optim.Optimizer, net: nn.Module, state: State, ctx: Context
    ) -> torch.optim.Optimizer:
        """See `Distillation.holding`: what the participant pruned away is and stays 0.

        Args:
            optim: of a phase.
            net: what it trains.
            state: has the participant's mask, once it pruned.
            ctx: for shapes.
        """
        mask = _mask(state, ctx)
        return optim if mask is None else held(optim, mask.on(net))

    # The client's side.

    def client_goal(self, downlink: SpikeDownlink, ctx: ClientContext) -> Goal:
        return _shorter(super().client_goal(downlink, ctx), ctx)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[SpikeUplink | Message | Votes, State, dict[str, float]]:
        steps = ctx.hyper.sent_steps
        with _running(net, steps):
            shown = dataclasses.replace(ctx, public=cut_images(ctx.public, steps))
            message, own, values = super().uplink(net, accuracy, state, shown)
        mask = _mask(state, ctx)
        kept = {"mask_density": density(mask)} if mask is not None else {"mask_density": 1.0}
        return message, {**own, **_pruned(ctx.networks.weights(net), state, ctx)}, {**values, **kept}

    # The server's side.

    def merge(self, uplinks: Mapping[int, Any], state: State, ctx: Context) -> tuple[Any, State]:
        merged, own = super().merge(uplinks, state, ctx)
        return dataclasses.replace(merged, goal=_shorter(merged.goal, ctx)), own

    def server_round(
        self, state: State, uplinks: Mapping[int, Message], ctx: Context
    ) -> tuple[State, Message, Diagnostics]:
        new, downlink, said = super().server_round(state, uplinks, ctx)
        mask = _mask(state, ctx)
        result = {} if mask is None else {"result_mask": dict(mask.kept)}
        values = {**said.values, "mask_density": 1.0 if mask is None else density(mask)}
        return {**new, **_pruned(new["weights"], state, ctx), **result}, downlink, Diagnostics(values, said.weights)

    def server_mask(self, state: State) -> Mask | None:
        """The mask under which the round's network was trained, not that of the next round."""
        return Mask(state["result_mask"]) if "result_mask" in state else None


def _mask(state: State, ctx: Context) -> Mask | None:
    """A participant's own mask; None while it is dense."""
    return unpacked(state["mask"], _dense(ctx)) if "mask" in state else None


def _dense(ctx: Context) -> Mask:
    weights = ctx.networks.initial()
    names = prunable(weights, ctx.networks.roles)
    return Mask({name: torch.ones(weights[name].shape, dtype=torch.bool) for name in weights if name in names})


def _pruned(weights: Mapping[str, Tensor], state: State, ctx: Context) -> State:
    """The mask of the participant's next round, within its own before, packed; nothing while it is dense."""
    sparsity = ctx.hyper.sparsity(ctx.round + 1)
    before = _mask(state, ctx)
    if not sparsity:
        return {}
    if before is not None and ctx.hyper.sparsity(ctx.round) == sparsity:
        return {"mask": state["mask"]}
    like = _dense(ctx)
    return {"mask": packed(mask_of_best(magnitudes(weights, like.kept), sparsity, before))}


def _shorter(goal: Goal, ctx: Context) -> Goal:
    """The goal on the steps that were sent."""
    steps = ctx.hyper.sent_steps
    if not steps:
        return goal
    return dataclasses.replace(goal, steps=steps, loss=lambda outputs, target: goal.loss(outputs[:steps], target))


def _running(net: nn.Module, steps: int) -> AbstractContextManager[object]:
    return shortened(net, steps) if steps else nullcontext()
