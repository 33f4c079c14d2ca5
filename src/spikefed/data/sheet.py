"""A sheet of pictures: a row for each class, as one PNG."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image
from torch import Tensor

COLUMNS = 10
SIDE = 48
"""Least side of a picture on the sheet, pixels."""
GAP = 2


def sheet(
    images: UInt8[Tensor, "N C H W"], labels: Integer[Tensor, " N"], classes: int, columns: int = COLUMNS
) -> bytes:
    """The first so many images of every class; PNG bytes. One channel is grey, three are red, green and blue.

    Args:
        images: of other numbers of channels the first is shown.
        labels: the row of each image.
        classes: rows.
        columns: pictures of a row.
    """
    _, channels, height, width = images.shape
    zoom = -(-SIDE // max(height, width))
    tall = height * zoom + GAP
    wide = width * zoom + GAP
    shown = 3 if channels == 3 else 1
    page = np.full((classes * tall + GAP, columns * wide + GAP, shown), 255, np.uint8)
    for label in range(classes):
        for column, row in enumerate((labels == label).nonzero().flatten()[:columns].tolist()):
            picture = images[row, :shown].permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)
            top = label * tall + GAP
            left = column * wide + GAP
            page[top : top + tall - GAP, left : left + wide - GAP] = picture
    file = io.BytesIO()
    Image.fromarray(page if shown == 3 else page[:, :, 0]).save(file, "PNG")
    return file.getvalue()
