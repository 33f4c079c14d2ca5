"""From arrays as people have them to tensors of pixels, counts or real numbers; what could be two things is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spikefed.data.images import Values
from spikefed.errors import DataError

Kind = Literal["images", "frames", "series", "rows"]
"""``images [N, C, H, W]``; ``frames [N, T, C, H, W]``; ``series [N, T, F]``, or ``[N, T, C, L]`` of L samples a step;
``rows [N, F]``, numbers without time."""
Channels = Literal["first", "last"]
_WORDS = {
    "images": "[N, H, W], [N, C, H, W] or [N, H, W, C]",
    "frames": "[N, T, H, W], [N, T, C, H, W] or [N, T, H, W, C]",
    "series": "[N, T], [N, T, F], or [N, T, C, L] with L samples in each step",
    "rows": "[N, F]",
}
_COLOURS = 4  # pictures have up to so many channels, unless somebody says otherwise


@dataclass(frozen=True)
class Converted:
    """An array as the rest of the package takes it.

    Attributes:
        images: ``[N, C, H, W]`` or ``[N, T, C, H, W]``.
        values: what its numbers are.
        notes: what its owner should know.
    """

    images: Tensor
    values: Values
    notes: tuple[str, ...] = ()


def converted(value: Any, where: str, kind: Kind | None = None, channels: Channels | None = None) -> Converted:
    """Any array of images, frames, series or rows.

    Args:
        value: array, tensor or nested lists.
        where: what errors call it.
        kind: what it is; None tells from its shape and type.
        channels: where the channels stand; None tells from the shape.

    Raises:
        DataError: no such shape, numbers out of range, or something that could be two things.
    """
    array = as_array(value)
    kind = kind or _kind(array, where)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: images are {array.dtype}; give uint8, or floats in [0, 1].")
    if array.dtype.kind == "f" and array.size:
        _refuse_nan(array, where, kind)
    if kind == "series":
        return _series(array, where)
    if kind == "rows":
        if array.ndim != 2:
            raise DataError(f"{where}: rows have shape {list(array.shape)}; give {_WORDS['rows']}.")
        return Converted(_reals(array[:, :, None, None], where), "reals")
    if kind == "frames":
        return _frames(array, where, channels)
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and _last(array.shape[1:], where, channels):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4:
        raise DataError(f"{where}: images have shape {list(array.shape)}; give {_WORDS['images']}.")
    levels = _levels(array, where)
    return Converted(torch.from_numpy(np.ascontiguousarray(levels)), "pixels", _dark(array, where))


def as_array(value: Any) -> np.ndarray:
    """A numpy array of anything array-like; torch's bfloat16 becomes float32. Of the value's own shape."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return np.asarray(value.float() if value.dtype == torch.bfloat16 else value)
    return np.asarray(value)


def picture(item: Any) -> np.ndarray:
    """One image of a data set as an array; a PIL picture as ``[H, W]`` or ``[C, H, W]``, palettes and others as RGB."""
    mode = getattr(item, "mode", None)
    if isinstance(mode, str) and callable(getattr(item, "convert", None)):
        if mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa"):
            item = item.convert("RGB")
        elif mode in ("LA", "La"):
            item = item.convert("L")
        elif mode == "PA":
            item = item.convert("RGBA")
        array = as_array(item)
        return array.transpose(2, 0, 1) if array.ndim == 3 else array
    return as_array(item)


def _kind(array: np.ndarray, where: str) -> Kind:
    if array.ndim == 5:
        return "frames"
    if array.ndim == 2 or array.ndim > 5 or array.ndim < 2:
        raise DataError(
            f"{where}: images have shape {list(array.shape)}; give {_WORDS['images']} (rows of numbers: reshape them "
            "to [N, 1, 1, columns], or set data.kind = 'rows'; with a time axis: [N, T, C, H, W])."
        )
    if array.ndim == 3 and array.dtype.kind == "f" and array.size:
        steps, width = array.shape[1:]
        in_range = array.min() >= 0 and array.max() <= 1
        if in_range and (width <= _COLOURS or steps >= 4 * width):
            raise DataError(
                f"{where}: floats {list(array.shape)} are series of {steps} time steps with {width} numbers each, or "
                f"grey pictures of {steps}x{width}; say which with data.kind = 'series' or 'images'."
            )
    return "images"


