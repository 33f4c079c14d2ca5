"""What all methods that exchange predictions on the public set share: the steps of FSD's Algorithm 1, three left open.

A client restarts, distils on what the server sent, trains on its own data and predicts the public set; the server
merges the predictions, distils its own network on the result and answers. A method says what a prediction is, how
predictions merge and what goes back.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
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
from spikefed.federated.fewsteps import check_steps, cut_images, first_steps, shortened
from spikefed.federated.local import LocalTraining, local_optimiser, train_locally, validate
from spikefed.federated.oldvotes import hooks_of, kept_votes
from spikefed.federated.robust import Vote
from spikefed.federated.strangers import quiet, strangeness
from spikefed.training import (
    AUGMENTATIONS,
    StepHook,
    WeightAverage,
    batches,
    half_cosine,
    optimiser,
    outputs,
    train,
)


class DistillationHyperparameters(LocalTraining):
    """Hyperparameters of distillation beside those of local training."""

    distil_epochs: int = Field(
        default=5, ge=0, description="client epochs on what the server sent, per round [FSD 4.1.2: 5]"
    )
    rehearse: float = Field(
        default=0.0,
        ge=0,
        description="weight of the same loss in local training, on a batch of public rows a step, so that what was "
        "distilled is not forgotten; 0: never [FSD]",
    )
    rehearse_every: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="local steps for each batch of public rows, which weighs that many times as much: what rehearsal "
        "costs a client falls by this factor",
        json_schema_extra={"since": "0.2"},
    )
    rehearse_batch: int = Field(
        default=0,
        ge=0,
        le=10**6,
        description="public rows in a batch of rehearsal; 0: distil_batch",
        json_schema_extra={"since": "0.2"},
    )
    rehearse_steps: int = Field(
        default=0,
        ge=0,
        le=10**4,
        description="time steps that a batch of rehearsal runs for, the first ones; what it costs falls with them; "
        "0: all of the network's",
        json_schema_extra={"since": "0.2"},
    )
    server_epochs: int = Field(
        default=5, ge=0, description="server epochs on the merged predictions, per round [FSD 4.1.2: 5]"
    )
    server_schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="learning rate over the server's epochs of a round: distil_lr throughout, or falling from it to 0 "
        "along half a cosine [Loshchilov & Hutter 2017]",
        json_schema_extra={"since": "0.2"},
    )
    server_augment: Literal["none", "flip", "shift", "shift-flip", "crop", "crop-flip"] = Field(
        default="none",
        description="augmentation of public images in the server's epochs alone; clients see them as they are",
        json_schema_extra={"since": "0.2"},
    )
    distil_batch: int = Field(default=50, ge=1, description="public rows per distillation step [FSD authors' code: 50]")
    distil_lr: float = Field(
        default=1e-3, gt=0, le=1e3, description="learning rate of distillation [FSD 4.1.3: 1e-5, our default 1e-3]"
    )
    client_reset: Literal["common", "own", "never"] = Field(
        default="common",
        description="weights a client restarts from each round: the common initial ones, its own, or its last",
    )
    optimiser_state: Literal["discard", "keep"] = Field(
        default="discard", description="Adam state between phases of one kind [authors' code: discard]"
    )
    average: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay a step of a running mean of each network's weights over its training: the mean is measured "
        "and taken home, the network itself trains on and answers; 0: off [FSD]",
        json_schema_extra={"since": "0.2"},
    )
    silence: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="weight of silence on the public rows beside local training as long as the server has said "
        "nothing, times the share of the classes that the client lacks: who knows few classes keeps still on rows of "
        "others; 0: off [FSD]",
        json_schema_extra={"since": "0.2"},
    )
    old_votes: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="weight at the server of the votes at the end of stages before, which it keeps; 0: off",
        json_schema_extra={"since": "0.2"},
    )
    vote: Vote = Field(
        default="weighted", description="how uploads are merged [the papers: weighted]; see docs/privacy.md"
    )
    liars: int = Field(default=1, ge=0, description="clients assumed to lie, vote 'trimmed'")


Term = Callable[[Tensor, Tensor], Tensor]
"""A term of a loss, of outputs ``[T, B, C]`` and labels ``[B]``."""
Scope = AbstractContextManager[object]
"""Held while a network trains."""


@dataclass(frozen=True)
class Goal:
    """What a network is distilled on.

    Attributes:
        target: one entry a row, ``[R, ...]``.
        loss: ``(outputs [T, B, C], target of the batch) -> scalar``.
        rows: public rows that the target speaks of, int64 ``[R]``; None: all, in order.
        augment: changes the images of a batch, ``(images, generator) -> images``.
        scope: held while the network trains (hooks that the loss reads).
        steps: time steps that the network runs in distillation, the first ones; 0: all of its own.
    """

    target: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    rows: Tensor | None = None
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    scope: AbstractContextManager[object] = nullcontext()
    steps: int = 0


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


def following(mean: WeightAverage | None, net: nn.Module, optim: torch.optim.Optimizer) -> AbstractContextManager[None]:
    """While it is open the mean, if there is one, counts the steps of ``optim`` on ``net``."""
    return nullcontext() if mean is None else mean.follows(net, optim)


def fit(
    net: nn.Module,
    goal: Goal,
    epochs: int,
    ctx: Context,
    optim: torch.optim.Optimizer,
    hooks: Sequence[StepHook] = (),
) -> float:
    """Distil ``net`` in place on public rows; returns the last epoch's mean loss (nan without rows).

    Args:
        net: the student, changed in place.
        goal: public rows and their targets.
        epochs: passes over the rows.
        ctx: hyperparameters, public set and randomness.
        optim: steps the student.
        hooks: what else happens in a step.
    """
    hyper: DistillationHyperparameters = ctx.hyper
    images = ctx.public if goal.rows is None else ctx.public[goal.rows]
    with goal.scope, shortened(net, goal.steps) if goal.steps else nullcontext():
        return train(
            net,
            cut_images(images, goal.steps),
            goal.target,
            goal.loss,
            optim,
            epochs=epochs,
            batch_size=hyper.distil_batch,
            preprocess=ctx.preprocess,
            generator=ctx.generator,
            shuffle=hyper.shuffle,
            augment=goal.augment,
            hooks=hooks,
        )


def rehearsal(net: nn.Module, goal: Goal, ctx: Context, weight: float) -> Term:
    """A term of the loss of local training: the goal on a random batch of its rows, times the weight.

    It is 0 but for every `rehearse_every`-th step.
    The term takes images ``[B, ...]`` and labels ``[B]`` and is a scalar.

    Args:
        net: the network in training.
        goal: public rows and their targets.
        ctx: hyperparameters, public set and randomness.
        weight: of the term.
    """
    hyper: DistillationHyperparameters = ctx.hyper
    images = ctx.public if goal.rows is None else ctx.public[goal.rows]

    count = min(hyper.rehearse_batch or hyper.distil_batch, len(images))
    steps = itertools.count()

    def term(outputs: Tensor, labels: Tensor) -> Tensor:
        if next(steps) % hyper.rehearse_every:
            return outputs.new_zeros(())
        pick = torch.randint(len(images), (count,), generator=ctx.generator)
        x = ctx.preprocess(images[pick].to(outputs.device))
        x = x if goal.augment is None else goal.augment(x, ctx.generator)
        target = goal.target[pick].to(outputs.device)
        if hyper.rehearse_steps and target.dim() == 3:  # a train for each class
            target = target[..., : hyper.rehearse_steps]
        with first_steps(net, hyper.rehearse_steps):
            said = net(x, generator=ctx.generator)
        return hyper.rehearse_every * weight * goal.loss(said, target)

    return term


def distil_optimiser(net: nn.Module, hyper: DistillationHyperparameters) -> torch.optim.Optimizer:
    """A fresh optimiser of a distillation phase."""
    return optimiser(net, hyper.optimiser, hyper.distil_lr, hyper.momentum, hyper.weight_decay)


def resumed(optim: torch.optim.Optimizer, state: State, key: str) -> torch.optim.Optimizer:
    """``optim`` with the moments kept under ``key``, if the round before left any."""
    if key in state:
        # Copies: the optimiser updates what it is given in place, and a step must not change the state it got.
        moments = {int(index): copy.deepcopy(entry) for index, entry in state[key].items()}
        optim.load_state_dict({"state": moments, "param_groups": optim.state_dict()["param_groups"]})
    return optim


def moments(optim: torch.optim.Optimizer) -> State:
    """The optimiser's moments as a state entry."""
    entries = optim.state_dict()["state"].items()
    return {
        str(index): {k: v.cpu() if isinstance(v, Tensor) else v for k, v in entry.items()} for index, entry in entries
    }


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
        with following(mean, net, optim), _scheduled(optim, merged.goal, ctx):
            hooks = hooks_of(state, merged.goal.loss, ctx)
            loss = fit(net, _augmented(merged.goal, hyper), hyper.server_epochs, ctx, optim, hooks)
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


def _scheduled(optim: torch.optim.Optimizer, goal: Goal, ctx: Context) -> AbstractContextManager[None]:
    """The learning rate of the server's epochs on the goal, as `server_schedule` says."""
    hyper: DistillationHyperparameters = ctx.hyper
    if hyper.server_schedule == "constant":
        return nullcontext()
    epoch = batches(len(goal.target), hyper.distil_batch, shuffle=False, generator=torch.Generator())
    return half_cosine(optim, hyper.server_epochs * (sum(1 for _ in epoch) if len(goal.target) else 0))


def _augmented(goal: Goal, hyper: DistillationHyperparameters) -> Goal:
    """The goal on images changed as `server_augment` says; as a method has it where that says nothing."""
    return goal if hyper.server_augment == "none" else replace(goal, augment=AUGMENTATIONS[hyper.server_augment])


def _measured(state: State) -> dict[str, Tensor]:
    """Weights of the network that is measured: the mean where there is one. Shapes are the network's."""
    return state.get("average", {}).get("tensors") or state["weights"]
