"""Data loaded and dealt out: training set, test set, who holds what."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from spikefed import data
from spikefed.errors import ConfigError, DataError
from spikefed.experiment.config import DataConfig, Experiment
from spikefed.experiment.shares import from_shares, read_shares
from spikefed.experiment.stages import staged
from spikefed.federated import (
    method,
)
from spikefed.federated.randomness import SPLIT, derive_seed
from spikefed.objects import is_own


def deal(config: Experiment, dataset: Any = None) -> tuple[data.ImageSet, data.ImageSet, data.FederatedSplit]:
    """Training set, test set, and who holds what.

    Raises:
        DataError: data missing, damaged or too small.
    """
    if dataset is None and from_shares(config):
        shared = read_shares(config, reading_of(config))
        return viewed(config, shared.train, shared.test, shared.split)
    found = timed(config, sources(config, dataset))
    return staged(config, found, partial(_dealt, config)) if config.stages.on else _dealt(config, found)


def _dealt(config: Experiment, found: data.Sources) -> tuple[data.ImageSet, data.ImageSet, data.FederatedSplit]:
    """One set dealt out: training set, test set, who holds what."""
    d = config.data
    seed = derive_seed(config.seed, SPLIT)
    train, test, public_source = data.leave_out(found, d.by, test=d.test_groups, public=d.public_groups, seed=seed)
    data.check_owners(train, d.partition)
    train = _unused(train, d)
    if d.public_order == "content" and public_source is not None:
        public_source = public_source.subset(data.by_content(public_source.images[:]))
    split = data.split_federation(
        train,
        clients=d.clients,
        private_per_client=d.private_per_client,
        public=d.public,
        partition=d.partition,
        alpha=d.alpha,
        shards_per_client=d.shards_per_client,
        validation=d.validation,
        validation_overlap=d.validation_overlap,
        seed=seed,
        public_source=public_source,
        by=d.by,
        sizes=d.sizes,
        size_alpha=d.size_alpha,
        own_test=d.own_test,
    )
    if d.public_order == "content":
        order = data.by_content(split.public_images)
        split = dataclasses.replace(
            split, public_images=split.public_images[order], public_indices=split.public_indices[order]
        )
    return viewed(config, train, test, split)


def viewed(
    config: Experiment, train: data.ImageSet, test: data.ImageSet, split: data.FederatedSplit
) -> tuple[data.ImageSet, data.ImageSet, data.FederatedSplit]:
    """The same data pooled where the config says so, and with the test set that it asks for.

    Args:
        config: the experiment.
        train: all images of the training part.
        test: images that are measured on.
        split: whose row is whose.

    Raises:
        DataError: a test set of held-out items where there are none.
    """
    d = config.data
    if d.pooled or method(config.method["name"]).pooled:
        split = data.pooled(split)
    if d.evaluate_on == "validation":
        test = train.subset(torch.cat([client.validation for client in split.clients]))
        if not len(test):
            raise DataError(
                "data.evaluate_on = 'validation' measures on the clients' held-out items, and there are none here; set "
                "data.evaluate_on = 'test'"
            )
    if d.test_limit:
        test = data.limited(test, d.test_limit)
    return train, test, split


def _unused(train: data.ImageSet, d: DataConfig) -> data.ImageSet:
    """The set with a word on columns that nothing uses."""
    if (
        not train.columns.keys() - {data.TASK}
        or d.partition == "column"
        or is_own(d.partition)
        or d.test_groups
        or d.public_groups
    ):
        return train
    columns = list(train.columns)
    told = (
        f"{train.name}: {'columns' if columns[1:] else 'column'} {', '.join(columns)} not used; data.partition = "
        f"'column' with data.by = '{columns[0]}' makes a client of each value."
    )
    return dataclasses.replace(train, notes=(*train.notes, told))


def sources(config: Experiment, dataset: Any = None) -> data.Sources:
    """Training set, test set, and the public rows that the source brings, before anything is dealt out."""
    d = config.data
    folder = Path(d.dir) if d.dir else None
    reading = reading_of(config)
    if dataset is None:
        return data.load_sources(d.dataset, folder, reading)
    return data.sources(dataset, d.dataset, folder, reading)


def timed(config: Experiment, found: data.Sources) -> data.Sources:
    """Sets with a time axis brought to the network's steps; the public set of another source in place."""
    steps = config.network.steps
    how = config.data.resample
    both = data.Sources(found.train, found.test, public_set(config, found))
    if found.train.steps is None:
        return both
    if config.network.twin == "ann":
        raise ConfigError(
            "network.twin = 'ann' has one step, and the data have a time axis; leave it out, or give images"
        )
    return data.Sources(*cast(Any, (None if each is None else data.to_steps(each, steps, how) for each in both)))


def check_time(config: Experiment, train: data.ImageSet) -> None:
    """Refuse settings that need a time axis.

    Raises:
        ConfigError: one that has nothing to work on.
    """
    if train.steps is None and config.network.coding == "delta":
        raise ConfigError(
            "network.coding = 'delta' spikes at changes in time, and the data have no time axis; use direct, bernoulli "
            "or poisson"
        )


def reading_of(config: Experiment) -> data.Reading:
    """How the user's own data are to be read."""
    d = config.data
    return data.Reading(d.kind, d.channels, d.size, config.network.steps, d.frames)


def public_set(config: Experiment, found: data.Sources) -> data.ImageSet | None:
    """Where the public rows come from, if not from the training set."""
    d = config.data
    name = d.public_dataset
    if name is None and d.public_source.kind != "set":
        name = data.NOISE  # there is no network yet
    if name is None:
        return found.public
    if data.is_made(name):
        return data.made_public(name, found.train, d.public, derive_seed(config.seed, SPLIT))
    return data.load_sources(name, Path(d.dir) if d.dir else None, reading_of(config)).train
