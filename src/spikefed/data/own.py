"""A user's own data: arrays, any torch ``Dataset``, a function or class in a module, files, or a list of data sets.

Rules (docs, "Your own data"): pixels become uint8, labels int64 from 0. Floats must lie in [0, 1] and are rounded to
the nearest of 256 levels; anything else is refused rather than guessed at, because a wrong guess trains on noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spikefed.data.folder import IMAGES, read_folder
from spikefed.data.images import ImageSet
from spikefed.data.items import IMAGE_KEYS, LABEL_KEYS, from_items, key_of
from spikefed.data.npz import NPZ, read_npz
from spikefed.data.parts import Part, Reading, Sources, joined, part_of, sets_of
from spikefed.data.shares import SHARES
from spikefed.data.table import CSV, read_table
from spikefed.errors import DataError, SpikefedError
from spikefed.objects import call, import_object, name_of, parameters, said

READERS = {NPZ: read_npz, IMAGES: read_folder, CSV: read_table}
SPLITS = ("train", "test", "public")


def load_own(name: str, data_dir: Path | str | None = None, reading: Reading | None = None) -> Sources:
    """Training and test set of ``images:FOLDER``, ``csv:FILE``, ``npz:PATH`` or ``module:attribute``.

    Raises:
        DataError: not found, or not images with labels as the rules say.
    """
    reading = reading or Reading()
    for prefix, read in READERS.items():
        if name.startswith(prefix):
            return sets_of(read(name, data_dir, reading), name)
    if name.startswith(SHARES):
        raise DataError(
            f"{name} says who holds what and is no set to be dealt out; name it as data.dataset of an experiment, or "
            "with 'spikefed run FILE --data FOLDER'."
        )
    return sources(import_object(name, "data.dataset", DataError), name, data_dir, reading)


def image_sets(source: Any, name: str | None = None, data_dir: Path | str | None = None) -> tuple[ImageSet, ImageSet]:
    """Training and test set from anything that holds images and labels; see `sources` for what may be given.

    Raises:
        DataError: whatever is wrong, in one sentence.
    """
    found = sources(source, name, data_dir)
    return found.train, found.test


def sources(
    source: Any, name: str | None = None, data_dir: Path | str | None = None, reading: Reading | None = None
) -> Sources:
    """Training, test and, where given, public set from anything that holds images and labels.

    Args:
        source: ``(images, labels)``; ``{"images": ..., "labels": ..., "person": ...}``, whose other entries are kept as
            columns; a torch ``Dataset`` of ``(image, label)`` or dict items; ``(train, test)`` or
            ``{"train": ..., "test": ..., "public": ...}`` of these; a list of at least three of these, or
            ``{"clients": [...]}`` of any number, one a client; or a function or class that gives one of these. A
            callable with a parameter ``split`` is called with "train" and "test", one with ``train`` with True and
            False; ``data_dir`` (or ``root``) is passed to those that name it. A source of one part gives a fifth of
            each class to the test set, chosen by a fixed seed. Datasets are read once, under torch seed 0.
        name: what errors and reports call it.
        data_dir: folder that callables may ask for.
        reading: what the source does not say itself.

    Raises:
        DataError: whatever is wrong, in one sentence.
    """
    name = name or name_of(source)
    reading = reading or Reading()
    made = _called(source, name, data_dir) if _is_callable(source) else source
    if isinstance(made, tuple | list) and len(made) in (2, 3) and all(isinstance(part, ImageSet) for part in made):
        return Sources(*made)
    told = _parts(made)
    clients = told.pop("clients", None)
    parts: dict[str, Part] = {}
    for split, part in told.items():
        if split == "public" and isinstance(part, Tensor | np.ndarray):
            part = part, np.zeros(len(part), np.int64)  # public rows need no labels
        parts[split] = _part(part, f"{name} ({split})", reading)
    return sets_of(parts if clients is None else {**_of_clients(clients, name, reading), **parts}, name)


def _of_clients(clients: Any, name: str, reading: Reading) -> dict[str, Part]:
    """One part of all clients' training data, and one of their test data where they have some."""
    named = clients if isinstance(clients, Mapping) else dict(enumerate(clients))
    if len(named) < 1:
        raise DataError(f"{name}: the list of clients is empty; give one data set a client.")
    both = {client: _parts(source) for client, source in named.items()}
    found: dict[str, Part] = {}
    for split in ("train", "test"):
        held = {
            str(c): _part(p[split], f"{name} (client {c}, {split})", reading) for c, p in both.items() if split in p
        }
        if held:
            found[split] = joined(held, name)
    return found


