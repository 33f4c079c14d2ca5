"""What every reader of own data gives, one part a split, and how parts become image sets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikefed.data.convert import Channels, Kind, converted
from spikefed.data.images import ImageSet, Values
from spikefed.data.labels import label_array, number
from spikefed.data.lazy import IN_MEMORY_BYTES, LazyImages, evenly
from spikefed.errors import DataError

TEST_SHARE = 0.2
"""Share that becomes the test set where the source has only one part."""
_SPLIT_SEED = 2216  # never change it: it fixes which samples are test samples


@dataclass(frozen=True)
class Reading:
    """How a source is to be read, where it does not say so itself; the keys of the table ``[data]``.

    Attributes:
        kind: images, frames, series or rows; None tells from shapes.
        channels: which axis has the channels; None tells from shapes.
        size: side in pixels that pictures of a folder and event frames are brought to.
        steps: T, for readers that make frames of events.
        frames: whether such frames are cut by ``time`` or by ``count``.
    """

    kind: Kind | None = None
    channels: Channels | None = None
    size: int | None = None
    steps: int = 8
    frames: str = "time"


@dataclass(frozen=True)
class Part:
    """One split of a source, labels still as its owner wrote them.

    Attributes:
        images: tensor or `LazyImages`.
        values: what its numbers are.
        labels: ``[N]``, whole numbers or texts.
        columns: further facts of each item.
        declared: number of classes that the source states, or 0.
        names: their names, or none.
        notes: what its owner should know.
    """

    images: Any
    values: Values
    labels: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    declared: int = 0
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def take(self, rows: np.ndarray) -> Part:
        """Some items, in the order given. ``rows`` is ``[n]``."""
        images = self.images[torch.from_numpy(rows)] if isinstance(self.images, Tensor) else self.images.take(rows)
        columns = {key: column[rows] for key, column in self.columns.items()}
        return replace(self, images=images, labels=self.labels[rows], columns=columns)


class Sources(NamedTuple):
    """Training set, test set, and the public rows where the source brings its own."""

    train: ImageSet
    test: ImageSet
    public: ImageSet | None = None


def part_of(images: Any, labels: Any, where: str, reading: Reading, **more: Any) -> Part:
    """A part from arrays.

    Args:
        images: anything array-like, ``[N, ...]``.
        labels: their classes ``[N]``, numbers or texts.
        where: what errors call the part.
        reading: how to read what could be two things.
        **more: columns of the part, by name.

    Raises:
        DataError: images or labels that cannot be used.
    """
    count = len(images)
    if not count:
        raise DataError(f"{where}: it holds no images; give it some.")
    if isinstance(images, np.memmap) and images.nbytes > IN_MEMORY_BYTES:
        return _mapped(images, label_array(labels, count, where), where, reading, **more)
    found = converted(images, where, reading.kind, reading.channels)
    return Part(found.images, found.values, label_array(labels, count, where), notes=found.notes, **more)


def _mapped(images: np.memmap, labels: np.ndarray, where: str, reading: Reading, **more: Any) -> Part:
    """A part whose items stay on disk until they are asked for."""
    first = converted(rows_on_disk(images, evenly(len(images), 100)), where, reading.kind, reading.channels)

    def read(rows: np.ndarray) -> Tensor:
        block = converted(rows_on_disk(images, rows), where, reading.kind, reading.channels)
        return block.images.to(first.images.dtype)

    def digest() -> bytes:
        told = hashlib.sha256(f"{images.dtype.str} {images.shape}".encode())
        told.update(np.ascontiguousarray(rows_on_disk(images, evenly(len(images), 1000))).tobytes())
        return told.digest()

    lazy = LazyImages(read, np.arange(len(images)), first.images.shape[1:], first.images.dtype, digest)
    return Part(lazy, first.values, labels, notes=first.notes, **more)


def rows_on_disk(images: np.memmap, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Rows ``[n, ...]`` of a mapped array ``[N, ...]``, through the file rather than the map.

    Every page that a map has touched counts as the process's own, and the system maps up to 2 MB around each.

    Raises:
        DataError: the file ends before them.
    """
    path: Any = images.filename
    if not images.flags.c_contiguous:
        fresh = np.memmap(path, images.dtype, "r", images.offset, images.shape, order="F")
        return fresh[np.asarray(rows)]  # its pages go when it goes
    found = np.empty((len(rows), *images.shape[1:]), images.dtype)
    size = images.dtype.itemsize * prod(images.shape[1:])
    with open(path, "rb", buffering=0) as file:
        for place, row in enumerate(rows):
            file.seek(images.offset + int(row) * size)
            content = file.read(size)
            if len(content) != size:
                raise DataError(f"{path} ends inside item {row}; copy it again.")
            found[place] = np.frombuffer(content, images.dtype).reshape(images.shape[1:])
    return found


