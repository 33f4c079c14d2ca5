"""What all methods that exchange predictions on the public set share: the steps of FSD's Algorithm 1, three left open.

A client restarts, distils on what the server sent, trains on its own data and predicts the public set; the server
merges the predictions, distils its own network on the result and answers. A method says what a prediction is, how
predictions merge and what goes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    Message,
    MessageKind,
    Method,
    State,
)
from spikefed.federated.fewsteps import check_steps
from spikefed.federated.fitting import (
    DistillationHyperparameters,
    Goal,
    Term,
    augmented,
    distil_optimiser,
    fit,
    following,
    moments,
    rehearsal,
    resumed,
    scheduled,
)
from spikefed.federated.local import local_optimiser, train_locally, validate
from spikefed.federated.oldvotes import hooks_of, kept_votes
from spikefed.federated.strangers import quiet, strangeness
from spikefed.training import WeightAverage, outputs

Scope = AbstractContextManager[object]
"""Held while a network trains."""


@dataclass(frozen=True)
class Merged:
    """The server's merge of the uploads.

    Attributes:
        goal: what the server's network is distilled on.
        content: what `Distillation.downlink` needs to make its message.
        weights: merge weight by client.
        values: floats for the metrics file.
    """

    goal: Goal
    content: object
    weights: dict[int, float] = field(default_factory=dict[int, float])
    values: dict[str, float] = field(default_factory=dict[str, float])


def public_outputs(net: nn.Module, ctx: Context, rows: Tensor | None = None) -> Tensor:
    """Outputs on the public set (or some rows), float32 ``[R, C, T]``, without touching the network's mode."""
    return outputs(
        net,
        ctx.public if rows is None else ctx.public[rows],
        preprocess=ctx.preprocess,
        generator=ctx.generator,
        train_bn=ctx.hyper.train_bn_at_eval,
    )


