"""Image augmentation as tensor operations on the training device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def crop(x: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each image of ``[B, C, H, W]`` by up to ``padding`` pixels each way; what moves in is zero.

    All time steps of ``[B, T, C, H, W]`` shift alike.
    """
    if x.ndim == 5:
        return crop(x.flatten(1, 2), generator, padding).view_as(x)
    batch, channels, height, width = x.shape
    padded = F.pad(x, (padding,) * 4)
    offset = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator)
    rows = (offset[0][:, None] + torch.arange(height))[:, None, :, None]
    columns = (offset[1][:, None] + torch.arange(width))[:, None, None, :]
    index = torch.arange(batch)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[tuple(part.to(x.device) for part in (*index, rows, columns))]


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half. Shape ``[B, C, H, W]`` stays."""
    chosen = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(chosen.to(x.device).view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)


def shift2(x: Tensor, generator: torch.Generator) -> Tensor:
    """Crop with padding 2, fit for 28x28 grey images. Shape ``[B, C, H, W]`` stays."""
    return crop(x, generator, padding=2)


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Padding-4 crop, then flip: the usual CIFAR augmentation. Shape ``[B, C, H, W]`` stays."""
    return flip(crop(x, generator), generator)


def shift_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Padding-2 crop, then flip. Shape ``[B, C, H, W]`` stays."""
    return flip(shift2(x, generator), generator)


Augmentation = Literal["none", "flip", "shift", "shift-flip", "crop", "crop-flip"]
"""Names of augmentations, as settings take them."""

AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "none": None,
    "flip": flip,
    "shift": shift2,
    "shift-flip": shift_flip,
    "crop": crop,
    "crop-flip": crop_flip,
}
"""Augmentations by the name that a config uses."""

REACH: dict[str, int] = {"none": 0, "flip": 0, "shift": 2, "shift-flip": 2, "crop": 4, "crop-flip": 4}
"""Pixels by which an augmentation moves an image at most, up, down or sideways."""
