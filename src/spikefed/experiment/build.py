"""From a validated config to the objects of a run."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from spikefed import data, networks
from spikefed.errors import ConfigError, DataError
from spikefed.experiment.augments import check_augments
from spikefed.experiment.checks import check
from spikefed.experiment.config import Experiment, load
from spikefed.experiment.dealing import check_time, deal, reading_of, viewed
from spikefed.experiment.federation import Federation, codec_of
from spikefed.experiment.methods import method_of
from spikefed.experiment.networks import build_network, named
from spikefed.experiment.origin import read_start
from spikefed.experiment.pixels import preprocess_for, shared_preprocess
from spikefed.experiment.publicsource import check_source
from spikefed.experiment.shares import from_shares, read_shares
from spikefed.experiment.singles import check_singles
from spikefed.experiment.stages import calendar_of
from spikefed.federated import (
    Expectations,
    NetworkFactory,
)
from spikefed.federated.randomness import NETWORK, derive_seed
from spikefed.hardware.crossbar import check_treatments
from spikefed.objects import is_own
from spikefed.training import Preprocess
from spikefed.wire.neighbours import nearest_rows


def build(
    config: Experiment, dataset: Any = None, network: networks.Own | None = None, start: Path | None = None
) -> Federation:
    """Load the data, deal it out, make the networks.

    Args:
        dataset: the user's own data (`spikefed.data.image_sets`) instead of what ``data.dataset`` names.
        network: the user's own network (`spikefed.networks.build_own`) instead of what ``network.name`` names.
        start: a run's own copy of what ``network.start`` names.

    Raises:
        ConfigError: a network, codec or method that does not exist or does not fit.
        DataError: data missing, damaged or too small.
    """
    check(config)
    if dataset is None and from_shares(config):
        shared = read_shares(config, reading_of(config))
        train, test, split = viewed(config, shared.train, shared.test, shared.split)
        return assemble(config, train, test, split, shared_preprocess(config, shared.public), network, start)
    train, test, split = deal(config, dataset)
    return assemble(config, train, test, split, preprocess_for(config, train), network, start)


def assemble(
    config: Experiment,
    train: data.ImageSet,
    test: data.ImageSet,
    split: data.FederatedSplit,
    preprocess: Preprocess,
    network: networks.Own | None = None,
    start: Path | None = None,
) -> Federation:
    """The objects of a run around data that is already dealt out (see `build`).

    Args:
        config: the experiment.
        train: all images of the training part.
        test: images that are measured on.
        split: whose row is whose.
        preprocess: pixel scale and moments.
        network: a network given by code.
    """
    shape = train.shape
    check_time(config, train)
    check_augments(config, shape)
    seed = derive_seed(config.seed, NETWORK, 0)
    timed = train.steps is not None
    make: Any = partial(build_network, config, shape, train.classes, network, timed)
    if isinstance(network, nn.Module) and getattr(config.hyper(), "client_reset", None) == "own":
        raise ConfigError(
            "method.client_reset = 'own' asks for other initial weights on each client, but the network is one module "
            "with one set of weights; give its class or a function that makes it"
        )
    if network is not None or is_own(config.network.name):
        networks.check_promises(make(seed), config.network.name, shape)
        check_singles(config, split, make(seed), (config.network.steps, *shape) if timed else shape)
    begin = read_start(
        config, train, lambda classes: build_network(config, shape, classes, network, timed, seed), start
    )
    tensors = begin.tensors if begin else None
    factory = NetworkFactory(make, seed, config.run.device, tensors, calendar_of(config))
    if config.chips.profiles:
        check_treatments(factory.network, config.chips.repairs)
    expectations = Expectations.of(
        method_of(config),
        config.hyper(),
        shape=(len(split.public_images), train.classes, config.network.steps),
        networks=factory,
        public_set_id=data.public_set_id(split.public_images),
    )
    coded = {codec_of(config, expectations.up.kind, "up"), codec_of(config, expectations.down.kind, "down")}
    near = nearest_rows(split.public_images.numpy()) if "context" in coded else None
    others = {
        name: NetworkFactory(
            partial(build_network, named(config, name), shape, train.classes, None, timed), seed, config.run.device
        )
        for name in sorted(set(config.network.clients) - {config.network.name})
    }
    check_source(config, train, factory.network)
    return Federation(config, train, test, split, preprocess, factory, expectations, near, begin, others)


def alike_rows(run: Path | str, data_dir: Path | None = None) -> np.ndarray | None:
    """`nearest_rows` of a run's public images, or None where its data set is not at hand. int64 ``[N]``.

    Raises:
        ConfigError: no run folder.
    """
    path = Path(run) / "config.toml"
    if not path.exists():
        raise ConfigError(f"{run} is no run folder (it holds no config.toml); give one that `spikefed run` made")
    config = load(path, [] if data_dir is None else [f"data.dir={json.dumps(str(data_dir))}"])
    try:
        return nearest_rows(build(config).split.public_images.numpy())
    except DataError:
        return None