class Distillation(Method):
    """The frame; numbers in comments are the lines of FSD's Algorithm 1 as listed in the specification."""

    name: ClassVar[str]
    summary: ClassVar[str]
    hyperparameters: ClassVar[type[Hyperparameters]] = DistillationHyperparameters
    uplink_kind: ClassVar[MessageKind | None]
    downlink_kind: ClassVar[MessageKind | None]
    public_rows: ClassVar[Literal["nobody", "server", "everyone"]] = "everyone"

    # What a method says.

    def client_goal(self, downlink: Message, ctx: ClientContext) -> Goal:
        """What a client distils on, from the server's message."""
        raise NotImplementedError

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[Message, State, dict[str, float]]:
        """The client's message, what to keep for its next round, and floats for the metrics.

        Args:
            net: the client's network after its own training.
            accuracy: on its validation part, from 0 to 1.
            state: what the client keeps.
            ctx: round, public set, hyperparameters.
        """
        raise NotImplementedError

    def merge(self, uplinks: Mapping[int, Message], state: State, ctx: Context) -> tuple[Merged, State]:
        """The server's merge, and what to keep for the next one."""
        raise NotImplementedError

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> Message:
        """The message of the next round; ``net`` is the server's network after distillation."""
        raise NotImplementedError

    def holding(
        self, optim: torch.optim.Optimizer, net: nn.Module, state: State, ctx: Context
    ) -> torch.optim.Optimizer:
        """The optimiser of a phase; a method that prunes holds the participant's mask with it, see `training.held`.

        Args:
            optim: fresh, or with the moments of the round before.
            net: what it will train.
            state: of the participant, before the round.
            ctx: round, hyperparameters, shapes.
        """
        return optim

    # The frame.

    def init_client(self, ctx: ClientContext) -> State:
        return {}

    def init_server(self, ctx: Context) -> tuple[State, Message | None]:
        check_steps(ctx.networks.network, ctx.hyper.rehearse_steps)
        return {"weights": ctx.networks.initial()}, None

    def client_round(
        self, state: State, downlink: Message | None, ctx: ClientContext
    ) -> tuple[State, Message, ClientReport]:
        hyper: DistillationHyperparameters = ctx.hyper
        # 1: reset the client's network
        goes_on = hyper.client_reset == "never" and "weights" in state
        mean = WeightAverage(hyper.average, state.get("average") if goes_on else None) if hyper.average else None
        if goes_on:
            net = ctx.networks.load(state["weights"])
        else:
            net = ctx.networks.load(ctx.networks.initial(None if hyper.client_reset == "common" else ctx.seed))
        keep = hyper.optimiser_state == "keep"
        kept: State = {}
        values = {}
        # 2-3: distil on what the server sent; in the first epoch it has sent nothing
        about = ctx.about_told()
        goal = self.client_goal(downlink, about) if downlink is not None else None
        if goal is not None:
            optim = distil_optimiser(net, hyper)
            optim = resumed(optim, state, "distil_moments") if keep else optim
            optim = self.holding(optim, net, state, ctx)
            with following(mean, net, optim):
                values["distil_loss"] = fit(net, goal, hyper.distil_epochs, about, optim)
            kept |= {"distil_moments": moments(optim)} if keep else {}
        # 4: train on D_iT
        optim = local_optimiser(net, ctx)
        optim = resumed(optim, state, "local_moments") if keep else optim
        optim = self.holding(optim, net, state, ctx)
        again, scope = self._beside(net, goal, about)
        with scope, following(mean, net, optim):
            values["train_loss"] = train_locally(net, ctx, optim, again)
        kept |= {"local_moments": moments(optim)} if keep else {}
        # 5-7: predict the public set, measure on D_iV, upload
        uplink, own, own_values = self.uplink(net, validate(net, ctx), state, ctx)
        if hyper.client_reset == "never":
            kept["weights"] = ctx.networks.weights(net)
        if mean is not None:
            kept["average"] = mean.state
        return kept | own, uplink, ClientReport({**values, **own_values})

    @staticmethod
    def _beside(net: nn.Module, goal: Goal | None, ctx: ClientContext) -> tuple[Term | None, Scope]:
        """What local training learns on public rows beside its own: what the server said, or silence before it did."""
        hyper: DistillationHyperparameters = ctx.hyper
        if goal is not None:
            again = rehearsal(net, goal, ctx, hyper.rehearse) if len(goal.target) and hyper.rehearse else None
            return again, goal.scope if again else nullcontext()
        weight = strangeness(ctx)
        still = Goal(torch.zeros(len(ctx.public)), quiet)
        return (rehearsal(net, still, ctx, weight) if weight else None), nullcontext()

    def server_round(
        self, state: State, uplinks: Mapping[int, Message], ctx: Context
    ) -> tuple[State, Message, Diagnostics]:
        hyper: DistillationHyperparameters = ctx.hyper
        # 9: merge the clients' predictions
        merged, own = self.merge(uplinks, state, ctx)
        # 10: distil the server's network, never reset
        net = ctx.networks.load(state["weights"])
        optim = distil_optimiser(net, hyper)
        keep = hyper.optimiser_state == "keep"
        optim = self.holding(resumed(optim, state, "moments") if keep else optim, net, state, ctx)
        mean = WeightAverage(hyper.average, state.get("average")) if hyper.average else None
        with following(mean, net, optim), scheduled(optim, merged.goal, ctx):
            hooks = hooks_of(state, merged.goal.loss, ctx)
            loss = fit(net, augmented(merged.goal, hyper), hyper.server_epochs, ctx, optim, hooks)
        new_state: State = {"weights": ctx.networks.weights(net)} | own | ({"moments": moments(optim)} if keep else {})
        new_state |= {"average": mean.state} if mean is not None else {}
        new_state |= kept_votes(state, merged.goal.target, merged.goal.rows, ctx)
        # 11-12: answer
        downlink = self.downlink(merged, net, ctx)
        return new_state, downlink, Diagnostics({"server_distil_loss": loss} | merged.values, merged.weights)

    def echo(self, weights: Mapping[str, Tensor], downlink: Message, ctx: Context) -> dict[str, Tensor]:
        """See `Method.echo`: distilled as the server's own network is, on what the server sent. Shapes stay."""
        hyper: DistillationHyperparameters = ctx.hyper
        net = ctx.networks.load(weights)
        # A goal is made from the message and what all participants share; there is no client here.
        goal = self.client_goal(downlink, cast(ClientContext, ctx))
        fit(net, goal, hyper.server_epochs, ctx, distil_optimiser(net, hyper))
        return ctx.networks.weights(net)

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        return ctx.networks.load(_measured(state))

    def client_network(self, state: State, ctx: Context) -> nn.Module | None:
        """The network that a client goes on with; none where it begins anew each round."""
        return ctx.networks.load(_measured(state)) if "weights" in state else None

    def taken_home(self, state: State, ctx: Context) -> nn.Module:
        """The client's own network after its step; of a client that begins anew each round the mean too."""
        mean = state.get("average", {}).get("tensors")
        return ctx.networks.load(mean) if mean else super().taken_home(state, ctx)


def _measured(state: State) -> dict[str, Tensor]:
    """Weights of the network that is measured: the mean where there is one. Shapes are the network's."""
    return state.get("average", {}).get("tensors") or state["weights"]
