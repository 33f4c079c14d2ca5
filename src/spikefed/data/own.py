"""A user's own images and labels: arrays, any torch ``Dataset``, a function or class in a module, or npz files.

Rules (docs, "Your own data"): pixels become uint8, labels int64 from 0. Floats must lie in [0, 1] and are rounded to
the nearest of 256 levels; anything else is refused rather than guessed at, because a wrong guess trains on noise.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spikefed.data.images import ImageSet
from spikefed.data.locate import search_folders
from spikefed.errors import DataError, SpikefedError
from spikefed.objects import call, import_object, name_of, parameters, said

NPZ = "npz:"
TEST_SHARE = 0.2
"""Share that becomes the test set where the source has only one part."""
_SPLIT_SEED = 2216  # never change it: it fixes which samples are test samples
_NAMES = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


def load_own(name: str, data_dir: Path | str | None = None) -> tuple[ImageSet, ImageSet]:
    """Training and test set of ``npz:PATH`` or ``module:attribute``.

    Raises:
        DataError: not found, or not images with labels as the rules say.
    """
    if name.startswith(NPZ):
        return image_sets(_read_npz(name, data_dir), name)
    return image_sets(import_object(name, "data.dataset", DataError), name, data_dir)


def image_sets(source: Any, name: str | None = None, data_dir: Path | str | None = None) -> tuple[ImageSet, ImageSet]:
    """Training and test set from anything that holds images and labels.

    Args:
        source: ``(images, labels)``; a torch ``Dataset`` of ``(image, label)`` items; ``(train, test)`` or
            ``{"train": ..., "test": ...}`` of either; or a function or class that gives one of these. A callable with a
            parameter ``split`` is called with "train" and "test", one with ``train`` with True and False; ``data_dir``
            (or ``root``) is passed to those that name it. A source of one part gives a fifth of each class to the
            test set,
            chosen by a fixed seed. Datasets are read once, under torch seed 0.
        name: what errors and reports call it.

    Raises:
        DataError: whatever is wrong, in one sentence.
    """
    name = name or name_of(source)
    made = _called(source, name, data_dir) if _is_callable(source) else source
    if isinstance(made, tuple | list) and len(made) == 2 and all(isinstance(part, ImageSet) for part in made):
        return made[0], made[1]
    parts = _parts(made)
    read = {split: _arrays(part, f"{name} ({split})") for split, part in parts.items()}
    classes = max(_classes(part, *read[split]) for split, part in parts.items())
    if classes < 2:
        raise DataError(f"{name}: every label is 0; give at least two classes.")
    if "test" not in read:
        read["train"], read["test"] = _hold_out(*read["train"], name)
    train, test = (ImageSet(name, split, *read[split], classes) for split in ("train", "test"))
    if train.shape != test.shape:
        raise DataError(
            f"{name}: training images are {_x(train.shape)}, test images {_x(test.shape)}; bring them to one size."
        )
    for part in (train, test):
        if not len(part):
            raise DataError(f"{name}: the {part.split} part is empty; give it images.")
    return train, test


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
    """``{"train": ..., "test": ...}``, without the test part where there is none."""
    if isinstance(made, Mapping):
        return {split: made[split] for split in ("train", "test") if split in made} or {"train": made}
    if isinstance(made, tuple | list) and len(made) == 2 and not _is_array(made[0]):
        return {"train": made[0], "test": made[1]}
    return {"train": made}


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or (isinstance(value, list) and not isinstance(value, Dataset))


def _arrays(part: Any, where: str) -> tuple[Tensor, Tensor]:
    if isinstance(part, ImageSet):
        return part.images, part.labels
    if isinstance(part, tuple | list) and len(part) == 2:
        return _images(part[0], where), _labels(part[1], len(part[0]), where)
    if isinstance(part, Dataset) or (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
        return _from_dataset(part, where)
    raise DataError(
        f"{where} is {type(part).__name__}; give (images, labels), a torch Dataset, or (train, test) of either."
    )


def _from_dataset(dataset: Any, where: str) -> tuple[Tensor, Tensor]:
    images: list[np.ndarray] = []
    labels: list[Any] = []
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random transforms, if any, come out the same in every process
            items = (dataset[i] for i in range(len(dataset))) if hasattr(dataset, "__len__") else iter(dataset)
            for item in items:
                image, label = item[0], item[1]
                images.append(np.asarray(image))
                labels.append(label)
    except Exception as error:  # the user's code
        raise DataError(f"{where}: item {len(labels)} is no pair (image, label): {said(error)}") from error
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise DataError(
            f"{where}: images have several shapes ({_x(shapes[0])}, {_x(shapes[1])}); bring them to one size."
        )
    if not images:
        raise DataError(f"{where} is empty; give it images.")
    return _images(np.stack(images), where), _labels([np.asarray(v) for v in labels], len(images), where)


def _images(value: Any, where: str) -> Tensor:
    """uint8 ``[N, C, H, W]``."""
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise DataError(
            f"{where}: images have shape {list(array.shape)}; give [N, H, W], [N, C, H, W] or [N, H, W, C] "
            "(rows of numbers: reshape them to [N, 1, 1, columns])."
        )
    if array.shape[1] > 4 >= array.shape[3]:
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(_levels(array, where)))


def _levels(array: np.ndarray, where: str) -> np.ndarray:
    """Pixels as uint8 0..255."""
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    low, high = array.min(), array.max()
    if np.issubdtype(array.dtype, np.floating):
        if not (low >= 0 and high <= 1):  # also not-a-number
            raise DataError(
                f"{where}: float images must lie in [0, 1] but run from {low:.4g} to {high:.4g}; scale them, or give "
                "uint8 (0..255), and leave normalisation to data.pixels."
            )
        return np.rint(array * 255).astype(np.uint8)
    if np.issubdtype(array.dtype, np.integer):
        if low < 0 or high > 255:
            raise DataError(
                f"{where}: whole-number images must lie in 0..255 but run from {low} to {high}; scale them."
            )
        return array.astype(np.uint8)
    raise DataError(f"{where}: images are {array.dtype}; give uint8, or floats in [0, 1].")


def _labels(value: Any, count: int, where: str) -> Tensor:
    """int64 ``[N]`` from 0."""
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{where}: labels have shape {list(array.shape)}; give one class number an image, [N].")
    if len(array) != count:
        raise DataError(f"{where}: {count:,} images but {len(array):,} labels; give one label for each image.")
    if not np.issubdtype(array.dtype, np.number) or not np.array_equal(array, array.astype(np.int64)):
        raise DataError(f"{where}: labels are {array.dtype}; give whole numbers from 0.")
    if len(array) and array.min() < 0:
        raise DataError(f"{where}: the smallest label is {array.min()}; number the classes from 0.")
    return torch.from_numpy(array.astype(np.int64))


def _classes(part: Any, images: Tensor, labels: Tensor) -> int:
    """The number of classes a part says (``classes``: a count, or names as torchvision has them), or shows."""
    told = getattr(part, "classes", 0)
    told = len(told) if isinstance(told, Sequence) else told if isinstance(told, int) else 0
    return max(told, int(labels.max()) + 1 if len(labels) else 0)


def _hold_out(images: Tensor, labels: Tensor, name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A fifth of each class, rounded and at least one sample, as the test set."""
    generator = np.random.RandomState(_SPLIT_SEED)  # the legacy generator's stream is frozen by numpy's own policy
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        mine = generator.permutation(np.flatnonzero(labels.numpy() == label))
        if len(mine) == 1:
            raise DataError(
                f"{name}: class {label} has one image, too few for a training and a test part; give a test part."
            )
        is_test[mine[: max(1, round(TEST_SHARE * len(mine)))] if len(mine) else mine] = True
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