def joined(parts: Mapping[str, Part], where: str) -> Part:
    """Several clients' parts as one, with a column ``client`` that tells them apart.

    Raises:
        DataError: images of different shapes or kinds.
    """
    first = next(iter(parts.values()))
    for name, part in parts.items():
        if part.images.shape[1:] != first.images.shape[1:] or part.values != first.values:
            raise DataError(
                f"{where}: images of client {name} are {_x(part.images.shape[1:])} {part.values}, those before it "
                f"{_x(first.images.shape[1:])} {first.values}; bring them to one size."
            )
    owners = np.concatenate([np.full(len(part.labels), name) for name, part in parts.items()])
    shared = [key for key in first.columns if all(key in part.columns for part in parts.values())]
    columns = {key: np.concatenate([part.columns[key] for part in parts.values()]) for key in shared}
    kinds = {part.labels.dtype.kind for part in parts.values()}
    labels = [part.labels.astype(str) if len(kinds) > 1 else part.labels for part in parts.values()]
    return Part(
        torch.cat([part.images[:] for part in parts.values()]),
        first.values,
        np.concatenate(labels),
        {**columns, "client": owners},
        max(part.declared for part in parts.values()),
        max((part.names for part in parts.values()), key=len),
        tuple(dict.fromkeys(note for part in parts.values() for note in part.notes)),
    )


def sets_of(parts: Mapping[str, Part], name: str) -> Sources:
    """Image sets from parts: labels numbered together, a test part held out where there is none.

    Args:
        parts: ``train``, and ``test`` and ``public`` where the source has them.
        name: what errors and reports call it.

    Raises:
        DataError: parts that do not fit together, or one that is empty.
    """
    for split, part in parts.items():
        if not len(part.labels):
            raise DataError(f"{name}: the {split} part is empty; give it images.")
    labelled = {split: part.labels for split, part in parts.items() if split != "public"}
    declared = max(part.declared for part in parts.values())
    names = max((part.names for part in parts.values()), key=len)
    numbered = number(labelled, declared, names, name)
    parts = {
        s: replace(part, labels=numbered.labels.get(s, np.zeros(len(part.labels), np.int64)))
        for s, part in parts.items()
    }
    told = [note for part in parts.values() for note in part.notes]
    if "test" not in parts:
        train, test = held_out(parts["train"], name, numbered.names)
        parts = {**parts, "train": train, "test": test}
    notes = tuple(dict.fromkeys([*numbered.notes, *told]))

    def made(split: str) -> ImageSet:
        part = parts[split]
        return ImageSet(
            name, split, part.images, torch.from_numpy(part.labels), numbered.classes, numbered.names, part.values,
            part.columns, notes,
        )  # fmt: skip

    sets = {split: made(split) for split in ("train", "test", "public") if split in parts}
    for split, found in sets.items():
        if found.images.shape[1:] != sets["train"].images.shape[1:]:
            kind = "public" if split == "public" else "test"
            raise DataError(
                f"{name}: training images are {_x(sets['train'].images.shape[1:])}, {kind} images "
                f"{_x(found.images.shape[1:])}; bring them to one size."
            )
        if found.values != sets["train"].values:
            raise DataError(
                f"{name}: the training part holds {sets['train'].values}, the {split} part {found.values}; give both "
                "in one form."
            )
    return Sources(sets["train"], sets["test"], sets.get("public"))


def held_out(part: Part, name: str, names: tuple[str, ...] = ()) -> tuple[Part, Part]:
    """A fifth of each class, rounded and at least one sample, as the test set."""
    generator = np.random.RandomState(_SPLIT_SEED)  # the legacy generator's stream is frozen by numpy's own policy
    is_test = np.zeros(len(part.labels), dtype=bool)
    for label in range(int(part.labels.max()) + 1):
        mine = generator.permutation(np.flatnonzero(part.labels == label))
        if len(mine) == 1:
            raise DataError(
                f"{name}: class {names[label] if names else label} has one image, too few for a training and a test "
                "part; give a test part."
            )
        is_test[mine[: max(1, round(TEST_SHARE * len(mine)))] if len(mine) else mine] = True
    return part.take(np.flatnonzero(~is_test)), part.take(np.flatnonzero(is_test))


def _x(shape: Any) -> str:
    return "x".join(map(str, shape))
