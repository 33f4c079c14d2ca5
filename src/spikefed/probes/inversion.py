"""What a change of weights tells of the image that made it: gradient inversion on a client's upload.

A victim trains on a few of its images from the probed network on, by plain SGD, and uploads its change of weights. The
attacker knows the network, the change and the labels, and moves pixels until their gradient points the same way
(Geiping et al., NeurIPS 2020):

    min over pixels  1 - cos(gradient(pixels), change) + smoothness * total variation,   by signed Adam

Beside it stands an attacker who is blind to the upload and says the mean of the images of the class that it knows. Two
measures: the peak signal-to-noise ratio to the true image, and how often the true image is the nearest of a line-up,
where a guess finds one in ``lineup``. Labels are given away, batch norm is at rest, so what is found is what a strong
attacker finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from pydantic import Field
from torch import Tensor, nn

from spikefed.data import total_variation
from spikefed.errors import ConfigError
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.probes.transparent import Transparent

RATE_SCALE = 4.0
"""Factor on firing rates before the victim's cross-entropy."""


class InversionHyperparameters(ProbeHyperparameters):
    """What `Inversion` can be told."""

    victims: int = Field(default=8, ge=1, le=10_000, description="images that are attacked")
    batch: int = Field(default=1, ge=1, le=64, description="images in one upload; more hide each other")
    local_steps: int = Field(default=1, ge=1, le=100, description="SGD steps that the change of weights holds")
    step_lr: float = Field(default=0.05, gt=0, le=10, description="of these steps")
    steps: int = Field(default=200, ge=1, le=10_000, description="steps of the attacker [Geiping et al.: 4,800]")
    lr: float = Field(default=0.05, gt=0, le=1, description="of its pixels in [0, 1] [0.1]")
    smoothness: float = Field(default=1e-2, ge=0, le=10, description="weight of the total variation [1e-6 to 1e-2]")
    lineup: int = Field(default=50, ge=2, le=10_000, description="images among which the true one is looked for")


