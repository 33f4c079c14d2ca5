"""Arrays as people have them to the tensor that a trained network was fed: its shape, its numbers, their range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from spikefed.data import resize, to_channels
from spikefed.data.convert import as_array, counts
from spikefed.data.timeaxis import resampled
from spikefed.errors import DataError

Levels = tuple[float, float]
"""What black and white are in the numbers that are given."""


@dataclass(frozen=True)
class Intake:
    """What a network takes, and what may be done to images to make them that.

    Attributes:
        input_shape: ``(C, H, W)``.
        values: ``pixels``, ``counts`` or ``reals``.
        steps: T of data with a time axis; None for images.
        resample: how data of other steps are brought to T (`spikefed.data.to_steps`).
        levels: numbers of black and white; None takes uint8 0..255 or floats 0..1, and asks about anything else.
        resize: bring pictures of another size to the network's.
        notes: what was done, a sentence each, filled while images are read.
    """

    input_shape: tuple[int, ...]
    values: str = "pixels"
    steps: int | None = None
    resample: str = "bin"
    levels: Levels | None = None
    resize: bool = False
    notes: dict[str, None] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Something that whoever gave the images should know; said once."""
        self.notes[text] = None

    def prepared(self, value: Any, where: str, *, picture: bool = False) -> Tensor:
        """One image or many as ``[N, C, H, W]`` (``[N, T, C, H, W]`` with a time axis), ready for `Preprocess`.

        Args:
            value: array, tensor or nested lists.
            where: what errors call it.
            picture: it is a picture from a file, ``[C, H, W]``, whose colours may be changed to grey or back.

        Raises:
            DataError: another shape, or numbers of another range than the network was trained on.
        """
        array = as_array(value)
        if array.dtype.kind not in "biuf":
            raise DataError(f"{where}: images are {array.dtype}; give numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{where}: {int((~np.isfinite(array)).sum()):,} numbers are not finite; mend or drop them")
        array = self._timed(array, where) if self.steps is not None else self._shaped(array, where, picture)
        if self.values != "pixels":
            return counts(array) if self.values == "counts" else torch.from_numpy(array.astype(np.float32))
        return self._sized(self._pixels(array, where), where, picture)

    def _timed(self, array: np.ndarray, where: str) -> np.ndarray:
        """As ``[N, T, C, H, W]``; data of another number of steps are brought to the network's."""
        steps = self.steps or 0
        channels, height, width = self.input_shape
        if array.shape[-4:] == (steps, *self.input_shape) and array.ndim in (4, 5):
            return array.reshape(-1, steps, *self.input_shape)
        given = array
        if height == 1 and array.ndim in (2, 3) and array.shape[-1] == channels:
            array = array.reshape(-1, *array.shape[-2:], 1, 1)  # series of F numbers
        elif height == 1 and array.ndim == 4 and array.shape[2:] == (channels, width):
            array = array[:, :, :, None]  # series of L samples a step
            if array.shape[1] == steps:
                return array
        elif array.ndim == 4:
            array = array[None]
        side = (channels, height, 1) if self.resample == "window" else self.input_shape
        if array.ndim == 5 and array.shape[2:] == side and array.shape[1]:
            numbers = torch.from_numpy(np.array(array, order="C"))
            made = resampled(numbers, steps, cast(Any, self.resample), cast(Any, self.values)).numpy()
            if made.shape[2:] == self.input_shape:
                return made
        shapes = f"[N, {steps}, {', '.join(map(str, self.input_shape))}]"
        whole = f" or series [N, steps, {channels}]" if width == 1 or self.resample == "window" else ""
        shapes += whole or f" or series [N, steps, {channels}, {width}]" if height == 1 else ""
        raise DataError(f"{where}: data have shape {list(given.shape)}; the network takes {shapes}")

    def _shaped(self, array: np.ndarray, where: str, picture: bool) -> np.ndarray:
        """As ``[N, C, H, W]``; only a picture, or with ``resize``, may have another size."""
        channels, height, width = self.input_shape
        if picture:
            return array[None, None] if array.ndim == 2 else array[None]
        if (height, width) == (1, 1) and array.ndim in (1, 2) and array.shape[-1] == channels:
            return array.reshape(-1, channels, 1, 1)  # rows of numbers
        if array.shape in {(height, width), (channels, height, width), (height, width, channels)}:
            array = array[None]  # one image
        if array.ndim == 3 and channels == 1 and array.shape == (height, width, 3):
            raise DataError(
                f"{where}: shape {list(array.shape)} looks like one picture in colour, and the network takes grey; "
                "make it grey, or give it as a picture (a file, or PIL's)"
            )
        if array.ndim == 3 and channels == 1:
            array = array[:, None]
        if array.ndim == 4 and array.shape[1] != channels and array.shape[3] == channels:
            array = array.transpose(0, 3, 1, 2)
        fits = array.ndim == 4 and array.shape[1] == channels
        if not fits or (array.shape[2:] != (height, width) and not self.resize):
            rows = f", or rows [N, {channels}]" if (height, width) == (1, 1) else ""
            more = rows if not fits or self.values != "pixels" else ", or let them be resized (resize=True, --resize)"
            raise DataError(
                f"{where}: images have shape {list(array.shape)}, the network takes [N, {channels}, {height}, {width}];"
                f" bring them to it{more}"
            )
        return array

    def _pixels(self, array: np.ndarray, where: str) -> Tensor:
        """As uint8 0..255, or a question where the numbers could be something else."""
        if not array.size:
            return torch.zeros(array.shape, dtype=torch.uint8)
        low, high = float(array.min()), float(array.max())
        black, white = self.levels or (0.0, 1.0 if array.dtype.kind in "bf" else 255.0)
        ask = "say which numbers are black and white (levels=(BLACK, WHITE), --levels BLACK,WHITE)"
        slack = 1e-6 * abs(white - black)
        if low < min(black, white) - slack or high > max(black, white) + slack:
            if self.levels:
                raise DataError(f"{where}: numbers run from {low:.6g} to {high:.6g}, outside the levels you gave")
            taken = "floats from 0 to 1" if array.dtype.kind == "f" else "whole numbers from 0 to 255"
            raise DataError(
                f"{where}: numbers run from {low:.6g} to {high:.6g}; the network was trained on pixels, which are given"
                f" as uint8 from 0 to 255 or {taken}; {ask}"
            )
        if self.levels is None and array.dtype.kind in "iu" and high == 1:
            raise DataError(f"{where}: whole numbers 0 and 1 are almost black among 0 to 255; {ask}")
        if array.dtype == np.uint8 and self.levels is None:
            return torch.from_numpy(np.array(array, order="C"))  # a copy: a picture's memory is not ours to write
        scaled = (array.astype(np.float64) - black) * (255.0 / (white - black))
        return torch.from_numpy(np.ascontiguousarray(np.rint(scaled).clip(0, 255).astype(np.uint8)))

    def _sized(self, images: Tensor, where: str, picture: bool) -> Tensor:
        """Pictures with the network's colours and, where allowed, its size."""
        channels, height, width = self.input_shape
        if picture and images.shape[1] != channels:
            if {images.shape[1], channels} != {1, 3}:
                raise DataError(f"{where}: it has {images.shape[1]} channels, the network takes {channels}")
            images = to_channels(images, channels)
            self.note("pictures in colour were made grey" if channels == 1 else "grey pictures were repeated as colour")
        if tuple(images.shape[2:]) != (height, width):
            given = f"{images.shape[3]}x{images.shape[2]}"
            if not self.resize:
                raise DataError(
                    f"{where}: it is {given} pixels, the network takes {width}x{height}; cut or scale it, or let it be "
                    "resized (resize=True, --resize)"
                )
            self.note(f"images of {given} pixels were resized to {width}x{height}")
            images = resize(images, (height, width))
        return images