def _last(shape: Sequence[int], where: str, channels: Channels | None) -> bool:
    """Whether the last of three axes has the channels."""
    if channels is not None:
        return channels == "last"
    first, middle, last = shape
    if first <= _COLOURS or last <= _COLOURS:
        return first > _COLOURS >= last
    if middle == last or first == middle:
        return middle != last  # squares: the odd one out counts channels
    if first < min(middle, last):
        return False
    raise DataError(
        f"{where}: it is not clear which axis of images [N, {first}, {middle}, {last}] has the channels; say it with "
        "data.channels = 'first' or 'last'."
    )


def _refuse_nan(array: np.ndarray, where: str, kind: Kind) -> None:
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    first = np.argwhere(bad)[0]
    what = "pixel" if kind in ("images", "frames") else "number"
    count = int(bad.sum())
    raise DataError(
        f"{where}: {count:,} {what}{'s are' if count > 1 else ' is'} not finite, the first in item {first[0]} at "
        f"{[int(i) for i in first[1:]]}; fill them in or leave these items out."
    )


def _levels(array: np.ndarray, where: str) -> np.ndarray:
    """Pixels as uint8 0..255."""
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"{where}: float images must lie in [0, 1] but run from {low:.4g} to {high:.4g}; scale them, or give "
                "uint8 (0..255), and leave normalisation to data.pixels (numbers that are no pixels: data.kind = "
                "'series' or 'rows')."
            )
        return np.rint(array * 255).astype(np.uint8)
    if low < 0 or high > 255:
        raise DataError(f"{where}: whole-number images must lie in 0..255 but run from {low} to {high}; scale them.")
    return array.astype(np.uint8)


def _dark(array: np.ndarray, where: str) -> tuple[str, ...]:
    if array.dtype.kind not in "iu" or not array.size or array.max() != 1:
        return ()
    return (
        f"{where}: pixels are 0 and 1 of 255, almost black; give them as bool or float, or times 255, if 1 is white.",
    )


def _series(array: np.ndarray, where: str) -> Converted:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 4:
        return Converted(_reals(array[:, :, :, None], where), "reals")
    if array.ndim != 3:
        raise DataError(f"{where}: series have shape {list(array.shape)}; give {_WORDS['series']}.")
    return Converted(_reals(array[..., None, None], where), "reals")


def _reals(array: np.ndarray, where: str) -> Tensor:
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(single).all():
        raise DataError(f"{where}: numbers up to {np.abs(array).max():.4g} do not fit float32; scale them.")
    return torch.from_numpy(single)


def _frames(array: np.ndarray, where: str, channels: Channels | None) -> Converted:
    """Two channels of whole numbers are events by polarity, other uint8 pixels, other whole numbers counts."""
    if array.ndim == 4:
        array = array[:, :, None]
    if array.ndim != 5:
        raise DataError(f"{where}: frames have shape {list(array.shape)}; give {_WORDS['frames']}.")
    if _last(array.shape[2:], where, channels):
        array = array.transpose(0, 1, 4, 2, 3)
    polarity = array.shape[2] == 2
    if array.dtype == np.uint8 and not polarity:
        return Converted(torch.from_numpy(np.ascontiguousarray(array)), "pixels", _dark(array, where))
    whole = array.dtype.kind in "biu" or (polarity and array.size > 0 and bool((array == np.rint(array)).all()))
    if not whole:
        return Converted(_reals(array, where), "reals")
    if array.size and (array.min() < 0 or array.max() > np.iinfo(np.int32).max):
        raise DataError(f"{where}: counts of events run from {array.min()} to {array.max()}; give 0 or more.")
    return Converted(counts(array), "counts")


def counts(array: np.ndarray) -> Tensor:
    """Counts of events as uint8, or int32 where one is above 255. Of the array's shape."""
    wide = bool(array.size) and array.max() > 255
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32 if wide else np.uint8))
