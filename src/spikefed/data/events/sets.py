"""The official event sets as image sets: an index first, frames when they are asked for.

===============  ==========================================================  ==========  ===================
name             files                                                       test part   columns
===============  ==========================================================  ==========  ===================
n-mnist          ``Train/0/00002.bin``, ``Test/...``                         ``Test``
dvs128-gesture   ``user01_led.aedat``, its ``_labels.csv``,                  by trials   ``person``, ``light``
                 ``trials_to_train.txt``, ``trials_to_test.txt``
cifar10-dvs      ``airplane/cifar10_airplane_0.aedat``                       last tenth
shd              ``shd_train.h5``, ``shd_test.h5``                           own file    ``speaker``
ssc              ``ssc_train.h5``, ``ssc_test.h5``                           own file    ``speaker``
===============  ==========================================================  ==========  ===================

CIFAR10-DVS has no official test part; the last tenth of each class by file number is the usual one.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikefed.data.classnames import CIFAR10
from spikefed.data.convert import counts
from spikefed.data.events.aedat import SENSOR as DVS128
from spikefed.data.events.aedat import index_aedat3, read_aedat2
from spikefed.data.events.frames import frames
from spikefed.data.events.hdf5 import UNITS, SpikeFile, read_spikes
from spikefed.data.events.nmnist import SENSOR as ATIS
from spikefed.data.events.nmnist import read_nmnist
from spikefed.data.events.records import Events
from spikefed.data.images import ImageSet
from spikefed.data.lazy import IN_MEMORY_BYTES, LazyImages
from spikefed.data.locate import search_folders
from spikefed.data.parts import Reading
from spikefed.errors import DataError

GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter clockwise",
    "left arm clockwise", "left arm counter clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip


@dataclass(frozen=True)
class EventIndex:
    """One part of an event set before any event is read.

    Attributes:
        read: gives the events of items by number.
        labels: int64 ``[N]``.
        names: of the classes.
        sensor: (height, width) in pixels.
        polarities: channels of a frame.
        columns: further facts of each item.
        told: what identifies the files: names and sizes.
    """

    read: Callable[[np.ndarray], list[Events]]
    labels: np.ndarray
    names: tuple[str, ...]
    sensor: tuple[int, int]
    polarities: int
    columns: dict[str, np.ndarray]
    told: str


@dataclass(frozen=True)
class EventSet:
    """An event set that is known by name.

    Attributes:
        index: makes the index of a part from its folder.
        marker: a file or folder by which its folder is known.
        folders: names that its folder may have.
        classes: number of classes.
        title: for lists.
        shape: (channels, height, width) of a frame.
        source: paper.
    """

    index: Callable[[Path, str], EventIndex]
    marker: str
    folders: tuple[str, ...]
    classes: int
    title: str
    shape: tuple[int, int, int]
    source: str


def read_event_set(
    name: str, split: str, data_dir: Path | str | None = None, reading: Reading | None = None
) -> ImageSet:
    """A part of an event set as frames ``[N, T, P, H, W]``.

    Args:
        name: one of `EVENT_SETS`.
        split: ``"train"`` or ``"test"``.
        data_dir: as for `spikefed.data.load`.
        reading: T, how time is cut, and the side of smaller frames.

    Raises:
        DataError: the files are not there, damaged, or of another set.
    """
    known = EVENT_SETS[name]
    reading = reading or Reading()
    index = known.index(_folder(name, known, data_dir), split)
    if not len(index.labels):
        raise DataError(f"{name} ({split}) holds no recordings; copy its files again.")

    def make(rows: np.ndarray) -> Tensor:
        cut = "count" if reading.frames == "count" else "time"
        made = [
            frames(e, reading.steps, index.sensor, by=cut, polarities=index.polarities, size=reading.size)
            for e in index.read(rows)
        ]
        return torch.from_numpy(np.stack(made))

    count = len(index.labels)
    first = make(np.arange(min(1, count)))
    if first[0].numel() * count <= IN_MEMORY_BYTES:
        blocks = [make(rows) for rows in np.array_split(np.arange(count), -(-count // 256))]
        images: Tensor | LazyImages = counts(torch.cat(blocks).numpy())
    else:
        told = f"{index.told} {reading.steps} {reading.frames} {reading.size}"
        digest = hashlib.sha256(told.encode()).digest
        images = LazyImages(make, np.arange(count), first.shape[1:], torch.int32, digest)
    labels = torch.from_numpy(index.labels)
    return ImageSet(name, split, images, labels, known.classes, index.names, "counts", index.columns)


def _folder(name: str, known: EventSet, data_dir: Path | str | None) -> Path:
    roots = search_folders(data_dir)
    places = [root / sub for root in roots for sub in (*known.folders, "")]
    for place in places:
        if (place / known.marker).exists():
            return place
    looked = ", ".join(str(root) for root in roots)
    raise DataError(
        f"{known.title} was not found in {looked}: put its official files into {roots[0] / known.folders[0]} (it is "
        f"known by {known.marker}); they are fetched by hand, because their addresses change."
    )


def _nmnist(folder: Path, split: str) -> EventIndex:
    parts = sorted((folder / split.capitalize()).glob("[0-9]/*.bin"))
    labels = np.array([int(path.parent.name) for path in parts], dtype=np.int64)
    names = tuple(str(digit) for digit in range(10))
    return EventIndex(lambda rows: [read_nmnist(parts[r]) for r in rows], labels, names, ATIS, 2, {}, _told(parts))


def _cifar(folder: Path, split: str) -> EventIndex:
    parts = []
    labels = []
    for label, name in enumerate(CIFAR10):
        found = sorted((folder / name).glob("*.aedat"), key=_number)
        cut = len(found) - max(1, len(found) // 10) if found else 0
        mine = found[cut:] if split == "test" else found[:cut]
        parts += mine
        labels += [label] * len(mine)
    read = lambda rows: [read_aedat2(parts[r]) for r in rows]  # noqa: E731
    return EventIndex(read, np.array(labels, dtype=np.int64), CIFAR10, DVS128, 2, {}, _told(parts))


def _number(path: Path) -> int:
    """The number at the end of a recording's name."""
    number = path.stem.rpartition("_")[2]
    if not number.isdecimal():
        raise DataError(f"{path} has no number at the end of its name, as in cifar10_cat_12.aedat; take it out.")
    return int(number)


