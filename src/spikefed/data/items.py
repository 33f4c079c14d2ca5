"""Data sets that give one item at a time: torch's ``Dataset``, lists of pairs, items as dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from spikefed.data.convert import picture
from spikefed.data.parts import Part, Reading, part_of
from spikefed.errors import DataError
from spikefed.objects import said

IMAGE_KEYS = ("image", "img", "images", "pixel_values", "x", "frames", "series")
LABEL_KEYS = ("label", "labels", "target", "targets", "class", "y", "fine_label")
"""Names by which the entries of an item, or the arrays of a dict, are known."""


def from_items(dataset: Any, where: str, reading: Reading) -> Part:
    """Every item of a data set, read once under torch seed 0.

    Raises:
        DataError: an item that is no image with a label; images of several shapes; no items.
    """
    images: list[np.ndarray] = []
    labels: list[Any] = []
    facts: dict[str, list[Any]] = {}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random transforms, if any, come out the same in every process
            items = (dataset[i] for i in range(len(dataset))) if hasattr(dataset, "__len__") else iter(dataset)
            for item in items:
                image, label, rest = _split(item)
                images.append(picture(image))
                labels.append(label)
                for key, value in rest.items():
                    facts.setdefault(key, []).append(value)
    except Exception as error:  # the user's code
        raise DataError(
            f"{where}: item {len(labels)} is no pair (image, label) and no dict with 'image' and 'label': {said(error)}"
        ) from error
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        shown = ["x".join(map(str, shape)) for shape in shapes[:2]]
        raise DataError(f"{where}: images have several shapes ({', '.join(shown)}); bring them to one size.")
    if not images:
        raise DataError(f"{where} is empty: it holds no images; give it some.")
    told = getattr(dataset, "classes", 0)
    names = tuple(map(str, told)) if isinstance(told, Sequence) and not isinstance(told, str) else ()
    declared = told if isinstance(told, int) else len(names)
    columns = {key: np.asarray(values) for key, values in facts.items() if len(values) == len(images)}
    plain = [np.asarray(label).item() if np.ndim(label) == 0 else np.asarray(label) for label in labels]
    return part_of(np.stack(images), plain, where, reading, columns=columns, declared=declared, names=names)


def _split(item: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Image, label, and the other plain values of an item."""
    if not isinstance(item, Mapping):
        return item[0], item[1], {}
    image = key_of(item, IMAGE_KEYS)
    label = key_of(item, LABEL_KEYS)
    if image is None or label is None:
        raise KeyError(f"it has {', '.join(map(str, item))}")
    rest = {str(k): v for k, v in item.items() if k not in (image, label) and isinstance(v, str | int | np.integer)}
    return item[image], item[label], rest


def key_of(mapping: Mapping[Any, Any], known: Sequence[str]) -> str | None:
    """The first of the known names that the mapping has."""
    return next((key for key in known if key in mapping), None)
