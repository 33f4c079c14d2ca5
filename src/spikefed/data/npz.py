"""Files of NumPy arrays.

===========================================  =========================================================
array                                        what it is
===========================================  =========================================================
``images``, ``x``, ``series``, ``frames``    the items of a file that holds one part, or of its training part
``labels``, ``y``                            their classes
``train_images``, ``x_train``, ...           items of the training part; ``test_`` and ``public_`` alike
``train_labels``, ``y_train``, ...           their classes; public items need none
any other of the same length                 a column: ``person``, or ``train_person`` beside ``train_images``
===========================================  =========================================================

A folder holds ``train.npz`` and ``test.npz`` of one part each; or any other names, one file a client; or ``.npy``
files with the names above. Arrays above 256 MiB stay on disk, unless the archive is compressed.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from spikefed.data.convert import Kind
from spikefed.data.lazy import IN_MEMORY_BYTES
from spikefed.data.locate import search_folders
from spikefed.data.parts import Part, Reading, joined, part_of
from spikefed.errors import DataError
from spikefed.files import counted_from

NPZ = "npz:"
_ITEMS = ("images", "x", "series", "frames", "rows")
_KINDS: tuple[Kind, ...] = ("series", "frames", "rows")
_LABELS = ("labels", "y", "label")
_NAME_LENGTH = 26  # where a zip's local header has the lengths of name and extra field
_SPLITS = ("train", "test", "public")


def read_npz(name: str, data_dir: Path | str | None, reading: Reading) -> dict[str, Part]:
    """The parts of ``npz:PATH``: a file, or a folder of files.

    Raises:
        DataError: not found, no NumPy archive of plain arrays, or arrays of other names.
    """
    path = Path(name.removeprefix(NPZ)).expanduser()
    roots = [Path()] if path.is_absolute() else [*([Path()] if data_dir is None else []), *search_folders(data_dir)]
    for place in (p for root in roots for p in (root / path, root / f"{path}.npz")):
        if place.is_file():
            return _parts(arrays_of(place), place, reading)
        if place.is_dir():
            files = {file.stem: file for file in sorted(place.glob("*.npz"))}
            if "train" in files:
                both = {split: files[split] for split in _SPLITS if split in files}
                return {split: _single(arrays_of(file), file, reading, split) for split, file in both.items()}
            if files:
                return _clients(files, reading)
            if any(place.glob("*.npy")):
                return _parts(arrays_of(place), place, reading)
    looked = ", ".join(str(root / path) for root in roots)
    raise DataError(
        f"{name} was not found as {looked}{counted_from(roots[0] / path)}: give an .npz file, or a folder with "
        "train.npz and test.npz; with data.dir (or --data-dir) it counts from there."
    )


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """Every array of an archive. Shapes are as in the file.

    Raises:
        DataError: it cannot be read, or holds pickled objects.
    """
    try:
        if path.is_dir():
            return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(path.glob("*.npy"))}
        mapped = _mapped(path) if path.stat().st_size > IN_MEMORY_BYTES else {}
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise DataError(
                    f"{path} is one array of shape {list(arrays.shape)} without labels; write it and them into one "
                    "file with numpy.savez(FILE, images=..., labels=...)."
                )
            return {key: mapped[key] if key in mapped else arrays[key] for key in arrays.files}
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, EOFError) as error:
        # NumPy takes any other bytes for a pickle, and tells how to load one unsafely.
        why = "it is neither an archive nor an array" if "pickled (object) data" in str(error) else str(error)
        raise DataError(f"{path} is no .npz file of plain arrays: {why}; write it with numpy.savez.") from error


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The large arrays of an archive that is not compressed, left on disk."""
    found = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size <= IN_MEMORY_BYTES:
                continue
            file.seek(member.header_offset + _NAME_LENGTH)
            name, extra = struct.unpack("<HH", file.read(4))
            file.seek(name + extra, 1)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if not dtype.hasobject:
                order = "F" if fortran else "C"
                found[member.filename.removesuffix(".npy")] = np.memmap(
                    path, dtype, "r", file.tell(), shape, order=order
                )
    return found


def items_of(arrays: Mapping[str, np.ndarray], split: str, reading: Reading) -> tuple[str, str, Reading]:
    """Names of a part's items and labels (empty where there are none), and how its name says that it is to be read.

    Args:
        arrays: of the archive, by name.
        split: the word before or after; empty: the names that say nothing of a part.
        reading: what was said before.
    """
    items, labels = _bare(arrays) if not split else _names(arrays, split) or ("", "")
    return items, labels, _said_by(items, reading)


