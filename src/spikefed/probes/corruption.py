"""Accuracy on images that nature spoils: noise, blur, low contrast and occlusion, at five strengths.

Noise, blur and contrast have the strengths of CIFAR-10-C (Hendrycks and Dietterich, ICLR 2019, public code); occlusion
is a grey square. Every strength of an image has the same random numbers, so a stronger one spoils it in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from spikefed.probes.accuracy import wilson
from spikefed.probes.attack import range_of
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.training.attacks import Victim
from spikefed.training.attacks.draws import CONTROL, uniform

BATCH = 250
CLEAN = "none"

Name = Literal["noise", "blur", "contrast", "occlusion"]

STRENGTHS: dict[Name, tuple[float, ...]] = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "occlusion": (0.15, 0.25, 0.35, 0.45, 0.55),
}
"""Deviation in parts of the range; deviation in pixels; part of the contrast that is left; part of a side covered."""


class CorruptionHyperparameters(ProbeHyperparameters):
    """What `Corruption` can be told."""

    images: int | None = Field(default=1000, ge=1, description="use only the first so many test images")
    corruptions: tuple[Name, ...] = Field(
        default=("noise", "blur", "contrast", "occlusion"), min_length=1, description="what spoils the images"
    )
    judged: int = Field(default=1, ge=1, le=100, description="draws of the coder that every image is judged on")
    level: float = Field(default=0.95, gt=0, lt=1, description="coverage of the intervals [Wilson 1927]")


class Corruption(Probe):
    """Accuracy by corruption and strength."""

    name: ClassVar[str] = "corruption"
    title: ClassVar[str] = "Corruptions"
    summary: ClassVar[str] = "accuracy on noisy, blurred, faint and partly covered images, at five strengths"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = CorruptionHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("corruption", "Corruption", unit="text"),
        Quantity("strength", "Strength", "1 to 5; 0: clean images"),
        Quantity("size", "Size", "deviation in parts of the range, or in pixels; contrast left; side covered"),
        Quantity("images", "Images"),
        Quantity("accuracy", "Accuracy", "mean over the draws that judge", "share"),
        Quantity("accuracy_low", "From", "lower end of Wilson's interval", "share"),
        Quantity("accuracy_high", "To", "upper end of Wilson's interval", "share"),
        Quantity("clean_accuracy", "Clean", "accuracy on the images as they are", "share"),
        Quantity("corrupted_accuracy", "Corrupted", "mean over corruptions and strengths", "share"),
        Quantity("least_accuracy", "Least", "of any corruption and strength", "share"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """A row for clean images, then one for each corruption and strength."""
        hyper: CorruptionHyperparameters = ctx.hyper
        net.train(ctx.train_bn)
        seed = int(torch.randint(0, 2**62, (), generator=ctx.generator))
        victim = Victim(net, subject.preprocess, seed=seed)
        range_ = range_of(subject)
        cases = [(name, place + 1, size) for name in hyper.corruptions for place, size in enumerate(STRENGTHS[name])]
        rows: list[Record] = []
        for done, (name, strength, size) in enumerate([(CLEAN, 0, 0.0), *cases]):
            right = torch.cat(
                [_right(victim, subject, hyper.judged, rows_, name, size, range_) for rows_ in _cut(subject)]
            )
            accuracy = float(right.double().mean())
            low, high = wilson(accuracy * len(subject), len(subject), hyper.level)
            row: Record = {"corruption": name, "strength": strength, "size": size, "images": len(subject)}
            rows.append({**row, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high})
            ctx.progress(done + 1, 1 + len(cases), "corruptions")
        return rows

    def headline(self, records: Sequence[Record]) -> Record:
        """Clean, mean and least accuracy."""
        spoilt = [float(row["accuracy"] or 0) for row in records[1:]]
        least = min(spoilt)
        return {
            "clean_accuracy": records[0]["accuracy"],
            "corrupted_accuracy": fmean(spoilt),
            "least_accuracy": least,
        }


def corrupted(
    images: Tensor, name: Name, size: float, numbers: Tensor, range_: tuple[float, float] = (0.0, 255.0)
) -> Tensor:
    """Spoilt images, in the range.

    Args:
        images: float32 ``[B, ..., H, W]``, in pixels.
        name: what spoils them.
        size: as `STRENGTHS` has it.
        numbers: random ones in [0, 1), shaped as the images.
        range_: darkest and brightest pixel.
    """
    low, high = range_
    spoil: Callable[[Tensor, float, Tensor, tuple[float, float]], Tensor] = _SPOIL[name]
    return spoil(images, size, numbers, range_).clamp(low, high)


def _noise(images: Tensor, size: float, numbers: Tensor, range_: tuple[float, float]) -> Tensor:
    normal = torch.special.ndtri(numbers.double().clamp(1e-7, 1 - 1e-7)).to(images.dtype)
    return images + normal * size * (range_[1] - range_[0])


def _blur(images: Tensor, size: float, numbers: Tensor, range_: tuple[float, float]) -> Tensor:
    """By a Gaussian of that deviation, cut at four of them; beyond the border stands the border's pixel."""
    reach = max(1, round(4 * size))
    at = torch.arange(-reach, reach + 1, dtype=images.dtype)
    weights = torch.exp(-0.5 * (at / size) ** 2)
    weights = weights / weights.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = functional.conv2d(functional.pad(flat, (reach, reach, 0, 0), "replicate"), weights.view(1, 1, 1, -1))
    flat = functional.conv2d(functional.pad(flat, (0, 0, reach, reach), "replicate"), weights.view(1, 1, -1, 1))
    return flat.view(images.shape)


def _contrast(images: Tensor, size: float, numbers: Tensor, range_: tuple[float, float]) -> Tensor:
    means = images.mean(dim=(-2, -1), keepdim=True)
    return (images - means) * size + means


def _occlusion(images: Tensor, size: float, numbers: Tensor, range_: tuple[float, float]) -> Tensor:
    """A grey square whose centre is anywhere."""
    height, width = images.shape[-2:]
    side = max(1, round(size * min(height, width)))
    ones = [1] * (images.dim() - 1)
    place = numbers.flatten(1)[:, :2]
    top = (place[:, 0] * height - side / 2).round().view(-1, *ones)
    left = (place[:, 1] * width - side / 2).round().view(-1, *ones)
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return torch.where(inside, sum(range_) / 2, images)


_SPOIL: dict[Name, Callable[[Tensor, float, Tensor, tuple[float, float]], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "occlusion": _occlusion,
}


def _cut(subject: Subject) -> list[slice]:
    return [slice(row, min(row + BATCH, len(subject))) for row in range(0, len(subject), BATCH)]


def _right(
    victim: Victim,
    subject: Subject,
    judged: int,
    rows: slice,
    name: str,
    size: float,
    range_: tuple[float, float],
) -> Tensor:
    """Share of the draws on which each image of the rows is called right ``[B]``."""
    images = subject.images[rows].to(torch.float32)
    numbers = range(rows.start, rows.stop)
    if name != CLEAN:
        random = uniform(victim.seed, CONTROL, numbers, 0, tuple(images.shape[1:]))
        images = corrupted(images, name, size, random, range_)  # type: ignore[arg-type]
    said = victim.judged(images, numbers, judged).argmax(dim=2)
    return (said == subject.labels[rows]).double().mean(dim=0)
