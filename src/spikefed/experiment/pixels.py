"""Pixels to network input: what the config says, what a share's file says, or what is measured."""

from __future__ import annotations

from typing import Any, cast

import torch

from spikefed import data
from spikefed.experiment.config import Experiment
from spikefed.experiment.networks import network_info
from spikefed.training import Preprocess


def preprocess_for(config: Experiment, train: data.ImageSet) -> Preprocess:
    """The config's pixel mode, or the one that its coding needs; ``standard`` measures the training images."""
    mode = config.data.pixels
    if mode is None and train.values != "pixels":
        mode = "raw" if train.values == "counts" else "standard"
    if mode is None:
        info = network_info(config)
        own = config.network.coding in (None, info.coding)
        mode = info.pixels if own else "signed" if config.network.coding == "poisson" else "unit"
    if mode != "standard":
        return Preprocess(cast(Any, mode))
    mean, std = moments(train)
    return Preprocess("standard", tuple(mean.tolist()), tuple(std.tolist()))


def shared_preprocess(config: Experiment, public: data.PublicShare) -> Preprocess:
    """What the public file of a share says, else the config's; ``standard`` without moments measures the public rows.

    So every machine has the same without asking.
    """
    if public.pixels == "standard" and public.mean:
        return Preprocess("standard", public.mean, public.std)
    told = config.data if public.pixels is None else config.data.model_copy(update={"pixels": public.pixels})
    return preprocess_for(config.model_copy(update={"data": told}), public.rows)


MOMENTS = 10_000
"""Images that are read at most to measure mean and deviation where they are not in memory."""


def moments(train: data.ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel; of lazily read images, those of evenly spaced ones. Both ``[C]``."""
    rows = slice(None) if isinstance(train.images, torch.Tensor) else slice(None, None, -(-len(train) // MOMENTS))
    numbers = train.images[rows].to(torch.float64)
    axes = tuple(axis for axis in range(numbers.ndim) if axis != numbers.ndim - 3)
    least = 1.0 if train.values == "pixels" else 1e-6
    return numbers.mean(dim=axes), numbers.std(dim=axes).clamp_min(least)
