"""What every method does on a client's own data: train on labels, validate, and count firing rates."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.federated.contract import ClientContext, Hyperparameters
from spikefed.federated.memory import ElasticWeights, Exemplars, OldKnowledge
from spikefed.federated.options import StepOption
from spikefed.federated.steptables import AdversarialTraining, Operations, Privacy, Temporal, WeightNoise
from spikefed.networks.monitor import device_of
from spikefed.training import (
    AUGMENTATIONS,
    LABEL_LOSSES,
    Augmentation,
    Mask,
    StepHook,
    batches,
    centroid_loss,
    evaluate,
    held,
    hidden_of,
    optimiser,
    own_outputs,
    prefix_cross_entropy,
    subset_cross_entropy,
    train,
)

LocalLoss = Literal["ce-rate", "mse-rate", "tet", "prefix", "skip", "centroid"]


class LocalTraining(Hyperparameters):
    """Training on private labelled data."""

    local_epochs: int = Field(default=5, ge=0, description="epochs on private data per round [FSD 4.1.2: 5]")
    local_batch: int = Field(default=64, ge=1, description="samples per local step [FSD authors' code: 64]")
    optimiser: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="optimiser of every phase [FSD: Adam]"
    )
    lr: float = Field(
        default=1e-3, gt=0, le=1e3, description="learning rate of local training [FSD 4.1.3: 1e-5, our default 1e-3]"
    )
    lr_milestones: list[int] = Field(
        default=[], description="rounds after which the learning rate of local training decays [V-SNN: 40, 60, 80]"
    )
    lr_decay: float = Field(default=0.2, gt=0, le=1, description="factor at every milestone [V-SNN: 1/5]")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum, SGD only")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty")
    local_loss: LocalLoss = Field(
        default="ce-rate",
        description="loss on labels: cross-entropy on mean firing rates [FSD authors' code], MSE [DTSNN], TET, or of "
        "[training.temporal]: prefix, skip, centroid",
    )
    logit_scale: float = Field(
        default=1.0, gt=0, description="factor on the rates before the cross-entropy [authors' code: 1]"
    )
    calibrate: float = Field(
        default=0.0,
        ge=0,
        description="tau of logits + tau log(own label frequencies) in the loss on labels [Menon et al. 2021; FedLC]",
    )
    shuffle: bool = Field(default=True, description="new random order every epoch [FSD authors' code: false]")
    drop_last: bool = Field(default=False, description="skip a last, smaller batch [V-SNN code: true]")
    augment: Augmentation = Field(
        default="none",
        description="augmentation of private images: shift moves by up to 2 pixels, for 28x28, crop by up to 4, for "
        "32x32",
    )
    train_bn_at_eval: bool = Field(
        default=False, description="keep batch statistics when predicting and testing [FSD authors' code: true]"
    )
    noise: WeightNoise = Field(
        default=WeightNoise(),
        description="noise and rounding of the weights in every local step, for imperfect chips (docs/chips.md)",
        json_schema_extra={"since": "0.2"},
    )
    temporal: Temporal = Field(
        default=Temporal(),
        description="what local_loss prefix, skip or centroid need",
        json_schema_extra={"since": "0.2"},
    )
    privacy: Privacy = Field(
        default=Privacy(), description="differential privacy of local training", json_schema_extra={"since": "0.2"}
    )
    adversarial: AdversarialTraining = Field(
        default=AdversarialTraining(),
        json_schema_extra={"since": "0.2"},
        description="training on adversarial images",
    )
    operations: Operations = Field(
        default=Operations(),
        json_schema_extra={"since": "0.2"},
        description="synaptic operations in the loss (docs/tickets.md)",
    )
    ewc: ElasticWeights = Field(
        default=ElasticWeights(),
        json_schema_extra={"since": "0.2"},
        description="weights that tasks before need are held, in a run of stages",
    )
    lwf: OldKnowledge = Field(
        default=OldKnowledge(),
        json_schema_extra={"since": "0.2"},
        description="outputs of tasks before are held, in a run of stages",
    )
    exemplars: Exemplars = Field(
        default=Exemplars(),
        json_schema_extra={"since": "0.2"},
        description="images of tasks before are kept and rehearsed, in a run of stages",
    )


def learning_rate(hyper: LocalTraining, round: int) -> float:
    """Learning rate of local training in a 1-based round: ``lr`` times ``lr_decay`` for every milestone behind it."""
    return hyper.lr * hyper.lr_decay ** sum(round > milestone for milestone in hyper.lr_milestones)


def local_steps(hyper: LocalTraining, samples: int) -> int:
    """Optimiser steps of a client with so many samples in a round."""
    cut = batches(samples, hyper.local_batch, shuffle=False, generator=torch.Generator(), drop_last=hyper.drop_last)
    return hyper.local_epochs * sum(1 for _ in cut) if samples else 0


def local_optimiser(net: nn.Module, ctx: ClientContext) -> torch.optim.Optimizer:
    """A fresh optimiser of local training in the context's round."""
    hyper: LocalTraining = ctx.hyper
    return optimiser(net, hyper.optimiser, learning_rate(hyper, ctx.round), hyper.momentum, hyper.weight_decay)