def _read_npz(name: str, data_dir: Path | str | None) -> dict[str, Any]:
    path = Path(name.removeprefix(NPZ)).expanduser()
    roots = [Path()] if path.is_absolute() else [*([Path()] if data_dir is None else []), *search_folders(data_dir)]
    for place in (p for root in roots for p in (root / path, root / f"{path}.npz")):
        if place.is_file():
            return _npz_parts(place)
        if (place / "train.npz").is_file():
            both = {
                split: _npz(place / f"{split}.npz") for split in ("train", "test") if (place / f"{split}.npz").is_file()
            }
            return {
                split: _pair(arrays, place / f"{split}.npz", (("images", "labels"),)) for split, arrays in both.items()
            }
    looked = ", ".join(str(root / path) for root in roots)
    raise DataError(
        f"{name} was not found as {looked}: give an .npz file, or a folder with train.npz and test.npz; paths count "
        "from "
        "data.dir (or --data-dir), else from here."
    )


def _npz_parts(path: Path) -> dict[str, Any]:
    arrays = _npz(path)
    if "images" in arrays:
        return {"train": _pair(arrays, path, (("images", "labels"),))}
    has_test = any(images in arrays for images, _ in _NAMES["test"])
    return {split: _pair(arrays, path, _NAMES[split]) for split in (("train", "test") if has_test else ("train",))}


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} is no .npz file of plain arrays: {error}; write it with numpy.savez.") from error


def _pair(arrays: dict[str, np.ndarray], path: Path, names: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    for images, labels in names:
        if images in arrays and labels in arrays:
            return arrays[images], arrays[labels]
    wanted = " or ".join(f"'{a}' and '{b}'" for a, b in names)
    raise DataError(f"{path} holds {', '.join(arrays) or 'nothing'}; it must hold {wanted}.")


def _x(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
