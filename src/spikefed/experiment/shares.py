"""Share folders as the data of an experiment: a whole federation's, one client's, or the server's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import torch

from spikefed import data
from spikefed.errors import ConfigError, DataError
from spikefed.experiment.config import DataConfig, Experiment


class Shared(NamedTuple):
    """What share folders hold, as a split.

    Attributes:
        train: all items of all clients that are read.
        test: the server's test set; a client has none and its own items stand here.
        split: whose row is whose.
        public: the public file.
    """

    train: data.ImageSet
    test: data.ImageSet
    split: data.FederatedSplit
    public: data.PublicShare


def from_shares(config: Experiment) -> bool:
    """Whether the experiment's data are share folders."""
    return config.data.dataset.startswith(data.SHARES)


def read_shares(config: Experiment, reading: data.Reading) -> Shared:
    """The federation of ``shares:FOLDER``: all machines' folders in it, or what the server's own holds.

    Raises:
        DataError: a file is missing or damaged, or the public sets of two machines differ.
    """
    folder = data.share_folder(config.data.dataset, config.data.dir)
    clients = data.client_folders(folder, config.data.clients)
    server = folder / data.SERVER if clients else folder
    public = _public(config, server, reading)
    test = _stepped(config, data.read_test(server, public, reading))
    parts = [data.read_private(path, _agreed(config, path, public, reading), reading) for path in clients]
    train, split = _dealt(config, parts, public)
    return Shared(train, test, split, public)


def read_client(config: Experiment, client: int, folder: Path, reading: data.Reading) -> Shared:
    """The same federation as one client sees it, from its own folder alone.

    Args:
        config: the experiment.
        client: its number.
        folder: its own.
        reading: what the files do not say themselves.

    Raises:
        DataError: a file is missing, damaged, or holds something else.
    """
    public = _public(config, folder, reading)
    own = data.read_private(folder, public, reading)
    nothing = data.Private(*(part.subset([]) for part in own))
    everybody = [own if number == client else nothing for number in range(config.data.clients)]
    train, split = _dealt(config, everybody, public)
    return Shared(train, train, split, public)


def _public(config: Experiment, folder: Path, reading: data.Reading) -> data.PublicShare:
    public = data.read_public(folder, reading, content=config.data.public_order == "content")
    return replace(public, rows=_stepped(config, public.rows))


def _agreed(config: Experiment, folder: Path, public: data.PublicShare, reading: data.Reading) -> data.PublicShare:
    """A client's public set, which must be the server's."""
    own = _public(config, folder, reading)
    differs = data.difference(own.facts(), public.facts().told())
    if differs:
        raise DataError(f"{folder}: {differs}.")
    return own


def _stepped(config: Experiment, images: data.ImageSet) -> data.ImageSet:
    """Items with a time axis brought to the network's steps."""
    if images.steps is None:
        return images
    if config.network.twin == "ann":
        raise ConfigError(
            "network.twin = 'ann' has one step, and the data have a time axis; leave it out, or give images"
        )
    return data.to_steps(images, config.network.steps, config.data.resample)


def _dealt(
    config: Experiment, parts: Sequence[data.Private], public: data.PublicShare
) -> tuple[data.ImageSet, data.FederatedSplit]:
    """All items one after the other, of each client those held out, trained on and tested on, and who holds which."""
    clients = []
    sets = []
    begin = 0
    for given in parts:
        own, held, test = (_stepped(config, part) for part in given)
        validation = begin + (len(held) or _held_out(config.data, own))
        last = begin + len(held) + len(own)
        rows = torch.arange(last + len(test))
        clients.append(data.ClientIndices(rows[validation:last], rows[begin:validation], rows[last:]))
        sets += [part for part in (held, own, test) if len(part)]
        begin = last + len(test)
    empty = torch.zeros(0, dtype=torch.int64)
    clients = clients or [data.ClientIndices(empty, empty) for _ in range(config.data.clients)]
    images = public.rows.images
    split = data.FederatedSplit(images, torch.arange(len(images)), clients)
    train = replace(reduce(data.together, sets or [public.rows.subset([])]), split="train")
    if config.stages.on and len(train) and data.TASK not in train.columns:
        raise DataError(
            f"{train.name} says of no item to which task it belongs; add 'tasks' (and 'validation_tasks') to "
            f"{data.PRIVATE}, or make the share with 'spikefed data share'"
        )
    return train, split


def _held_out(d: DataConfig, own: data.ImageSet) -> int:
    """How many of a client's first items measure it, where its file holds none out."""
    count = max(1, round(d.validation * len(own))) if d.validation > 0 and len(own) else 0
    if len(own) and count >= len(own):
        raise DataError(f"{own.name}: no image is left to train on; give private.npz more rows")
    return count
