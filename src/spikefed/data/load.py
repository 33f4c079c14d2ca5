"""`load`: a data set by name, verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spikefed.data import cifar, idx
from spikefed.data.catalogue import DatasetInfo, dataset_info
from spikefed.data.classnames import CLASS_NAMES
from spikefed.data.digits import read_digits
from spikefed.data.events import EVENT_SETS, read_event_set
from spikefed.data.images import ImageSet
from spikefed.data.locate import Found, locate
from spikefed.data.mat import read_mat
from spikefed.data.own import load_own
from spikefed.data.parts import Reading, Sources
from spikefed.data.verify import again
from spikefed.data.watch import read_watch
from spikefed.errors import DataError
from spikefed.objects import is_own

_READERS = {
    "idx": idx.read_official,
    "idx-plain": idx.read_official,
    "idx-zip": idx.read_official,
    "batches": cifar.read_batches,
    "batches-tar": cifar.read_batches,
    "tiles": cifar.read_tiles,
    "mat": read_mat,
}


def load(
    name: str, split: str, data_dir: Path | str | None = None, *, verify: bool = True, reading: Reading | None = None
) -> ImageSet:
    """Load one split of a data set.

    Args:
        name: a name of `datasets`, such as ``"digits"``, ``"mnist"``, ``"emnist-balanced"``, ``"cifar10"``; or the
            user's own, ``"module:attribute"`` or ``"npz:PATH"`` (see `own`).
        split: ``"train"`` or ``"test"``.
        data_dir: folder to look in (also in its usual sub-folders); None: $SPIKEFED_DATA, ./data, the user cache.
        reading: how event sets become frames.
        verify: compare sizes and checksums of the official files. Counts, shapes and label ranges are always checked.

    Returns:
        The images upright, in the official order, labels from 0.

    Raises:
        DataError: unknown name or split; files missing, truncated, altered, or not of one release.
    """
    if split not in ("train", "test"):
        raise DataError(f"{name} has no split '{split}'; choose 'train' or 'test'.")
    if is_own(name):
        found = load_own(name, data_dir)
        return found.train if split == "train" else found.test
    if name in EVENT_SETS:
        return read_event_set(name, split, data_dir, reading)
    info = dataset_info(name)
    if name == "watch":
        return read_watch(split)
    if not info.forms:
        images, labels = read_digits(split)
        where = "scikit-learn's digits"
    else:
        found = locate(info, split, data_dir)
        images, labels = read_found(info, split, found, verify)
        where = f"{', '.join(f.name for f in found.form.files[split])} in {found.folder}"
    return _assemble(info, split, images, labels, where)


def load_both(name: str, data_dir: Path | str | None = None) -> tuple[ImageSet, ImageSet]:
    """Training and test set; a user's own source is read once.

    Raises:
        DataError: as `load`.
    """
    found = load_sources(name, data_dir)
    return found.train, found.test


def load_sources(name: str, data_dir: Path | str | None = None, reading: Reading | None = None) -> Sources:
    """Training set, test set, and public rows where the source brings its own.

    Args:
        name: as for `load`.
        data_dir: as for `load`.
        reading: how a user's own source is to be read, where it does not say so itself.

    Raises:
        DataError: as `load`.
    """
    if is_own(name):
        return load_own(name, data_dir, reading)
    return Sources(*(load(name, split, data_dir, reading=reading) for split in ("train", "test")))


def read_found(info: DatasetInfo, split: str, found: Found, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as they stand in the files; a file that the system will not read is a DataError too.

    Args:
        info: entry of the catalogue.
        split: ``train`` or ``test``.
        found: where the files lie and in which form.
        verify: check sizes and checksums first.
    """
    try:
        return _READERS[found.form.kind](info, split, found, verify)
    except OSError as error:
        raise DataError(
            f"{error.filename or found.folder} cannot be read ({error.strerror or error}); check its permissions and "
            "the disk."
        ) from error


def _assemble(info: DatasetInfo, split: str, images: np.ndarray, labels: np.ndarray, where: str) -> ImageSet:
    """Check counts, shape and label range against the catalogue and wrap the arrays."""
    shape = (images.shape[0], *info.shape)
    if images.shape not in (shape, (shape[0], *info.shape[1:])):
        raise DataError(
            f"{where}: images have shape {list(images.shape[1:])}, {info.title} has {list(info.shape)}; "
            f"{again(info.name)}."
        )
    if len(images) not in info.counts[split]:
        raise DataError(
            f"{where}: {len(images):,} images, {info.title} ({split}) has {info.sizes[split]:,}; {again(info.name)}."
        )
    targets = labels.astype(np.int64) - info.label_offset
    if len(targets) and (targets.min() < 0 or targets.max() >= info.classes):
        first, last = info.label_offset, info.label_offset + info.classes - 1
        raise DataError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, {info.title} has {first} to {last}; "
            f"{again(info.name)}."
        )
    pixels = np.ascontiguousarray(images).reshape(shape)
    names = CLASS_NAMES.get(info.name, ())
    return ImageSet(info.name, split, torch.from_numpy(pixels), torch.from_numpy(targets), info.classes, names)
