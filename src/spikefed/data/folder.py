"""Folders of pictures: ``images:FOLDER``. An index first, pixels when needed.

=============================================  =====================================================================
layout                                         read as
=============================================  =====================================================================
``cat/1.png``, ``dog/2.jpg``                   one part; the folder of a picture is its class
``train/cat/1.png``, ``test/cat/2.png``        two parts; ``val``, ``valid`` or ``validation`` where ``test`` has no
                                               classes (Visual Decathlon) or is missing
``train/n01/images/1.JPEG``, ``val/images``    Tiny ImageNet; ``val/val_annotations.txt`` has the classes, ``words.txt``
                                               their names
``train``, ``val``, ``test`` of other classes  few-shot sets (miniImageNet): all parts together, a test part held out
``anna/cat/1.png``, ``ben/cat/2.png``          one part with a column ``folder``: anna, ben
=============================================  =====================================================================

Pictures of one size stay as they are. Where sizes differ, or ``data.size`` is given, each is scaled to cover a square
and cut at its centre; the side is ``data.size``, else the smallest side among up to 1,000 pictures, at most 64. Grey
pictures give one channel, if all that are looked at are grey; else all become RGB. 16 bits become 8.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from spikefed.data.lazy import IN_MEMORY_BYTES, LazyImages, evenly
from spikefed.data.locate import search_folders
from spikefed.data.parts import Part, Reading
from spikefed.errors import DataError
from spikefed.files import counted_from

IMAGES = "images:"
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
LOOKED_AT = 1000
"""Pictures whose sizes are looked at before any is read."""
SIZES = 50_000
"""Files whose sizes are asked for at most, to tell a folder from a changed one."""
LARGEST_SIDE = 64
_ORIENTATION = 0x0112  # the EXIF tag
_TEST = ("test", "val", "valid", "validation", "dev")
_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I", "F")


@dataclass
class Shelf:
    """Pictures by folder: where they lie, and what their folders say of them.

    Attributes:
        folders: folders of pictures.
        names: names of all pictures, folder by folder.
        owner: int32 ``[N]``, the folder of each.
        classes: class of each folder.
        groups: folder above the class of each folder, or "".
    """

    folders: list[str]
    names: list[str]
    owner: np.ndarray
    classes: list[str]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> str:
        """Where a picture lies."""
        return os.path.join(self.folders[self.owner[row]], self.names[row])


def read_folder(name: str, data_dir: Path | str | None, reading: Reading) -> dict[str, Part]:
    """The parts of ``images:FOLDER``.

    Raises:
        DataError: no such folder, no pictures in class folders, or a picture that cannot be read.
    """
    root = _root(name, data_dir)
    shelves = _parts(root)
    if not shelves or not len(next(iter(shelves.values()))):
        raise DataError(
            f"{root} has no pictures in class folders, such as {root.name}/cat/1.png; endings that count are "
            f"{', '.join(ENDINGS[:4])}, ..."
        )
    words = _words(root)
    classes = sorted({label for shelf in shelves.values() for label in shelf.classes})
    shown = tuple(words.get(label, label) for label in classes)
    names = shown if len(set(shown)) == len(shown) else tuple(classes)
    number = {label: i for i, label in enumerate(classes)}
    look = _look(shelves, reading.size)
    told = f"{name}: {len(classes)} classes, {names[0]} to {names[-1]}, named after folders."
    notes = (told, *look.notes(name))
    return {split: _part(shelf, number, names, look, notes) for split, shelf in shelves.items()}


@dataclass(frozen=True)
class Look:
    """What every picture is brought to: mode L or RGB, and a side (None: as it is, (height, width) all alike)."""

    mode: str
    side: int | None
    height: int
    width: int
    several: bool

    def notes(self, name: str) -> tuple[str, ...]:
        """What its owner should know."""
        if not self.several:
            return ()
        return (f"{name}: pictures have several sizes; each covers {self.side}x{self.side} and is cut at its centre.",)

    def read(self, path: str) -> np.ndarray:
        """uint8 ``[C, H, W]``.

        Raises:
            DataError: no whole picture.
        """
        try:
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
                if picture.mode.startswith("I"):  # 16 bits, which PIL would cut at 255
                    picture = Image.fromarray(np.rint(np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
                picture = picture.convert(self.mode)
                if self.side is not None and picture.size != (self.side, self.side):
                    picture = ImageOps.fit(picture, (self.side, self.side), Image.Resampling.BILINEAR)
                array = np.asarray(picture)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            told = " ".join(str(error).split())
            raise DataError(f"{path} is no whole picture ({told}); replace it or take it out.") from error
        if array.shape[:2] != (self.height, self.width):
            raise DataError(
                f"{path} is {array.shape[0]}x{array.shape[1]} pixels, others are {self.height}x{self.width}; set "
                "data.size to bring all to one size."
            )
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _root(name: str, data_dir: Path | str | None) -> Path:
    path = Path(name.removeprefix(IMAGES)).expanduser()
    roots = [Path()] if path.is_absolute() else [*([Path()] if data_dir is None else []), *search_folders(data_dir)]
    for root in roots:
        if (root / path).is_dir():
            return root / path
    held = next((root / path for root in roots if (root / path).is_file()), None)
    if held is not None:
        kind = {".csv": "csv:", ".tsv": "csv:", ".npz": "npz:"}.get(held.suffix.lower())
        instead = f"read it as {kind}{held}" if kind else "give the folder that the class folders lie in"
        raise DataError(f"{name}: {held} is a file, no folder of class folders; {instead}.")
    looked = ", ".join(str(root / path) for root in roots)
    raise DataError(
        f"{name} was not found as {looked}{counted_from(roots[0] / path)}: give a folder of class folders; with "
        "data.dir (or --data-dir) it counts from there."
    )


def _parts(root: Path) -> dict[str, Shelf]:
    below = {entry.name.lower(): entry.name for entry in os.scandir(root) if entry.is_dir()}
    if "train" not in below:
        return {"train": _shelf(root)}
    found = {"train": _shelf(root / below["train"])}
    held = {word: _shelf(root / below[word]) for word in _TEST if word in below}
    if "val" in held and (root / below["val"] / "val_annotations.txt").is_file():
        held = {"val": _annotated(root / below["val"])}
    held = {word: shelf for word, shelf in held.items() if len(shelf)}
    if not held:
        return found
    if all(set(shelf.classes).isdisjoint(found["train"].classes) for shelf in held.values()):
        return {"train": _joined([*found.values(), *held.values()])}
    return {**found, "test": next(iter(held.values()))}


def _shelf(root: Path) -> Shelf:
    shelf = Shelf([], [], np.zeros(0, np.int32), [], [])
    counts = []
    for folder, names in _walk(str(root)):
        parts = Path(folder).relative_to(root).parts
        parts = parts[:-1] if len(parts) > 1 and parts[-1].lower() == "images" else parts
        if not parts:
            continue  # pictures beside the class folders have no class
        shelf.folders.append(folder)
        shelf.names += names
        shelf.classes.append(parts[-1])
        shelf.groups.append("/".join(parts[:-1]))
        counts.append(len(names))
    shelf.owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return shelf


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Folders that hold pictures, in alphabetical order, with the names of their pictures."""
    names = []
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.name.lower().endswith(ENDINGS):
                names.append(entry.name)
            elif entry.is_dir():
                below.append(entry.path)
    if names:
        yield folder, sorted(names)
    for path in sorted(below):
        yield from _walk(path)


