"""What a network shows of its classes: images rebuilt from its weights, judged by a network that never saw them.

The attacker of PrivateSNN (Kim et al., AAAI 2022): pixels are moved until the network sees a class (`spikefed.data.
synthesise`), through the spikes and, of a network of this package, through its ReLU view on the same weights. A judge,
an ANN that learned from images of the attacker's own, says which class it sees; a guess is right once in C. Beside them
stand noise that nobody moved, and real images, which no rebuilt one can be expected to pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.data import SynthesisPlan, noise, normed_layers, synthesise
from spikefed.errors import ConfigError
from spikefed.networks import SpikingNetwork, ann_twin, relu_view
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.training import outputs, rate_cross_entropy, train

RATE_TEMPERATURE = 0.25
"""Softmax temperature of firing rates; currents have PrivateSNN's."""


class ReconstructionHyperparameters(ProbeHyperparameters):
    """What `Reconstruction` can be told."""

    rebuilt: int = Field(default=100, ge=1, le=10_000, description="images; classes take turns")
    steps: int = Field(default=200, ge=1, le=10_000, description="gradient steps of an image [PrivateSNN: 2,500]")
    lr: float = Field(default=0.05, gt=0, le=1, description="of pixels in [0, 1]")
    judge: str = Field(default="32C3-AP2-64C3-AP2-128FC", description="layout of the judge, an ANN")
    epochs: int = Field(default=15, ge=1, le=1000, description="of the judge on the attacker's half of the images")


class Reconstruction(Probe):
    """Images of every class, rebuilt from the weights and named by somebody else."""

    name: ClassVar[str] = "reconstruction"
    title: ClassVar[str] = "What a network shows of its classes"
    summary: ClassVar[str] = "images of classes rebuilt through the spikes and the ReLU view, named by another network"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = ReconstructionHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("view", "Images", "rebuilt through the network, through its ReLU view; noise; real ones", "text"),
        Quantity("images", "Number"),
        Quantity("hit_share", "Hits", "of which the judge says the class that was meant"),
        Quantity("chance_share", "Chance", "of a guess"),
        Quantity("likeness", "Likeness", "correlation with the mean real image of that class"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """A row for each sort of images."""
        if subject.images.dtype != torch.uint8 or subject.images.dim() != 4:
            raise ConfigError("probe 'reconstruction' rebuilds pixels, and these data are none; probe a run on images")
        classes = len(subject.classes)
        mine = slice(0, None, 2)
        judge = _judge(subject, mine, ctx)
        means = _means(subject, classes)

        def row(view: str, images: Tensor, labels: Tensor) -> Record:
            said = _said(judge, images, subject, ctx)
            return {
                "view": view,
                "images": len(images),
                "hit_share": float((said == labels).double().mean()),
                "chance_share": 1 / classes,
                "likeness": _likeness(images, means[labels]),
            }

        rows = [row(view, *_rebuilt(seen, subject, ctx)) for view, seen in _views(net)]
        asked = torch.arange(ctx.hyper.rebuilt) % classes
        shape = cast(tuple[int, int, int], tuple(subject.images.shape[1:]))
        rows.append(row("noise", noise(len(asked), shape, ctx.seed), asked))
        theirs = slice(1, None, 2)
        return [*rows, row("real", subject.images[theirs], subject.labels[theirs])]

    def headline(self, records: Sequence[Record]) -> Record:
        """Of the view that shows most."""
        rebuilt = [row for row in records if row["view"] not in ("noise", "real")]
        best = max(rebuilt, key=lambda row: float(row["hit_share"] or 0))
        return {key: best[key] for key in ("hit_share", "chance_share", "likeness")}


def _views(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    yield "network", net
    per_step = any(norm.steps is not None for layer in normed_layers(net) if (norm := layer.norm) is not None)
    if isinstance(net, SpikingNetwork) and not per_step:
        yield "ReLU view", relu_view(net)


def _rebuilt(net: nn.Module, subject: Subject, ctx: ProbeContext) -> tuple[Tensor, Tensor]:
    """Images uint8 ``[N, C, H, W]`` and the classes ``[N]`` that were meant."""
    hyper: ReconstructionHyperparameters = ctx.hyper
    spikes = getattr(net, "readout", "") == "spike"
    plan = SynthesisPlan(
        "statistics" if normed_layers(net) else "impressions",
        hyper.rebuilt,
        steps=hyper.steps,
        lr=hyper.lr,
        temperature=RATE_TEMPERATURE if spikes else SynthesisPlan().temperature,
        scale=0.1,
    )
    shape = tuple(subject.images.shape[1:])
    options: dict[str, Any] = {"shape": shape, "classes": len(subject.classes), "preprocess": subject.preprocess}
    made = synthesise(net, plan, **options, seed=ctx.seed)
    return made.images, made.targets.argmax(dim=1)


def _judge(subject: Subject, mine: slice, ctx: ProbeContext) -> nn.Module:
    """An ANN that learned from the attacker's images."""
    hyper: ReconstructionHyperparameters = ctx.hyper
    shape = tuple(subject.images.shape[1:])
    judge = ann_twin(hyper.judge, input_shape=shape, classes=len(subject.classes), seed=ctx.seed + 1)
    train(
        judge, subject.images[mine], subject.labels[mine], rate_cross_entropy,
        torch.optim.Adam(judge.parameters(), lr=1e-3), epochs=hyper.epochs, batch_size=32,
        preprocess=subject.preprocess, generator=ctx.generator,
    )  # fmt: skip
    return judge.eval()


def _said(judge: nn.Module, images: Tensor, subject: Subject, ctx: ProbeContext) -> Tensor:
    """The judge's classes, int64 ``[N]``."""
    found = outputs(judge, images, preprocess=subject.preprocess, generator=ctx.generator)
    return found.mean(dim=2).argmax(dim=1)


def _means(subject: Subject, classes: int) -> Tensor:
    """Mean image of each class, float32 ``[classes, C, H, W]``; of all images where there is none of it."""
    whole = subject.images.float().mean(dim=0)
    mine = [subject.images[subject.labels == label].float() for label in range(classes)]
    return torch.stack([part.mean(dim=0) if len(part) else whole for part in mine])


def _likeness(images: Tensor, means: Tensor) -> float:
    """Mean correlation of images ``[N, C, H, W]`` with others, pixel by pixel."""
    pairs = [t.float().flatten(1) for t in (images, means)]
    left, right = (t - t.mean(dim=1, keepdim=True) for t in pairs)
    norms = left.norm(dim=1) * right.norm(dim=1)
    return float(((left * right).sum(dim=1) / norms.clamp_min(1e-9)).mean())
