"""Spiking Heidelberg Digits and Spiking Speech Commands (Cramer et al. 2020): HDF5 of spike times and units.

``spikes/times`` holds seconds as float16 of variable length, ``spikes/units`` the channel (0 to 699), ``labels`` the
classes; ``extra/speaker`` the speaker and ``extra/keys`` the classes' names where the file has them. float16 reaches
65,504, so seconds become float64 before they become microseconds.
"""

from __future__ import annotations

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
        with _opened(self.path) as file:
            times = file["spikes/times"]
            units = file["spikes/units"]
            return [_item(self.path, int(row), times[int(row)], units[int(row)]) for row in rows]


def read_spikes(path: Path) -> SpikeFile:
    """Labels and speakers of a file, and access to its spikes.

    Raises:
        DataError: h5py is missing, the file is no HDF5, or lacks what SHD and SSC have.
    """
    with _opened(path) as file:
        for key in ("spikes/times", "spikes/units", "labels"):
            if key not in file:
                raise DataError(f"{path} has no '{key}'; it is none of SHD's or SSC's files.")
        count = len(file["labels"])
        if not len(file["spikes/times"]) == len(file["spikes/units"]) == count:
            raise DataError(f"{path} has {count} labels for {len(file['spikes/times'])} trains; copy it again.")
        speakers = np.asarray(file["extra/speaker"], dtype=np.int64) if "extra/speaker" in file else None
        keys = (
            []
            if "extra/keys" not in file
            else [k.decode() if isinstance(k, bytes) else str(k) for k in file["extra/keys"]]
        )
        return SpikeFile(path, np.asarray(file["labels"], dtype=np.int64), speakers, tuple(keys))


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


def _opened(path: Path) -> Any:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(f"{path.name} is HDF5, which needs the package h5py; install spikefed[events].") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is no whole HDF5 file ({' '.join(str(error).split())}); copy it again.") from error
