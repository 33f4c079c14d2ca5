"""Spiking Heidelberg Digits and Spiking Speech Commands (Cramer et al. 2020): HDF5 of spike times and units.

``spikes/times`` holds seconds as float16 of variable length, ``spikes/units`` the channel (0 to 699), ``labels`` the
classes; ``extra/speaker`` the speaker and ``extra/keys`` the classes' names where the file has them. float16 reaches
65,504, so seconds become float64 before they become microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikefed.data.events.records import Events
from spikefed.errors import DataError

UNITS = 700


@dataclass(frozen=True)
class SpikeFile:
    """One file of spike trains, its spikes still on disk.

    Attributes:
        path: the file.
        labels: int64 ``[N]``.
        speakers: int64 ``[N]``, or None.
        names: names of the classes, or none.
    """

    path: Path
    labels: np.ndarray
    speakers: np.ndarray | None
    names: tuple[str, ...]

    def events(self, rows: np.ndarray) -> list[Events]:
        """The spikes of some items: x is the unit, y is 0, every polarity is 1. Each field ``[E]``."""
        found = []
        with _opened(self.path) as file:
            for row in map(int, rows):
                with _whole(self.path, f"item {row}"):
                    found.append(_item(self.path, row, file["spikes/times"][row], file["spikes/units"][row]))
        return found


def read_spikes(path: Path) -> SpikeFile:
    """Labels and speakers of a file, and access to its spikes.

    Raises:
        DataError: h5py is missing, the file is no HDF5, or lacks what SHD and SSC have.
    """
    with _opened(path) as file, _whole(path, "its index"):
        for key in ("spikes/times", "spikes/units", "labels"):
            if key not in file:
                raise DataError(f"{path} has no '{key}'; it is none of SHD's or SSC's files.")
        count = len(file["labels"])
        if not len(file["spikes/times"]) == len(file["spikes/units"]) == count:
            raise DataError(f"{path} has {count} labels for {len(file['spikes/times'])} trains; copy it again.")
        labels = np.asarray(file["labels"], dtype=np.int64)
        speakers = np.asarray(file["extra/speaker"], dtype=np.int64) if "extra/speaker" in file else None
        keys = file["extra/keys"][:] if "extra/keys" in file else ()
        names = tuple(key.decode() if isinstance(key, bytes) else str(key) for key in keys)
    if count and (labels.min() < 0 or (names and labels.max() >= len(names))):
        raise DataError(f"{path}: labels go up to {labels.max()}, and {len(names)} classes are named; copy it again.")
    return SpikeFile(path, labels, speakers, names)


def _item(path: Path, row: int, times: np.ndarray, units: np.ndarray) -> Events:
    if len(times) != len(units):
        raise DataError(f"{path}, item {row}: {len(times)} times for {len(units)} units; copy the official file again.")
    seconds = np.asarray(times).astype(np.float64)
    x = np.asarray(units).astype(np.int64)
    if not np.isfinite(seconds).all() or (len(x) and (x.min() < 0 or x.max() >= UNITS)):
        raise DataError(
            f"{path}, item {row}: a spike without a time or of a unit outside 0 to {UNITS - 1}; copy the official file "
            "again."
        )
    t = np.rint(seconds * 1e6).astype(np.int64)
    return Events(x, np.zeros(len(x), np.int64), t, np.ones(len(x), np.uint8))


@contextmanager
def _whole(path: Path, part: str) -> Iterator[None]:
    """What HDF5 says of a damaged part, in its many ways, as one sentence; it names no byte, so the part is named."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        told = " ".join(str(error).strip("'\"").split()) or type(error).__name__
        raise DataError(f"{path}, {part}: HDF5 cannot read it ({told}); copy the official file again.") from error


def _opened(path: Path) -> Any:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(f"{path.name} is HDF5, which needs the package h5py; install spikefed[events].") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is no whole HDF5 file ({' '.join(str(error).split())}); copy it again.") from error
