"""The tables inside ``[training]`` that say what a step of local training does beside the plain one."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

import torch
from pydantic import Field

from spikefed.errors import ConfigError
from spikefed.federated.contract import ClientContext, Hyperparameters
from spikefed.federated.options import StepOption
from spikefed.training import AdversarialInputs, FewOperations, NoisyWeights, PrivateSteps, StepHook
from spikefed.training.accountant import spent


class Temporal(Hyperparameters):
    """Which steps the losses prefix, skip and centroid teach; each key belongs to one of them."""

    kappa: float = Field(
        default=0.0, ge=-1e3, le=1e3, description="prefix: below 0 early prefixes weigh more, above 0 late ones"
    )
    steps: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], description="skip: steps from 1 to T whose mean output is taught; none: all"
    )
    weight: float = Field(
        default=0.1, ge=-1e3, le=1e3, description="centroid: above 0 draws information to early steps, below 0 to late"
    )


TEMPORAL_KEYS = {"kappa": "prefix", "steps": "skip", "weight": "centroid"}
"""Keys of `Temporal`, and the loss that each belongs to."""


class AdversarialTraining(StepOption):
    """Training on adversarial images: each step attacks its own batch first."""

    attack: Literal["none", "fgsm", "pgd"] = Field(
        default="none", description="attack of each local step; 'fgsm' is one step from the clean image"
    )
    eps: float = Field(default=8.0, gt=0, description="largest change, in the data's units: pixels of 0..255 [SRE: 8]")
    steps: int = Field(default=4, ge=1, le=100, description="gradients of PGD [SRE: 4; Madry et al. 2018: 7]")
    size: float | None = Field(default=None, gt=0, description="step of PGD like eps; default: 2.5 eps / steps")
    draws: int = Field(default=1, ge=1, le=100, description="of a coder that draws, for one gradient")

    def hook(self, ctx: ClientContext) -> StepHook | None:
        """Moves the inputs of a step; eps in the network's own input by its preprocessing, a channel at a time.

        Raises:
            ConfigError: eps is larger than the range of the client's pixels.
        """
        if self.attack == "none":
            return None
        images = ctx.train.images
        bytes_ = images.dtype == torch.uint8
        low, high = (0.0, 255.0) if bytes_ or not len(images) else (float(images.min()), float(images.max()))
        if self.eps > high - low:
            raise ConfigError(
                f"training.adversarial.eps = {self.eps:g} is beyond what pixels from {low:g} to {high:g} can change; "
                f"choose one up to {high - low:g}"
            )
        channels = images.shape[-3]
        ends = (ctx.preprocess(torch.full((1, channels, 1, 1), value)) for value in (low, high, 0.0, 1.0))
        darkest, brightest, zero, one = ends
        pgd = self.attack == "pgd"
        return AdversarialInputs(
            eps=(one - zero) * self.eps,
            size=(self.size / self.eps if self.size is not None else 2.5 / self.steps) if pgd else 1.0,
            steps=self.steps if pgd else 1,
            start=pgd,
            draws=self.draws,
            low=darkest,
            high=brightest,
        )


class WeightNoise(StepOption):
    """Hardware-aware training: each local step computes with noisy, rounded weights and moves the exact ones."""

    relative: float = Field(
        default=0.0, ge=0, le=10, description="deviation of a weight's noise, times the weight: read noise of a cell"
    )
    absolute: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="deviation of a weight's noise, times the layer's largest weight: programming noise of a cell",
    )
    bits: int | None = Field(
        default=None, ge=2, le=16, description="weights are rounded to so many bits, sign included; none: exact"
    )

    def hook(self, ctx: ClientContext) -> StepHook | None:
        if self == WeightNoise():
            return None
        return NoisyWeights(self.relative, self.absolute, self.bits)


class Operations(StepOption):
    """Synaptic operations in the loss of local training, so that pruning and training save what chips pay for."""

    weight: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="of the share of synaptic operations that take place, out of all if every neuron always fired; 0: "
        "off",
    )

    def hook(self, ctx: ClientContext) -> StepHook | None:
        return FewOperations(self.weight) if self.weight else None


class Privacy(StepOption):
    """DP-SGD in local training: each sample's gradient is clipped and noise is added; batches are drawn by chance.

    Needs a network without batch statistics and counts with opacus (``pip install 'spikefed[dp]'``). What is counted
    is a step's gradient; what else a method sends of private data is not (docs/privacy.md).
    """

    clip: float = Field(
        default=0.0, ge=0, le=1e6, description="C: largest norm of a sample's gradient; 0: off [Abadi et al. 2016]"
    )
    noise: float = Field(default=1.0, ge=0, le=1e4, description="deviation of the noise in units of C")
    delta: float = Field(default=1e-5, gt=0, lt=1, description="of (epsilon, delta); below 1 / samples")
    source: Literal["system", "seeded"] = Field(
        default="system",
        description="of batches and noise: the operating system, or the seed, which repeats a run and protects nothing",
    )

    def hook(self, ctx: ClientContext) -> StepHook | None:
        """Clipped, noisy steps."""
        if not self.clip:
            return None
        return PrivateSteps(self.clip, self.noise, min(ctx.hyper.local_batch, max(len(ctx.train), 1)))

    def generator(self, ctx: ClientContext) -> torch.Generator:
        """Randomness of local training: the context's, or one that the server cannot know."""
        if not self.clip or self.source == "seeded":
            return ctx.generator
        return torch.Generator().manual_seed(secrets.randbits(63))

    def epsilon(self, ctx: ClientContext) -> float | None:
        """What the client has spent by the end of this round, if it took part in all before it; None where it is off.

        Raises:
            ConfigError: opacus is not installed.
        """
        if not self.clip or not len(ctx.train):
            return None
        batch = ctx.hyper.local_batch
        steps = ctx.round * ctx.hyper.local_epochs * -(-len(ctx.train) // batch)
        return spent(self.noise, min(1.0, batch / len(ctx.train)), steps, self.delta)