def _is_callable(source: Any) -> bool:
    return callable(source) and not isinstance(source, Dataset)


def _called(source: Callable[..., Any], name: str, data_dir: Path | str | None) -> Any:
    known = parameters(source)
    folder = {} if data_dir is None else {"data_dir": Path(data_dir), "root": Path(data_dir)}
    if "root" in known and known["root"].default is known["root"].empty and data_dir is None:
        raise DataError(f"{name} asks for its folder ('root'); give it as data.dir or --data-dir.")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if "split" in known:
                return {split: call(source, {**folder, "split": split}) for split in ("train", "test")}
            if "train" in known:
                return {split: call(source, {**folder, "train": split == "train"}) for split in ("train", "test")}
            return call(source, folder)
    except SpikefedError:
        raise
    except Exception as error:  # the user's code
        raise DataError(f"{name} failed: {said(error)}") from error


def _parts(made: Any) -> dict[str, Any]:
    """``{"train": ..., "test": ...}``, without the test part where there is none; or ``{"clients": ...}``."""
    if isinstance(made, Mapping):
        return {key: made[key] for key in (*SPLITS, "clients") if key in made} or {"train": made}
    if isinstance(made, tuple | list):
        if len(made) == 2 and not _is_array(made[0]):
            return {"train": made[0], "test": made[1]}
        if len(made) > 2 and all(map(_is_set, made)):
            return {"clients": made}
    return {"train": made}


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or (isinstance(value, list) and not isinstance(value, Dataset))


def _is_set(value: Any) -> bool:
    """A data set rather than an item of one: a pair of images and as many labels, a Dataset, or parts by name."""
    if isinstance(value, ImageSet | Dataset):
        return True
    if isinstance(value, Mapping):
        return "train" in value or np.ndim(value.get(key_of(value, LABEL_KEYS) or "", 0)) > 0
    pair = isinstance(value, tuple | list) and len(value) == 2
    return pair and np.ndim(value[1]) == 1 and np.ndim(value[0]) > 2 and len(value[0]) == len(value[1])


def _part(part: Any, where: str, reading: Reading) -> Part:
    if isinstance(part, ImageSet):
        return Part(
            part.images, part.values, part.labels.numpy(), part.columns, part.classes, part.class_names, part.notes
        )
    if isinstance(part, tuple | list) and len(part) == 2:
        return part_of(part[0], part[1], where, reading)
    if isinstance(part, Mapping):
        return _of_arrays(part, where, reading)
    if isinstance(part, Dataset) or (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
        return from_items(part, where, reading)
    raise DataError(
        f"{where} is {type(part).__name__}; give (images, labels), a torch Dataset, or (train, test) of either."
    )


def _of_arrays(part: Mapping[str, Any], where: str, reading: Reading) -> Part:
    """Arrays by name; those beside images and labels are columns."""
    images, labels = key_of(part, IMAGE_KEYS), key_of(part, LABEL_KEYS)
    if images is None or labels is None:
        raise DataError(f"{where} has {', '.join(map(str, part)) or 'nothing'}; it needs 'images' and 'labels'.")
    count = len(part[labels])
    columns = {
        str(key): np.asarray(value)
        for key, value in part.items()
        if key not in (images, labels) and isinstance(value, Sequence | np.ndarray) and len(value) == count
    }
    return part_of(part[images], part[labels], where, reading, columns=columns)
