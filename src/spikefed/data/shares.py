"""Share folders: what each machine of a fleet holds, one folder a machine.

=================  ==================================================================================================
file               arrays
=================  ==================================================================================================
``public.npz``     ``images`` (or ``series``, ``frames``, ``rows``), the same rows everywhere; ``class_names`` (texts,
                   in the order of the outputs) or ``classes`` (how many); optional ``pixels`` (``unit``, ``signed``,
                   ``standard``, ``raw``), and ``mean`` and ``std`` ``[C]`` for ``standard``
``private.npz``    a client's own ``images`` and ``labels``; optional ``validation_images`` and ``validation_labels``,
                   ``test_images`` and ``test_labels``
``test.npz``       the server's ``images`` and ``labels``
both of these      in a run of stages ``tasks`` (and ``validation_tasks``, ``test_tasks``): the task of each row, from 0
=================  ==================================================================================================

Labels are numbers from 0, or texts out of ``class_names``. Public rows are put into an order that their content alone
fixes, so machines whose files hold them in different orders agree. What `spikefed data share` writes also says
``values`` (the arrays are stored as image sets have them) and ``order = "given"`` (rows stay in the run's own order).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from spikefed.data.images import ImageSet, by_content
from spikefed.data.npz import arrays_of, items_of
from spikefed.data.parts import Part, Reading, part_of
from spikefed.data.publicset import PublicFacts, facts_of, scale_text
from spikefed.data.tasks import TASK
from spikefed.errors import DataError
from spikefed.files import counted_from

SHARES = "shares:"
SERVER = "server"
PUBLIC = "public.npz"
PRIVATE = "private.npz"
TEST = "test.npz"
PIXELS = ("unit", "signed", "standard", "raw")
_OF_VERSION_0_1 = ["images", "classes", "pixels", "mean", "std"]
"""Arrays, in this order, of a public file that says nothing of its order and has the run's own."""


@dataclass(frozen=True, eq=False)
class PublicShare:
    """A public file, read.

    Attributes:
        rows: the public rows in the order that everybody has; their labels say nothing.
        pixels: the pixel mode that the file states, or None.
        mean: of each channel, for ``standard``; may be empty.
        std: as ``mean``.
    """

    rows: ImageSet
    pixels: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def facts(self) -> PublicFacts:
        """What two machines compare."""
        scale = scale_text(self.pixels, self.mean, self.std) if self.pixels else ""
        return facts_of(self.rows.images, self.rows.classes, self.rows.class_names, scale)


def share_folder(name: str, data_dir: Path | str | None = None) -> Path:
    """The folder of ``shares:FOLDER``; paths count from ``data_dir``, else from here.

    Raises:
        DataError: there is no such folder.
    """
    path = Path(data_dir or "") / Path(name.removeprefix(SHARES)).expanduser()
    if not path.is_dir():
        raise DataError(
            f"{path} is no folder{counted_from(path)}; name the folder of share folders, made by 'spikefed data share' "
            "or you."
        )
    return path


def client_folders(folder: Path, clients: int) -> list[Path]:
    """``client-0``, ``client-1``, ... of a folder of share folders; none where it is one machine's.

    Raises:
        DataError: more or fewer of them than clients.
    """
    found = [path for path in folder.glob("client-*") if path.is_dir()]
    wanted = [folder / f"client-{number}" for number in range(clients)]
    if not found:
        return []
    odd = sorted({path.name for path in found} ^ {path.name for path in wanted})
    if odd:
        raise DataError(
            f"{folder} has {len(found)} client folders and data.clients is {clients}: {odd[0]} is "
            f"{'missing' if not (folder / odd[0]).is_dir() else 'one too many'}; name them client-0 to "
            f"client-{clients - 1}, or set data.clients = {len(found)}."
        )
    return wanted


def read_public(folder: Path, reading: Reading, *, content: bool = False) -> PublicShare:
    """The public set of a share.

    Args:
        folder: of one machine.
        reading: what the file does not say itself.
        content: order the rows by content whatever the file says of its order.

    Raises:
        DataError: missing, damaged, or without what the table above asks for.
    """
    path = folder / PUBLIC
    arrays = _archive(path)
    part = _part(arrays, path, reading, labelled=False)
    names = tuple(str(name) for name in arrays.get("class_names", ()))
    classes = _classes(arrays, names, path)
    given = str(arrays["order"]) == "given" if "order" in arrays else list(arrays) == _OF_VERSION_0_1
    images = part.images[:]
    if content or not given:
        images = images[by_content(images)]
    labels = torch.zeros(len(images), dtype=torch.int64)
    rows = ImageSet(f"share {folder}", "public", images, labels, classes, names, part.values, notes=part.notes)
    mode = str(arrays["pixels"]) if "pixels" in arrays else None
    if mode not in (None, *PIXELS):
        raise DataError(f"{path}: pixels = '{mode}' is no mode; write one of {', '.join(PIXELS)}, or leave it out.")
    mean, std = (tuple(map(float, np.ravel(arrays.get(key, ())))) for key in ("mean", "std"))
    if len(mean) != len(std) or len(mean) not in (0, rows.shape[0]):
        raise DataError(
            f"{path}: 'mean' has {len(mean)} numbers and 'std' {len(std)}, the images have {rows.shape[0]} channels; "
            "give one of each a channel, or leave both out."
        )
    return PublicShare(rows, mode, mean, std)


