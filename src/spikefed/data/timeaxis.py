"""Data with a time axis brought to the number of steps that a network has."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from spikefed.data.images import ImageSet, Values
from spikefed.errors import DataError

Resample = Literal["bin", "pick", "window"]
"""``bin``: sums of counts, means of other numbers, over T equal stretches of time. ``pick``: one sample from the middle
of each stretch. ``window``: a step shows its whole stretch side by side (series only)."""


def to_steps(images: ImageSet, steps: int, how: Resample = "bin") -> ImageSet:
    """The same items with ``steps`` time steps; sample l of L belongs to step floor(l T / L).

    No count is lost or taken twice, whatever L and T are. Where there are fewer samples than steps, numbers are held
    and counts stay in the step that they fall into.

    Raises:
        DataError: no time axis, or windows of pictures.
    """
    if images.steps is None:
        raise DataError(f"{images.name}: these are images without a time axis; they need no resampling.")
    if how == "window" and images.shape[2] != 1:
        raise DataError(
            f"{images.name}: 'window' lays the samples of a step side by side, and frames of "
            f"{images.shape[1]}x{images.shape[2]} have no room for it; set data.resample = 'bin' or 'pick'."
        )
    if images.steps == steps and how != "window":
        return images

    def change(block: Tensor) -> Tensor:
        return resampled(block, steps, how, images.values)

    made = change(images.images) if isinstance(images.images, Tensor) else images.images.map(change)
    return replace(images, images=made)


def resampled(block: Tensor, steps: int, how: Resample, values: Values) -> Tensor:
    """``[n, L, C, H, W]`` to ``[n, T, C, H, W]``; ``window`` to ``[n, T, C, H, ceil(L / T)]``.

    Args:
        block: items with L time steps.
        steps: T, the steps to make of them.
        how: the rule, see `Resample`.
        values: what the numbers are; it decides how steps are joined.
    """
    length = block.shape[1]
    if how == "pick":
        return block[:, ((2 * torch.arange(steps) + 1) * length) // (2 * steps)]
    if how == "window":
        width = -(-length // steps)
        first = torch.arange(steps) * length // steps
        return block[:, (first[:, None] + torch.arange(width)).clamp_max(length - 1), ..., 0].movedim(2, -1)
    if length < steps and values != "counts":
        return block[:, torch.arange(steps) * length // steps]
    step = torch.arange(length) * steps // length
    wide = torch.int64 if values == "counts" else torch.float64
    sums = torch.zeros(len(block), steps, *block.shape[2:], dtype=wide).index_add_(1, step, block.to(wide))
    if values == "counts":
        return sums.to(torch.uint8 if block.dtype == torch.uint8 and int(sums.max()) < 256 else torch.int32)
    means = sums / torch.bincount(step, minlength=steps).view(-1, 1, 1, 1)
    return means.round().to(torch.uint8) if values == "pixels" else means.to(block.dtype)