def _annotated(folder: Path) -> Shelf:
    """Tiny ImageNet's validation part: pictures in one folder, classes in a table."""
    rows = [line.split("\t") for line in (folder / "val_annotations.txt").read_text().splitlines() if line]
    classes = sorted({row[1] for row in rows})
    by_class = {label: sorted(row[0] for row in rows if row[1] == label) for label in classes}
    owner = np.repeat(np.arange(len(classes), dtype=np.int32), [len(by_class[label]) for label in classes])
    names = [name for label in classes for name in by_class[label]]
    return Shelf([str(folder / "images")] * len(classes), names, owner, classes, [""] * len(classes))


def _joined(shelves: Sequence[Shelf]) -> Shelf:
    shift = np.cumsum([0, *[len(shelf.folders) for shelf in shelves]])
    return Shelf(
        [folder for shelf in shelves for folder in shelf.folders],
        [name for shelf in shelves for name in shelf.names],
        np.concatenate([shelf.owner + start for shelf, start in zip(shelves, shift, strict=False)]),
        [label for shelf in shelves for label in shelf.classes],
        [group for shelf in shelves for group in shelf.groups],
    )


def _words(root: Path) -> dict[str, str]:
    """Names of ImageNet's classes, where a table of them lies there."""
    path = root / "words.txt"
    if not path.is_file():
        return {}
    rows = [line.partition("\t") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return {key: words.partition(",")[0].strip() for key, _, words in rows if words}


def _look(shelves: dict[str, Shelf], side: int | None) -> Look:
    rows = [(shelf, row) for shelf in shelves.values() for row in evenly(len(shelf), LOOKED_AT)]
    return looks_like([shelf.path(row) for shelf, row in rows], side)


def looks_like(paths: Sequence[str], side: int | None) -> Look:
    """What pictures are brought to, from their headers.

    Raises:
        DataError: one that is no picture.
    """
    sizes = set()
    grey = True
    for path in paths:
        try:
            with Image.open(path) as file:
                turned = file.getexif().get(_ORIENTATION, 1) >= 5  # lies on its side
                sizes.add(file.size if turned else file.size[::-1])
                grey = grey and file.mode in _GREY
        except (OSError, SyntaxError, ValueError) as error:
            told = " ".join(str(error).split())
            raise DataError(f"{path} is no picture ({told}); replace it or take it out.") from error
    several = len(sizes) > 1
    if several and side is None:
        side = min(LARGEST_SIDE, min(min(size) for size in sizes))
    height, width = (side, side) if side is not None else next(iter(sizes))
    return Look("L" if grey else "RGB", side, height, width, several)


def _part(shelf: Shelf, number: dict[str, int], names: tuple[str, ...], look: Look, notes: tuple[str, ...]) -> Part:
    shape = (1 if look.mode == "L" else 3, look.height, look.width)

    def read(rows: np.ndarray) -> Tensor:
        out = np.empty((len(rows), *shape), dtype=np.uint8)
        for place, row in enumerate(rows):
            out[place] = look.read(shelf.path(int(row)))
        return torch.from_numpy(out)

    count = len(shelf)
    everything = np.arange(count)
    images: Tensor | LazyImages
    if count * int(np.prod(shape)) <= IN_MEMORY_BYTES:
        images = read(everything)
    else:
        images = LazyImages(read, everything, shape, torch.uint8, cache(lambda: _digest(shelf)))
    labels = np.array([number[label] for label in shelf.classes], dtype=np.int64)[shelf.owner]
    groups = np.array(shelf.groups)
    columns = {"folder": groups[shelf.owner]} if len(set(shelf.groups)) > 1 else {}
    return Part(images, "pixels", labels, columns, len(number), names, notes)


def _digest(shelf: Shelf) -> bytes:
    """What a folder holds, as far as seconds can tell: every name, up to 50,000 sizes, the bytes of 1,000 pictures."""
    told = hashlib.sha256()
    sizes = {row: os.stat(shelf.path(row)).st_size for row in evenly(len(shelf), SIZES)}
    lines = (f"{shelf.classes[owner]}/{name}:" for owner, name in zip(shelf.owner.tolist(), shelf.names, strict=True))
    told.update("".join(f"{line}{sizes.get(row, '')}" for row, line in enumerate(lines)).encode())
    for row in evenly(len(shelf), LOOKED_AT):
        told.update(Path(shelf.path(row)).read_bytes())
    return told.digest()