def label_offset(ctx: ClientContext, classes: int) -> Tensor | None:
    """What `calibrate` adds to the outputs, float32 ``[C]``: tau log(share of the class) / logit scale.

    A class that the client has little of then need not be silenced to get its own labels right, so what the network
    knows of it from elsewhere lasts. A class without a sample counts as one.
    """
    hyper: LocalTraining = ctx.hyper
    if not hyper.calibrate:
        return None
    counts = torch.bincount(ctx.train.labels, minlength=classes).clamp_min(1).to(torch.float32)
    return hyper.calibrate * (counts / counts.sum()).log() / hyper.logit_scale


def step_hooks(ctx: ClientContext) -> list[StepHook]:
    """The hooks of all options that are on, in the order of the fields."""
    options = [value for _, value in ctx.hyper if isinstance(value, StepOption)]
    return [hook for option in options if (hook := option.hook(ctx)) is not None]


LabelLoss = Callable[[Tensor, Tensor], Tensor]
"""``(outputs [T, B, C], labels [B]) -> scalar``."""


@contextmanager
def label_loss_of(net: nn.Module, hyper: LocalTraining) -> Generator[LabelLoss, None, None]:
    """The loss on labels that ``local_loss`` names; some look into the network while this is open.

    Raises:
        ConfigError: centroid, and the network has no linear readout.
    """
    scale = hyper.logit_scale
    temporal = hyper.temporal
    if hyper.local_loss == "prefix":
        yield partial(prefix_cross_entropy, scale=scale, kappa=temporal.kappa)
    elif hyper.local_loss == "skip":
        yield partial(subset_cross_entropy, scale=scale, steps=temporal.steps)
    elif hyper.local_loss == "centroid":
        with hidden_of(net) as hidden:
            yield lambda outputs, labels: centroid_loss(outputs, hidden(outputs), labels, scale, temporal.weight)
    else:
        named = LABEL_LOSSES[hyper.local_loss]
        yield lambda outputs, labels: named(outputs, labels, scale)


def train_locally(
    net: nn.Module,
    ctx: ClientContext,
    optim: torch.optim.Optimizer | None = None,
    extra: LabelLoss | None = None,
    mask: Mask | None = None,
    hooks: Sequence[StepHook] = (),
) -> float:
    """Train ``net`` in place on the client's private training data; returns the last epoch's mean loss.

    Args:
        optim: goes on with this optimiser; default: a fresh one.
        extra: a method's own term, added to the loss on labels.
        mask: held through every step (`spikefed.training.held`).
        hooks: a method's own, behind those of the options.
    """
    hyper: LocalTraining = ctx.hyper
    optim = optim or local_optimiser(net, ctx)
    if mask is not None:
        held(optim, mask.on(net))
    offset_of = cache(partial(label_offset, ctx))  # once, not every step

    with label_loss_of(net, hyper) as label_loss:

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            offset = offset_of(outputs.shape[-1])
            if ctx.outputs is not None:
                offset = None if offset is None else offset[list(ctx.outputs)]
                outputs, labels = own_outputs(outputs, labels, ctx.outputs)
            shifted = outputs if offset is None else outputs + offset.to(outputs.device)
            value = label_loss(shifted, labels)
            return value if extra is None else value + extra(outputs, labels)

        return train(
            net,
            ctx.train.images,
            ctx.train.labels,
            loss,
            optim,
            epochs=hyper.local_epochs,
            batch_size=hyper.local_batch,
            preprocess=ctx.preprocess,
            generator=hyper.privacy.generator(ctx),
            shuffle=hyper.shuffle,
            drop_last=hyper.drop_last,
            augment=AUGMENTATIONS[hyper.augment],
            hooks=[*step_hooks(ctx), *hooks],
            poisson=hyper.privacy.clip > 0,
        )


def label_gradient(net: nn.Module, ctx: ClientContext) -> tuple[dict[str, Tensor], float]:
    """Gradient of the mean loss on all private training data, by parameter name, and that loss; weights stay.

    In training mode, so that normalisations see batches, in the order of the data and without augmentation.
    Each gradient has its parameter's shape.
    """
    hyper: LocalTraining = ctx.hyper
    net.train()
    device = device_of(net)
    total = 0.0
    with label_loss_of(net, hyper) as loss:
        for index in batches(len(ctx.train), hyper.local_batch, shuffle=False, generator=ctx.generator):
            x = ctx.preprocess(ctx.train.images[index].to(device))
            outputs = net(x, generator=ctx.generator)
            labels = ctx.train.labels[index].to(device)
            if ctx.outputs is not None:
                outputs, labels = own_outputs(outputs, labels, ctx.outputs)
            value = len(index) / len(ctx.train) * loss(outputs, labels)
            value.backward()
            total += float(value.detach())
    found = {n: p.grad.detach().cpu().clone() for n, p in net.named_parameters() if p.grad is not None}
    return found, total


def validate(net: nn.Module, ctx: ClientContext) -> float:
    """Accuracy on the client's validation data, in [0, 1]; 0 when it has none."""
    if not len(ctx.validation):
        return 0.0
    return evaluate(
        net,
        ctx.validation.images,
        ctx.validation.labels,
        preprocess=ctx.preprocess,
        generator=ctx.generator,
        own=ctx.outputs,
        train_bn=ctx.hyper.train_bn_at_eval,
    ).accuracy
