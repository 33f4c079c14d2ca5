"""Public rows that are nobody's data: noise, crops of one picture, or images made from a network.

==================  ===================================================================================================
``noise``           grey values at random on grids from one pixel to the whole image, so that there are edges and areas
``crops:FILE``      windows of one picture, of any place and size, mirrored or not (Asano and Saeed, ICLR 2023)
``synthetic:FILE``  what `spikefed synthesise` left
==================  ===================================================================================================

The first two need no image to travel: a seed (and the picture) makes the same rows everywhere. The third is sent once,
like any public set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from spikefed.data.images import ImageSet
from spikefed.data.synthetic import SyntheticSet
from spikefed.errors import DataError

NOISE = "noise"
CROPS = "crops:"
SYNTHETIC = "synthetic:"


def is_made(name: str) -> bool:
    """Whether a name of a public data set is one of these."""
    return name == NOISE or name.startswith((CROPS, SYNTHETIC))


def made_public(name: str, like: ImageSet, count: int, seed: int) -> ImageSet:
    """Public rows of the shape of a data set; the same arguments give the same rows.

    Args:
        name: see the module.
        like: the clients' data set.
        count: rows to make; of synthetic images all that there are.
        seed: of draws.

    Raises:
        DataError: data that are no images of pixels, a file that is missing or none, or images of another shape.
    """
    if like.values != "pixels" or like.steps is not None:
        raise DataError(f"public rows of '{name}' are pixels, and {like.name} holds other data; name a set like it")
    channels, height, width = like.shape
    if name == NOISE:
        images = noise(count, (channels, height, width), seed)
    elif name.startswith(CROPS):
        images = crops(Path(name.removeprefix(CROPS)), count, (channels, height, width), seed)
    else:
        images = SyntheticSet.load(Path(name.removeprefix(SYNTHETIC))).images
    if tuple(images.shape[1:]) != (channels, height, width):
        raise DataError(
            f"the images of '{name}' are {'x'.join(map(str, images.shape[1:]))}, those of {like.name} "
            f"{channels}x{height}x{width}; make them from a network of such images"
        )
    return ImageSet(name, "train", images, torch.zeros(len(images), dtype=torch.int64), like.classes)


def noise(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """uint8 ``[count, C, H, W]``: every image a mean of noise on grids of two sides, stretched to all grey values."""
    draw = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    sides = [2**k for k in range(max(height, width).bit_length())]
    whole = torch.zeros(count, *shape)
    for row in range(count):
        for _ in range(2):
            side = sides[int(torch.randint(len(sides), (), generator=draw))]
            grid = torch.rand(1, channels, -(-height // side) + 1, -(-width // side) + 1, generator=draw)
            grown = grid.repeat_interleave(side, 2).repeat_interleave(side, 3)
            top = int(torch.randint(side, (), generator=draw))
            left = int(torch.randint(side, (), generator=draw))
            whole[row] += grown[0, :, top : top + height, left : left + width]
    low = whole.amin(dim=(1, 2, 3), keepdim=True)
    high = whole.amax(dim=(1, 2, 3), keepdim=True)
    return (255 * (whole - low) / (high - low).clamp_min(1e-6)).round().to(torch.uint8)


def crops(path: Path, count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """uint8 ``[count, C, H, W]``: windows of one picture, an eighth of its shorter side to all of it.

    Args:
        path: of the picture.
        count: windows.
        shape: ``(C, H, W)`` that each is brought to.
        seed: of places, sizes and mirrors.

    Raises:
        DataError: no such picture, or channels that a picture does not have.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"crops of a picture have 1 or 3 channels, and the data {channels}; use public rows of 'noise'")
    try:
        with Image.open(path) as file:
            picture = file.convert("L" if channels == 1 else "RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"public rows 'crops:{path}' need a picture there ({error}); give the path of one") from error
    draw = np.random.default_rng(seed)
    shorter = min(picture.size)
    made = np.empty((count, height, width, channels), np.uint8)
    for row in range(count):
        side = int(draw.integers(max(1, shorter // 8), shorter + 1))
        left = int(draw.integers(picture.width - side + 1))
        top = int(draw.integers(picture.height - side + 1))
        box = (left, top, left + side, top + side)
        window = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))
        window = window.reshape(height, width, channels)
        made[row] = window[:, ::-1] if draw.random() < 0.5 else window
    return torch.from_numpy(made).permute(0, 3, 1, 2).contiguous()