class Inversion(Probe):
    """Images rebuilt from the change of weights that they caused."""

    name: ClassVar[str] = "inversion"
    title: ClassVar[str] = "What a change of weights shows"
    summary: ClassVar[str] = "gradient inversion on an upload of weights: likeness, and hits in a line-up"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = InversionHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("attacker", "Attacker", "gradient: has the upload; blind: has not", "text"),
        Quantity("victims", "Images"),
        Quantity("psnr_db", "PSNR (dB)", "to the true image, mean over the images; higher is nearer"),
        Quantity("found_share", "Found", "the true image is the nearest of the line-up"),
        Quantity("chance_share", "Chance", "of a guess in the line-up"),
        Quantity("match", "Match", "cosine of the rebuilt image's gradient to the upload"),
        Quantity("gain_db", "Gain (dB)", "PSNR of the attacker above that of the blind one"),
    )

    def check(self, hyper: InversionHyperparameters) -> None:
        """Raise ConfigError for fewer images than an upload has."""
        if hyper.victims < hyper.batch:
            raise ConfigError(
                f"probe 'inversion' attacks {hyper.victims} images in uploads of {hyper.batch}; raise victims"
            )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """A row for each attacker."""
        if subject.images.dtype != torch.uint8 or subject.images.dim() != 4:
            raise ConfigError("probe 'inversion' rebuilds pixels, and these data are none; probe a run on images")
        hyper: InversionHyperparameters = ctx.hyper
        self.check(hyper)
        victims = _victims(subject, hyper.victims // hyper.batch * hyper.batch)
        glass = Transparent(net)
        rebuilt = []
        match = []
        for first in range(0, len(victims), hyper.batch):
            part = slice(first, first + hyper.batch)
            truth = subject.preprocess(victims.images[part])
            change = upload(glass, truth, victims.labels[part], hyper)
            images, cosine = invert(glass, change, victims, victims.labels[part], hyper, ctx.generator)
            rebuilt.append(_paired(images, victims.images[part]))
            match.append(cosine)
            ctx.progress(first + len(truth), len(victims), "images")
        blind = torch.stack([_class_mean(subject, int(label)) for label in victims.labels])
        others = subject.images[: max(1, hyper.lineup - 1)]
        rows = [
            {"attacker": "gradient", **_likeness(torch.cat(rebuilt), victims.images, others)},
            {"attacker": "blind", **_likeness(blind, victims.images, others)},
        ]
        return [{**rows[0], "match": sum(match) / len(match)}, {**rows[1], "match": None}]

    def headline(self, records: Sequence[Record]) -> Record:
        """Of the attacker with the upload, and how much better it is than the blind one."""
        found: Record = {key: records[0][key] for key in ("psnr_db", "found_share", "chance_share")}
        return found | {"gain_db": float(records[0]["psnr_db"] or 0) - float(records[1]["psnr_db"] or 0)}


def upload(
    glass: Transparent, x: Float[Tensor, "B C H W"], labels: Integer[Tensor, " B"], hyper: InversionHyperparameters
) -> list[Tensor]:
    """What the victim's steps took off each weight, over the number of steps and their rate: shaped like the weights.

    Args:
        glass: the network.
        x: the victim's images as network input.
        labels: theirs.
        hyper: number and size of its steps.
    """
    weights = list(glass.tensors)
    for _ in range(hyper.local_steps):
        slopes = gradients(glass, weights, x, labels)
        weights = [w - hyper.step_lr * g for w, g in zip(weights, slopes, strict=True)]
    return [(a - b) / (hyper.step_lr * hyper.local_steps) for a, b in zip(glass.tensors, weights, strict=True)]


def gradients(
    glass: Transparent, weights: Sequence[Tensor], x: Float[Tensor, "B C H W"], labels: Integer[Tensor, " B"],
    graph: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Of the mean cross-entropy, one for each weight, shaped like it.

    Args:
        glass: the network.
        weights: in place of its own.
        x: network input.
        labels: of the images.
        graph: gradients of the result will be taken.
    """
    leaves = [w.detach().requires_grad_() for w in weights]
    outputs = glass(leaves, x)
    scale = RATE_SCALE if glass.spiking else 1.0
    return torch.autograd.grad(F.cross_entropy(scale * outputs.mean(dim=0), labels), leaves, create_graph=graph)


def invert(
    glass: Transparent,
    change: Sequence[Tensor],
    subject: Subject,
    labels: Integer[Tensor, " B"],
    hyper: InversionHyperparameters,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """Pixels 0..255 ``[B, C, H, W]`` whose gradient is most like the change, and the cosine between the two.

    Args:
        glass: the network.
        change: the victim's.
        subject: shape and preprocessing of images.
        labels: of the victim's images.
        hyper: steps, rate, smoothness.
        generator: of the first noise.
    """
    pixels = torch.rand((len(labels), *subject.images.shape[1:]), generator=generator).requires_grad_()
    optim = torch.optim.Adam([pixels], lr=hyper.lr)
    best = (pixels.detach().clone(), -2.0)
    for step in range(hyper.steps + 1):
        slopes = gradients(glass, glass.tensors, subject.preprocess(255 * pixels), labels, graph=True)
        cosine = _cosine(slopes, change)
        if float(cosine.detach()) > best[1]:
            best = (pixels.detach().clone(), float(cosine.detach()))
        if step == hyper.steps:
            break
        (pixels.grad,) = torch.autograd.grad(1 - cosine + hyper.smoothness * total_variation(pixels), pixels)
        pixels.grad.sign_()
        for group in optim.param_groups:
            group["lr"] = hyper.lr * (1 - step / hyper.steps) + 1e-3
        optim.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return 255 * best[0], best[1]


def _cosine(slopes: Sequence[Tensor], change: Sequence[Tensor]) -> Tensor:
    """Of two lists of tensors as one vector each; 0 where one of them is nothing."""
    product = torch.stack([(a * b).sum() for a, b in zip(slopes, change, strict=True)]).sum()
    squares = [torch.stack([t.square().sum() for t in side]).sum() for side in (slopes, change)]
    return product / (squares[0] * squares[1]).sqrt().clamp_min(1e-20)


def _victims(subject: Subject, count: int) -> Subject:
    """Members of the clients in turn; of a network whose members are not known, the last images."""
    if not len(subject.trained):
        return Subject(subject.images[-count:], subject.labels[-count:], subject.preprocess, subject.classes)
    each = -(-count // len(subject.trained))
    parts = [subject.trained[k].first(each) for k in range(len(subject.trained))]
    images = torch.cat([part.images for part in parts])[:count]
    return Subject(images, torch.cat([part.labels for part in parts])[:count], subject.preprocess, subject.classes)


def _class_mean(subject: Subject, label: int) -> Tensor:
    """Mean of the attacker's images of a class, of all where it has none, pixels ``[C, H, W]``."""
    mine = subject.labels == label
    return (subject.images[mine] if mine.any() else subject.images).float().mean(dim=0)


def _paired(images: Tensor, truth: Tensor) -> Tensor:
    """For each true image the rebuilt one that is nearest, ``[B, C, H, W]``: nobody knows their order."""
    distances = torch.cdist(truth.float().flatten(1), images.flatten(1))
    return images[distances.argmin(dim=1)]


def _likeness(images: Tensor, truth: Tensor, others: Tensor) -> Record:
    """Measures of images ``[N, C, H, W]`` beside the true ones."""
    errors = (images - truth.float()).square().flatten(1).mean(dim=1)
    psnr = 10 * torch.log10(255.0**2 / errors.clamp_min(1e-3))
    away = torch.cdist(images.flatten(1), others.float().flatten(1)).square() / images[0].numel()
    return {
        "victims": len(truth),
        "psnr_db": float(psnr.mean()),
        "found_share": float((errors < away.amin(dim=1)).double().mean()),
        "chance_share": 1 / (len(others) + 1),
    }