def _gesture(folder: Path, split: str) -> EventIndex:
    trials = folder / f"trials_to_{split}.txt"
    try:
        listed = [line.strip() for line in trials.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{trials} cannot be read ({error.strerror or error}); copy it again.") from error
    items: list[tuple[Path, int, int]] = []
    labels: list[int] = []
    for name in listed:
        path = folder / name
        for label, start, end in _gesture_labels(path.with_name(f"{path.stem}_labels.csv")):
            items.append((path, start, end))
            labels.append(label)
    packets = cache(lambda path: index_aedat3(path, mapped=True))

    def read(rows: np.ndarray) -> list[Events]:
        out = []
        for path, start, end in (items[row] for row in rows):
            held = packets(path)
            first = held.first_times()
            low, high = np.searchsorted(first, [start, end])
            out.append(held.events(slice(max(low - 1, 0), high)).between(start, end))
        return out

    people = [path.stem.partition("_") for path, _, _ in items]
    columns = {"person": np.array([p[0] for p in people]), "light": np.array([p[2] for p in people])}
    told = _told([folder / name for name in listed])
    return EventIndex(read, np.array(labels, dtype=np.int64), GESTURES, DVS128, 2, columns, told)


def _gesture_labels(path: Path) -> list[tuple[int, int, int]]:
    """Class from 0, start and end in microseconds."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = [(int(r["class"]) - 1, int(r["startTime_usec"]), int(r["endTime_usec"])) for r in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no table of class, startTime_usec, endTime_usec ({error}); copy it again."
        ) from error
    for label, start, end in found:
        if not 0 <= label < len(GESTURES) or start > end:
            raise DataError(f"{path} holds class {label + 1} from {start} to {end}; copy it again.")
    return found


def _spikes(stem: str) -> Callable[[Path, str], EventIndex]:
    def index(folder: Path, split: str) -> EventIndex:
        file: SpikeFile = read_spikes(folder / f"{stem}_{split}.h5")
        columns = {} if file.speakers is None else {"speaker": file.speakers}
        return EventIndex(file.events, file.labels, file.names, (1, UNITS), 1, columns, _told([file.path]))

    return index


def _told(paths: list[Path]) -> str:
    """What identifies the files: their names and sizes."""
    told = []
    for path in paths:
        try:
            told.append(f"{path.parent.name}/{path.name}:{path.stat().st_size}")
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error}); check that it is there.") from error
    return " ".join(told)


EVENT_SETS = {
    "n-mnist": EventSet(
        _nmnist, "Train/0", ("n-mnist", "N-MNIST", "NMNIST", "nmnist"), 10, "N-MNIST", (2, 34, 34),
        "G. Orchard et al., Converting static image datasets to spiking neuromorphic datasets using saccades, "
        "Frontiers in Neuroscience 9, 2015",
    ),
    "dvs128-gesture": EventSet(
        _gesture, "trials_to_train.txt", ("DvsGesture", "dvs128-gesture", "DVS128Gesture"), 11, "DVS128 Gesture",
        (2, 128, 128),
        "A. Amir et al., A low power, fully event-based gesture recognition system, CVPR 2017",
    ),
    "cifar10-dvs": EventSet(
        _cifar, "airplane", ("cifar10-dvs", "CIFAR10DVS", "CIFAR10-DVS"), 10, "CIFAR10-DVS", (2, 128, 128),
        "H. Li et al., CIFAR10-DVS: an event-stream dataset for object classification, Frontiers in Neuroscience 11, "
        "2017",
    ),
    "shd": EventSet(
        _spikes("shd"), "shd_train.h5", ("shd", "SHD", "hsd"), 20, "Spiking Heidelberg Digits", (1, 1, UNITS),
        "B. Cramer et al., The Heidelberg spiking data sets for the systematic evaluation of spiking neural networks, "
        "IEEE TNNLS 33, 2022",
    ),
    "ssc": EventSet(
        _spikes("ssc"), "ssc_train.h5", ("ssc", "SSC", "hsd"), 35, "Spiking Speech Commands", (1, 1, UNITS),
        "B. Cramer et al., The Heidelberg spiking data sets for the systematic evaluation of spiking neural networks, "
        "IEEE TNNLS 33, 2022",
    ),
}  # fmt: skip
