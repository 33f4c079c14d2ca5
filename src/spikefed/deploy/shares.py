"""A client's data on disk: its own images and labels, and the public set that everybody shares.

A share is a folder with two NumPy archives, so that a device needs nothing but its own data:

* ``private.npz``: ``images`` uint8 ``[N, C, H, W]``, ``labels`` integers ``[N]`` from 0; ``validation_images`` and
  ``validation_labels`` optional (else the first ``data.validation`` of the rows measure the client's accuracy).
* ``public.npz``: ``images`` uint8 ``[P, C, H, W]`` in the order that everybody has, ``classes`` one integer, ``pixels``
  text (the pixel mode), ``mean`` and ``std`` ``[C]`` (mode ``standard``, else empty).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikefed import data
from spikefed.errors import DataError
from spikefed.experiment.build import Federation, assemble, build
from spikefed.experiment.checks import check
from spikefed.experiment.config import Experiment
from spikefed.training import Preprocess


def write_shares(config: Experiment, folder: Path) -> list[Path]:
    """Deal an experiment's data out into ``client-N`` folders, just as a local run deals it out.

    Raises:
        DataError: a folder cannot be written.
    """
    federation = build(config)
    pixels = federation.preprocess
    paths = []
    for client, indices in enumerate(federation.split.clients):
        train = federation.labelled(indices.train)
        validation = federation.labelled(indices.validation)
        path = folder / f"client-{client}"
        try:
            path.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(
                path / "private.npz",
                images=train.images.numpy(), labels=train.labels.numpy(),
                validation_images=validation.images.numpy(), validation_labels=validation.labels.numpy(),
            )  # fmt: skip
            np.savez_compressed(
                path / "public.npz",
                images=federation.split.public_images.numpy(), classes=federation.train.classes, pixels=pixels.mode,
                mean=np.array(pixels.mean or (), float), std=np.array(pixels.std or (), float),
            )  # fmt: skip
        except OSError as error:
            raise DataError(f"share {path} cannot be written ({error.strerror}); choose another folder") from error
        paths.append(path)
    return paths


def read_share(config: Experiment, client: int, folder: Path) -> Federation:
    """The objects of one client, from its share alone; no other data set is looked for.

    Raises:
        DataError: a file is missing, damaged, or holds something else.
    """
    check(config)
    public = _read(folder / "public.npz")
    private = _read(folder / "private.npz")
    classes = int(_array(public, "classes", folder / "public.npz"))
    public_images = _images(public, "images", folder / "public.npz")
    images, labels = _images(private, "images", folder / "private.npz"), _labels(private, "labels", folder)
    if "validation_images" in private:
        held = _images(private, "validation_images", folder / "private.npz")
        held_labels = _labels(private, "validation_labels", folder)
        count = len(held)
    else:
        held = images[:0]
        held_labels = labels[:0]
        count = max(1, round(config.data.validation * len(images))) if config.data.validation > 0 else 0
    everything = data.ImageSet(
        f"share {folder}", "train", torch.cat([held, images]), torch.cat([held_labels, labels]), classes
    )
    if tuple(everything.images.shape[1:]) != tuple(public_images.shape[1:]):
        raise DataError(
            f"share {folder}: private images are {list(everything.images.shape[1:])}, public ones "
            f"{list(public_images.shape[1:])}; bring them to one size"
        )
    rows = torch.arange(len(everything))
    own = data.ClientIndices(train=rows[count:], validation=rows[:count])
    if not len(own.train):
        raise DataError(f"share {folder}: no image is left to train on; give private.npz more rows")
    nobody = data.ClientIndices(train=rows[:0], validation=rows[:0])
    clients = [own if number == client else nobody for number in range(config.data.clients)]
    split = data.FederatedSplit(public_images, torch.arange(len(public_images)), clients)
    mean, std = (tuple(map(float, public.get(key, ()))) for key in ("mean", "std"))
    pixels: Any = str(public.get("pixels", "unit"))
    preprocess = Preprocess(pixels, mean, std)
    return assemble(config, everything, everything, split, preprocess)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is not there; make a share with 'spikefed data share', or see docs/deploy.md"
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} is no NumPy archive ({error}); copy it again") from error


def _array(archive: dict[str, np.ndarray], key: str, path: Path) -> np.ndarray:
    if key not in archive:
        raise DataError(f"{path} has no array '{key}'; it has {', '.join(archive) or 'none'}")
    return archive[key]


def _images(archive: dict[str, np.ndarray], key: str, path: Path) -> torch.Tensor:
    images = _array(archive, key, path)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"{path}: '{key}' must be uint8 [N, C, H, W], not {images.dtype} {list(images.shape)}")
    return torch.from_numpy(images)


def _labels(archive: dict[str, np.ndarray], key: str, folder: Path) -> torch.Tensor:
    labels = _array(archive, key, folder / "private.npz")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{folder / 'private.npz'}: '{key}' must be integers [N], not {labels.dtype}")
    return torch.from_numpy(labels.astype(np.int64))