class Private(NamedTuple):
    """A client's own items.

    Attributes:
        train: trained on, and with no validation part in the file also those that are held out of them.
        validation: measure the client while it trains; may be empty.
        test: never used in training; measure what the client gains; may be empty.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet


def read_private(folder: Path, public: PublicShare, reading: Reading) -> Private:
    """A client's own items.

    Raises:
        DataError: missing, damaged, empty, or not of the public set's shape and classes.
    """
    path = folder / PRIVATE
    arrays = _archive(path)
    own = _tasked(_set(_part(arrays, path, reading), public, path, "train"), arrays, "tasks", path)
    if not len(own):
        raise DataError(f"{path} holds no items; give the client some of its own.")

    def other(split: str) -> ImageSet:
        items, _, _ = items_of(arrays, split, reading)
        if not items or not len(arrays[items]):
            return own.subset([])
        found = _set(_part(arrays, path, reading, split=split), public, path, split)
        return _tasked(found, arrays, f"{split}_tasks", path)

    return Private(own, other("validation"), other("test"))


def read_test(folder: Path, public: PublicShare, reading: Reading) -> ImageSet:
    """The server's test set.

    Raises:
        DataError: missing, damaged, empty, or not of the public set's shape and classes.
    """
    path = folder / TEST
    if not path.exists() and (folder / PRIVATE).exists():
        raise DataError(f"{folder} is a client's share (it has {PRIVATE}); a server's has {PUBLIC} and {TEST}.")
    arrays = _archive(path)
    found = _tasked(_set(_part(arrays, path, reading), public, path, "test"), arrays, "tasks", path)
    if not len(found):
        raise DataError(f"{path} holds no items; give the server some to measure the network on.")
    return found


def _tasked(images: ImageSet, arrays: Mapping[str, np.ndarray], key: str, path: Path) -> ImageSet:
    """The set with the task of each item, where the file says it."""
    if key not in arrays:
        return images
    if len(arrays[key]) != len(images):
        raise DataError(f"{path}: '{key}' has {len(arrays[key])} numbers for {len(images)} items; give one an item.")
    return replace(images, columns={**images.columns, TASK: arrays[key].astype(np.int64)})


def _archive(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"{path} is not there; make a share with 'spikefed data share', or see docs/deploy.md.")
    try:
        return arrays_of(path)
    except DataError as error:
        raise DataError(f"{path} is no NumPy archive ({str(error).partition(': ')[2] or error})") from error


def _part(
    arrays: Mapping[str, np.ndarray], path: Path, reading: Reading, *, split: str = "", labelled: bool = True
) -> Part:
    """One part of a file, as it is stored where the file says what its numbers are, else as own data are read."""
    items, labels, reading = items_of(arrays, split, reading)
    wanted = f"{split}_images" if split else "images"
    if not items or (labelled and not labels):
        missing = wanted if not items else wanted.replace("images", "labels")
        raise DataError(f"{path} has no array '{missing}'; it has {', '.join(arrays) or 'none'}.")
    count = len(arrays[items]) if arrays[items].ndim else 0
    given = arrays[labels] if labelled else np.zeros(count, np.int64)
    where = f"{path} ({items})"
    if "values" not in arrays and not count:
        raise DataError(f"{where} holds no items; give it some.")
    if "values" not in arrays:
        return part_of(arrays[items], given, where, reading)
    values: Any = str(arrays["values"])
    return Part(torch.from_numpy(np.ascontiguousarray(arrays[items])), values, np.asarray(given))


def _set(part: Part, public: PublicShare, path: Path, split: str) -> ImageSet:
    """A part as an image set with the public set's classes."""
    rows = public.rows
    if tuple(part.images.shape[1:]) != tuple(rows.images.shape[1:]) or part.values != rows.values:
        raise DataError(
            f"{path}: its items are {_x(part.images.shape[1:])} {part.values}, the public ones "
            f"{_x(rows.images.shape[1:])} {rows.values}; bring them to one form."
        )
    labels = torch.from_numpy(_numbers(part.labels, rows, path))
    return replace(rows, name=f"share {path.parent}", split=split, images=part.images, labels=labels, notes=part.notes)


def _numbers(labels: np.ndarray, rows: ImageSet, path: Path) -> np.ndarray:
    """Labels as class numbers, int64 ``[N]``."""
    if labels.dtype.kind == "U":
        known = {name: number for number, name in enumerate(rows.class_names)}
        unknown = next((label for label in labels if label not in known), None)
        if unknown is not None:
            listed = ", ".join(rows.class_names[:8]) or "none"
            raise DataError(
                f"{path}: label '{unknown}' is none of the 'class_names' of {PUBLIC} ({listed}); add it there on every "
                "machine, or correct it."
            )
        return np.array([known[label] for label in labels], np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < rows.classes:
        raise DataError(
            f"{path}: labels run from {labels.min()} to {labels.max()}, and {PUBLIC} says that there are "
            f"{rows.classes} classes; number them from 0, or give texts out of its 'class_names'."
        )
    return labels.astype(np.int64)


def _classes(arrays: Mapping[str, np.ndarray], names: tuple[str, ...], path: Path) -> int:
    if "classes" not in arrays and not names:
        raise DataError(
            f"{path} has no array 'class_names' and no 'classes', so nobody knows how many outputs the network has; "
            f"add one (it has {', '.join(arrays) or 'none'})."
        )
    classes = int(arrays["classes"]) if "classes" in arrays else len(names)
    if classes < 2 or (names and len(names) != classes):
        raise DataError(f"{path}: 'classes' is {classes} and 'class_names' has {len(names)}; give at least two, alike.")
    return classes


def _x(shape: Any) -> str:
    return "x".join(map(str, shape))
