"""From labels as people write them to class numbers from 0, with the names kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from spikefed.errors import DataError

FEW = 20
"""Up to so many classes may have few samples each; beyond, values that nearly all differ are no classes."""


@dataclass(frozen=True)
class Numbered:
    """Labels as class numbers.

    Attributes:
        labels: int64 ``[N]`` for each part.
        classes: number of classes.
        names: a name a class, or none.
        notes: what was done, a sentence each.
    """

    labels: dict[str, np.ndarray]
    classes: int
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def label_array(value: Any, count: int, where: str) -> np.ndarray:
    """``[N]`` of whole numbers (int64) or texts.

    Raises:
        DataError: another shape or length, fractions, missing or mixed values.
    """
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = "; of one-hot rows take argmax(1)" if array.ndim == 2 else ""
        raise DataError(f"{where}: labels have shape {list(array.shape)}; give one class number an image, [N]{hint}.")
    if len(array) != count:
        raise DataError(f"{where}: {count:,} images but {len(array):,} labels; give one label for each image.")
    if array.dtype.kind == "O":
        kinds = sorted({type(item).__name__ for item in array})
        if len(kinds) > 1 and not all(isinstance(item, int | np.integer) for item in array):
            raise DataError(f"{where}: labels are {' and '.join(kinds[:3])}; give whole numbers, or texts.")
        array = np.asarray(array.tolist())
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all() or not (array == np.rint(array)).all():
        raise DataError(f"{where}: labels are {array.dtype}; give whole numbers from 0, or texts.")
    return array.astype(np.int64)


def number(parts: Mapping[str, np.ndarray], declared: int, names: Sequence[str], where: str) -> Numbered:
    """Class numbers of all parts together.

    * Texts: classes in the order of ``names`` where it holds them all, else in alphabetical order.
    * Numbers from 0 without a gap, or below ``declared``: as they are.
    * Numbers from 0 with gaps: as they are while at least half of the classes have images, else refused.
    * Other numbers, such as 5, 7 and 42: in ascending order, and the numbers become names.
    Each part's labels are ``[N]``.

    Args:
        parts: what `label_array` gave for each part.
        declared: number of classes that the source states, or 0.
        names: their names, or none.

    Raises:
        DataError: one class, a negative number, most classes empty, or values that are no classes.
    """
    kinds = {"text" if array.dtype.kind == "U" else "number" for array in parts.values() if len(array)}
    if len(kinds) > 1:
        raise DataError(f"{where}: one part has texts as labels and another numbers; give one kind.")
    found, counts = np.unique(np.concatenate(list(parts.values())), return_counts=True)
    if len(found) == 1 and max(declared, len(names)) < 2:
        raise DataError(f"{where}: every label is {found[0]}; give at least two classes.")
    if len(found) > FEW and counts.sum() < 2 * len(found) and len(found) > declared:
        raise DataError(
            f"{where}: {len(found):,} different labels in {counts.sum():,} items, such as {found[0]} and {found[1]}, "
            "are no classes; give each item the class it belongs to."
        )
    if kinds == {"text"}:
        return _named(parts, found, names, where)
    if len(found) and found[0] < 0:
        raise DataError(f"{where}: the smallest label is {found[0]}; number the classes from 0.")
    classes = max(declared, len(names), int(found[-1]) + 1 if len(found) else 0)
    if not len(found) or found[0] == 0 or classes <= max(declared, len(names)):
        return _numbered(parts, found, classes, max(declared, len(names)), names, where)
    known = {int(value): i for i, value in enumerate(found)}
    labels = {split: np.array([known[int(v)] for v in array], dtype=np.int64) for split, array in parts.items()}
    told = f"{where}: labels {_some(found)} become classes 0 to {len(found) - 1}, and keep their numbers as names."
    return Numbered(labels, len(found), tuple(str(value) for value in found), (told,))


def _named(parts: Mapping[str, np.ndarray], found: np.ndarray, names: Sequence[str], where: str) -> Numbered:
    order = [str(name) for name in names] if set(found) <= set(map(str, names)) else [str(name) for name in found]
    if len(set(order)) < len(order):
        raise DataError(f"{where}: a class name stands twice among its classes; give each class its own name.")
    known = {name: i for i, name in enumerate(order)}
    labels = {split: np.array([known[v] for v in array], dtype=np.int64) for split, array in parts.items()}
    told = f"{where}: classes 0 to {len(order) - 1} are {_some(order)}."
    return Numbered(labels, len(order), tuple(order), (told,))


def _numbered(
    parts: Mapping[str, np.ndarray], found: np.ndarray, classes: int, declared: int, names: Sequence[str], where: str
) -> Numbered:
    empty = classes - len(found)
    if empty and classes > declared and 2 * len(found) < classes:
        raise DataError(
            f"{where}: labels run from 0 to {classes - 1:,}, but only {len(found):,} of these {classes:,} classes have "
            "images; number the classes without gaps, or give their names as texts."
        )
    missing = np.setdiff1d(np.arange(classes), found) if empty else []
    told = (f"{where}: no image of class {_some(missing)}.",) if empty else ()
    given = tuple(str(name) for name in names) if len(names) == classes else ()
    return Numbered(dict(parts), classes, given, told)


def _some(values: Sequence[Any] | np.ndarray) -> str:
    """``5, 7 and 42``; the middle left out of a long row."""
    shown = [str(value) for value in values]
    if len(shown) > 6:
        shown = [*shown[:3], "...", shown[-1]]
        return ", ".join(shown)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
