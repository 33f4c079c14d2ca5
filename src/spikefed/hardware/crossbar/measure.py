"""A network's accuracy on a chip, before and after each repair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar.chip import OnChip
from spikefed.hardware.crossbar.repair import REPAIRS, norms, repair
from spikefed.networks import copy_tensors, load_tensors
from spikefed.training import Preprocess, evaluate

Treatment = Literal["none", "gain", "adapt", "labels", "soft"]
TREATMENTS: tuple[Treatment, ...] = ("none", "gain", "adapt", "labels", "soft")
"""`REPAIRS`, and ``gain``: global drift compensation alone, the baseline."""


@dataclass(frozen=True)
class Examples:
    """Images with what is known of them.

    Attributes:
        images: uint8 ``[N, C, H, W]``.
        labels: int64 ``[N]``.
        soft: what the network says of them off the chip, ``[N, C]``; needed by ``soft`` alone.
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None = None


def check_treatments(net: nn.Module, treatments: Sequence[str]) -> None:
    """Refuse what is no repair, and repairs of a network that has nothing to repair.

    Raises:
        ConfigError: one sentence.
    """
    for name in treatments:
        if name not in TREATMENTS:
            raise ConfigError(f"repair '{name}' is not known; use {', '.join(TREATMENTS)}")
    if set(treatments) & set(REPAIRS) - {"none"}:
        norms(net)


def treated(
    chip: OnChip,
    treatments: Sequence[str],
    known: Examples,
    shown: Examples,
    *,
    age_s: float,
    preprocess: Preprocess,
    generator: torch.Generator,
    train_bn: bool = False,
    logit_scale: float = 1.0,
) -> Iterator[tuple[str, float]]:
    """Each treatment with the accuracy that it gives; each begins with the chip as it was written.

    Args:
        chip: as it was programmed; it is left at the age.
        treatments: some of `TREATMENTS`.
        known: what repairs may look at, and converters are calibrated on.
        shown: what accuracy is measured on.
        age_s: of the chip, in seconds.
        preprocess: pixels to network input.
        generator: all randomness.
        train_bn: keep batch statistics when predicting.
        logit_scale: of the loss of ``labels``.
    """
    before = copy_tensors(chip.net)
    chip.age(age_s)
    chip.calibrate(preprocess(known.images[i : i + 250]) for i in range(0, min(len(known.images), 500), 250))
    for name in treatments:
        chip.age(age_s, compensate=name == "gain")
        with chip.running(generator):
            if name not in ("none", "gain"):
                targets = known.soft if name == "soft" else known.labels
                repair(
                    chip.net,
                    name,  # type: ignore[arg-type]
                    known.images,
                    targets,
                    preprocess=preprocess,
                    generator=generator,
                    logit_scale=logit_scale,
                )
            found = evaluate(
                chip.net, shown.images, shown.labels, preprocess=preprocess, generator=generator, train_bn=train_bn
            )
        load_tensors(chip.net, before)
        yield name, found.accuracy