def _said_by(items: str, reading: Reading) -> Reading:
    """The name may say what an array is."""
    word = next((kind for kind in _KINDS if kind in items), None)
    return replace(reading, kind=word) if word and reading.kind is None else reading


def _parts(arrays: dict[str, np.ndarray], path: Path, reading: Reading) -> dict[str, Part]:
    found = {split: names for split in _SPLITS if (names := _names(arrays, split))}
    if "train" not in found and found and _bare(arrays)[0]:  # "images" beside "test_images" are for training
        found = {"train": _bare(arrays), **found}
    if "train" not in found:
        return {"train": _single(arrays, path, reading, "train")}
    ours = {key for names in found.values() for key in names}
    return {split: _part(arrays, names, split, path, reading, ours) for split, names in found.items()}


def _names(arrays: Mapping[str, np.ndarray], split: str) -> tuple[str, str] | None:
    """Names of a part's items and labels, in either order of words; None where it has no items."""
    both = lambda word: (f"{split}_{word}", f"{word}_{split}")  # noqa: E731
    items = next((key for word in _ITEMS for key in both(word) if key in arrays), None)
    if items is None:
        return None
    return items, next((key for word in _LABELS for key in both(word) if key in arrays), "")


def _bare(arrays: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """Names of items and labels that say nothing of a part; empty where there are none."""
    return next((key for key in _ITEMS if key in arrays), ""), next((key for key in _LABELS if key in arrays), "")


def _single(arrays: dict[str, np.ndarray], path: Path, reading: Reading, split: str) -> Part:
    """A file of one part."""
    items, labels = _bare(arrays)
    if not items:
        items, labels = _names(arrays, split) or ("", "")
    return _part(arrays, (items, labels), split, path, reading, {items, labels})


def _part(
    arrays: dict[str, np.ndarray],
    names: tuple[str, str],
    split: str,
    path: Path,
    reading: Reading,
    ours: set[str],
) -> Part:
    items, labels = names
    if not items or (not labels and split != "public"):
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; it must hold '{split}_images' and '{split}_labels' or "
            f"'x_{split}' and 'y_{split}', or 'images' and 'labels' of one part."
        )
    count = len(arrays[items]) if arrays[items].ndim else 0
    given = arrays[labels] if labels else np.zeros(count, np.int64)
    columns = _columns(arrays, split, count, ours)
    part = part_of(arrays[items], given, f"{path.name} ({split})", _said_by(items, reading), columns=columns)
    return replace(part, notes=(*part.notes, *_unused(arrays, split, count, ours, path)))


def _columns(arrays: dict[str, np.ndarray], split: str, count: int, ours: set[str]) -> dict[str, np.ndarray]:
    """Arrays of one value an item, those of other parts left out."""
    columns = {}
    for key, array in arrays.items():
        if key in ours or array.ndim != 1 or len(array) != count:
            continue
        if _owner(key, split) == split:
            columns[key.removeprefix(f"{split}_").removesuffix(f"_{split}")] = array
    return columns


def _owner(key: str, other: str) -> str:
    """The part that an array's name speaks of, else ``other``."""
    return next((s for s in _SPLITS if key.startswith(f"{s}_") or key.endswith(f"_{s}")), other)


def _unused(arrays: dict[str, np.ndarray], split: str, count: int, ours: set[str], path: Path) -> list[str]:
    """A sentence for each array that is no column; of a name without a part the training part speaks.

    Args:
        arrays: of the archive, by name.
        split: the part.
        count: its items.
        ours: names of all items and labels.
        path: for the sentence.
    """
    told = []
    for key, array in arrays.items():
        if key in ours or not array.ndim or array.shape == (count,) or _owner(key, "train") != split:
            continue
        held = f"{len(array)} values" if array.ndim == 1 else f"shape {list(array.shape)}"
        told.append(f"{path.name} ({split}): '{key}' has {held} for {count} items, so it is not used.")
    return told


def _clients(files: Mapping[str, Path], reading: Reading) -> dict[str, Part]:
    """One file a client; those that hold a test part keep it."""
    read = {name: _parts(arrays_of(path), path, reading) for name, path in files.items() if name not in _SPLITS}
    where = str(next(iter(files.values())).parent)
    found = {}
    for split in ("train", "test"):
        held = {name: parts[split] for name, parts in read.items() if split in parts}
        if held:
            found[split] = joined(held, where)
    for split in ("test", "public"):
        if split in files:
            found[split] = _single(arrays_of(files[split]), files[split], reading, split)
    return found
