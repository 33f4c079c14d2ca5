"""Events as four arrays, and the refusals that all readers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikefed.errors import DataError


@dataclass(frozen=True)
class Events:
    """Events of one recording, in the order of the file.

    Attributes:
        x: column, int64 ``[N]``, from 0.
        y: row, int64 ``[N]``, from 0.
        t: time in microseconds, int64 ``[N]``.
        p: polarity, uint8 ``[N]``: 1 where it grew brighter, 0 where darker.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray

    def __len__(self) -> int:
        return len(self.t)

    def between(self, start: int, end: int) -> Events:
        """The events with start <= t < end."""
        inside = (self.t >= start) & (self.t < end)
        return Events(self.x[inside], self.y[inside], self.t[inside], self.p[inside])


def content_of(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: the system will not read it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check that it is there.") from error


def mapped_content_of(path: Path) -> bytes | np.memmap:
    """All bytes of a file, uint8 ``[B]``, read from the disk when asked for; no bytes where it is empty.

    Raises:
        DataError: the system will not read it.
    """
    try:
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check that it is there.") from error


def refuse(path: Path | str, offset: int, what: str) -> DataError:
    """The error for a file that is not what it should be."""
    return DataError(f"{path}, byte {offset:,}: {what}; copy the official file again.")


def check_inside(
    path: Path | str, x: np.ndarray, y: np.ndarray, size: tuple[int, int], offsets: np.ndarray | int, width: int
) -> None:
    """Refuse an event outside the sensor. ``x`` and ``y`` have the shape ``[E]``.

    Args:
        path: for the error.
        x: columns.
        y: rows.
        size: (height, width) of the sensor.
        offsets: byte at which the first event begins, or that of each event.
        width: bytes of an event.
    """
    outside = (x >= size[1]) | (y >= size[0])
    if outside.any():
        row = int(np.argmax(outside))
        at = int(offsets[row]) if isinstance(offsets, np.ndarray) else offsets + row * width
        raise refuse(path, at, f"an event at column {x[row]}, row {y[row]} of a sensor of {size[1]}x{size[0]} pixels")
