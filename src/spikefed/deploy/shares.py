"""Share folders: written as a local run deals its data out, and read by the machine that each is for.

`spikefed.data.shares` says what stands in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikefed import data
from spikefed.errors import DataError
from spikefed.experiment.build import assemble, build
from spikefed.experiment.checks import check
from spikefed.experiment.config import Experiment
from spikefed.experiment.dealing import reading_of
from spikefed.experiment.federation import Federation
from spikefed.experiment.pixels import shared_preprocess
from spikefed.experiment.shares import read_client
from spikefed.federated import Labelled


def write_shares(config: Experiment, folder: Path) -> list[Path]:
    """Deal an experiment's data out into ``client-N`` folders and ``server``, just as a local run deals it out.

    Raises:
        DataError: a folder cannot be written.
    """
    federation = build(config)
    public = _public(federation)
    paths = []
    for client, indices in enumerate(federation.split.clients):
        private = _part(federation, federation.labelled(indices.train))
        held = _part(federation, federation.labelled(indices.validation))
        private |= {f"validation_{key}": held[key] for key in ("images", "labels")}
        if len(indices.test):
            own = _part(federation, federation.labelled(indices.test))
            private |= {f"test_{key}": own[key] for key in ("images", "labels")}
            private |= _tasks(federation.train, indices.test, "test_tasks")
        private |= _tasks(federation.train, indices.train, "tasks")
        private |= _tasks(federation.train, indices.validation, "validation_tasks")
        path = folder / f"client-{client}"
        _write(path, {data.PRIVATE: private, data.PUBLIC: public})
        paths.append(path)
    test = _part(federation, Labelled(federation.test.images[:], federation.test.labels))
    test |= _tasks(federation.test, torch.arange(len(federation.test)), "tasks")
    _write(folder / data.SERVER, {data.TEST: test, data.PUBLIC: public})
    return [*paths, folder / data.SERVER]


def read_share(config: Experiment, client: int, folder: Path) -> Federation:
    """The objects of one client, from its share alone; no other data set is looked for.

    Raises:
        DataError: a file is missing, damaged, or holds something else.
    """
    check(config)
    found = read_client(config, client, folder, reading_of(config))
    return assemble(config, found.train, found.test, found.split, shared_preprocess(config, found.public))


def own_folder(folder: Path | None, name: str) -> Path | None:
    """A machine's own folder, where one with everybody's is given: what is another's is not its to read.

    Args:
        folder: as given; None stays None.
        name: ``server``, or ``client-N``.
    """
    inner = None if folder is None else folder / name
    return inner if inner is not None and inner.is_dir() else folder


def _public(federation: Federation) -> dict[str, Any]:
    """The public file's arrays; its rows stay in the run's own order."""
    train = federation.train
    pixels = federation.preprocess
    names = {"class_names": np.array(train.class_names)} if train.class_names else {}
    return {
        "images": federation.split.public_images.numpy(), "classes": train.classes, "pixels": pixels.mode,
        "mean": np.array(pixels.mean or (), float), "std": np.array(pixels.std or (), float),
        "values": train.values, "order": "given", **names,
    }  # fmt: skip


def _part(federation: Federation, held: Labelled) -> dict[str, Any]:
    return {"images": held.images.numpy(), "labels": held.labels.numpy(), "values": federation.train.values}


def _tasks(images: data.ImageSet, rows: torch.Tensor, key: str) -> dict[str, Any]:
    """The task of each of these rows; nothing without stages."""
    return {key: images.columns[data.TASK][rows.numpy()]} if data.TASK in images.columns else {}


def _write(path: Path, files: dict[str, dict[str, Any]]) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        for name, arrays in files.items():
            np.savez_compressed(path / name, **arrays)
    except OSError as error:
        raise DataError(f"share {path} cannot be written ({error.strerror}); choose another folder") from error
