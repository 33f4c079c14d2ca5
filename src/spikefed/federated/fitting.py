"""One network, public rows and what is to be learnt on them: the passes of distillation and of rehearsal."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.federated.contract import Context, State
from spikefed.federated.fewsteps import cut_images, first_steps, shortened
from spikefed.federated.local import LocalTraining
from spikefed.federated.robust import Vote
from spikefed.training import (
    AUGMENTATIONS,
    Augmentation,
    StepHook,
    WeightAverage,
    batches,
    half_cosine,
    optimiser,
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
        description="public rows in a batch of rehearsal, all where there are fewer; 0: distil_batch",
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
    server_augment: Augmentation = Field(
        default="none",
        description="augmentation of public images in the server's epochs alone; clients see them as they are; shift "
        "moves by up to 2 pixels, for images of 28x28, crop by up to 4, for 32x32",
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
        x = ctx.preprocess(cut_images(images[pick], hyper.rehearse_steps).to(outputs.device))
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


def scheduled(optim: torch.optim.Optimizer, goal: Goal, ctx: Context) -> AbstractContextManager[None]:
    """The learning rate of the server's epochs on the goal, as `server_schedule` says."""
    hyper: DistillationHyperparameters = ctx.hyper
    if hyper.server_schedule == "constant":
        return nullcontext()
    epoch = batches(len(goal.target), hyper.distil_batch, shuffle=False, generator=torch.Generator())
    return half_cosine(optim, hyper.server_epochs * (sum(1 for _ in epoch) if len(goal.target) else 0))


def augmented(goal: Goal, hyper: DistillationHyperparameters) -> Goal:
    """The goal on images changed as `server_augment` says; as a method has it where that says nothing."""
    return goal if hyper.server_augment == "none" else replace(goal, augment=AUGMENTATIONS[hyper.server_augment])
