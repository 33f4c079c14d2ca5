"""Rows of the public set with alike images: side information that both ends can compute for themselves.

Alike images get alike spike trains, so the trains of earlier rows predict a row before any global spikes exist.
"""

from __future__ import annotations

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.contextmodel import NEAR

MAX_ROWS = 65536  # the search takes time N^2


def nearest_rows(images: np.ndarray, block: int = 512) -> np.ndarray | None:
    """For each row the (at most) 5 earlier rows with the least squared distance, nearest first.

    Args:
        images: uint8 [N, C, H, W], or [N, T, C, H, W]. Sides above 16 pixels are first summed over squares of
            ceil(side / 16). Other types are brought to 256 levels between their extremes first.

    Returns:
        int32 [N, 5], -1 where there are fewer earlier rows; equal distances keep the smaller row first. None above
        65,536 rows. All sums are exact integers below 2^53, so every machine finds the same rows.
    """
    n = len(images)
    if n > MAX_ROWS:
        return None
    pixels = _reduced(_levels(images)).reshape(n, -1).astype(np.float64)
    squares = (pixels * pixels).sum(axis=1)
    near = np.full((n, NEAR), -1, dtype=np.int32)
    for first in range(0, n, block):
        last = min(first + block, n)
        distance = squares[first:last, None] + squares[None, :last] - 2.0 * (pixels[first:last] @ pixels[:last].T)
        keys = distance.astype(np.int64) * n + np.arange(last)  # ties by row number
        later = np.arange(last)[None, :] >= np.arange(first, last)[:, None]
        keys[later] = np.iinfo(np.int64).max
        count = min(NEAR, last)
        found = np.argpartition(keys, count - 1, axis=1)[:, :count]
        found_keys = np.take_along_axis(keys, found, axis=1)
        order = np.argsort(found_keys, axis=1)
        rows = np.take_along_axis(found, order, axis=1).astype(np.int32)
        rows[np.take_along_axis(found_keys, order, axis=1) == np.iinfo(np.int64).max] = -1
        near[first:last, :count] = rows
    return near


def check_near(near: np.ndarray | None) -> np.ndarray | None:
    """``near`` as contiguous int32. Raises PacketError unless it is [N, 5] of earlier rows, -1 only at the end."""
    if near is None:
        return None
    near = np.ascontiguousarray(near, dtype=np.int32)
    if near.ndim != 2 or near.shape[1] != NEAR:
        raise PacketError("near", f"needs the shape [N, {NEAR}], got {near.shape}; make it with nearest_rows")
    late = near >= np.arange(len(near))[:, None]
    gaps = (near[:, :-1] < 0) & (near[:, 1:] >= 0)
    if late.any() or gaps.any() or near.min(initial=-1) < -1:
        raise PacketError("near", "holds a row that is not earlier, or a gap; make it with nearest_rows")
    return near


def _levels(images: np.ndarray) -> np.ndarray:
    """uint8 as they are; counts and real numbers as the nearest of 256 levels from the smallest to the largest."""
    if images.dtype == np.uint8 or not images.size:
        return images
    wide = images.astype(np.float64)
    low = wide.min()
    return np.rint((wide - low) * (255 / max(wide.max() - low, 1e-300))).astype(np.uint8)


def _reduced(images: np.ndarray) -> np.ndarray:
    """Sums over squares, so that no side exceeds 16."""
    images = images.reshape(images.shape[0], -1, *images.shape[-2:]).astype(np.int64)
    factor = -(-max(images.shape[-2:]) // 16)
    height, width = (-(-side // factor) * factor for side in images.shape[-2:])
    padded = np.zeros((*images.shape[:2], height, width), dtype=np.int64)
    padded[:, :, : images.shape[2], : images.shape[3]] = images
    return padded.reshape(*images.shape[:2], height // factor, factor, width // factor, factor).sum(axis=(3, 5))
