"""The networks that a run left, wanted back: from its folder, its model file, a checkpoint, or one of its clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikefed import networks
from spikefed.errors import CheckpointError, ConfigError, DataError
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.checkpointed import read_checkpoint, split_round
from spikefed.experiment.checks import check_device
from spikefed.experiment.config import Experiment
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.rebuild import adapters_table, build_again, graph_of_nir, resolved_network
from spikefed.experiment.stages import adapters_of
from spikefed.federated import NetworkFactory
from spikefed.models import Model, ModelFacts, read_model


def load_model(
    source: Path | str,
    *,
    client: int | None = None,
    network: networks.Own | None = None,
    device: str = "cpu",
) -> Model:
    """A trained network, ready to predict; its data set is not needed.

    Args:
        source: a run folder (a finished run's model, else its newest checkpoint), ``RUN@ROUND`` for a checkpoint that
            is still there, or a model file.
        client: this client's own network instead of the server's: the one that the run kept
            (``run.keep_clients``), else that of the checkpoint, where the method keeps one between rounds.
        network: the network's module, class or function, where it was an object
            of a program that no name leads back to.
        device: where the network computes.

    Raises:
        CheckpointError: no such run, round, client or file; a file that is damaged, of another program, or of a newer
            spikefed.
        ConfigError: an own network that Python does not find, or another one than was trained; a device that is not
            here.
    """
    if not isinstance(source, str | Path):
        raise CheckpointError(f"load_model takes a path, not {type(source).__name__}; give what 'spikefed run' made")
    if isinstance(client, bool) or not isinstance(client, int | None):
        raise CheckpointError(f"a client is named by its number, not '{client}'; give 0, 1, ...")
    check_device("device", device)
    path, round = split_round(Path(source))
    folder = RunFolder(path.parent if path.is_file() else path)
    if path.is_dir() and not folder.exists():
        raise CheckpointError(
            f"{path} is no run folder (it has no config.toml); give the folder that 'spikefed run' made, or a model "
            "file"
        )
    model_file = _model_file(path, folder, client) if round is None else None
    if model_file is not None:
        found, facts = read_model(model_file)
        facts = _with_folder(facts, found.facts, folder)
        net = _loaded(build_again(facts, network, device, str(model_file)), found.tensors, str(model_file))
        return Model(net, facts, str(source) + ("" if client is None else f" (client {client})"), found.kept)
    if path.is_file():
        raise CheckpointError(f"{path} holds one network; give its run folder to load another round or a client")
    older = partial(_facts_from_data, folder, live=network)
    return read_checkpoint(folder, round, client, source=str(source), live=network, device=device, older=older)[0]


def _model_file(path: Path, folder: RunFolder, client: int | None) -> Path | None:
    """The file that holds the network asked for; None where only a checkpoint may have it."""
    if path.is_file():
        return path if client is None else None
    if client is None:
        return folder.model if folder.finished() else None
    return folder.personal(client) if folder.personal(client).is_file() else None


def model_facts(federation: Federation, round: int) -> ModelFacts:
    """What a run's model file says of its network."""
    config = federation.config
    train = federation.train
    hyper = config.hyper()
    adapters = adapters_of(config, train.classes)
    return ModelFacts(
        network=resolved_network(config) | ({"adapters": adapters_table(adapters)} if adapters.kinds else {}),
        input_shape=tuple(train.shape),
        classes=train.classes,
        preprocess=federation.preprocess,
        class_names=tuple(train.class_names),
        values=train.values,
        timed=train.steps is not None,
        resample=config.data.resample,
        experiment=config.name,
        method=config.method["name"],
        seed=config.seed,
        round=round,
        logit_scale=getattr(hyper, "logit_scale", 1.0),
        batch_statistics=getattr(hyper, "train_bn_at_eval", False),
        extra=graph_of_nir(config),
    )


def _with_folder(facts: ModelFacts, told: Mapping[str, Any], folder: RunFolder) -> ModelFacts:
    """Version 1 of a model file leaves to the run folder around it what measuring and confidence need."""
    if "format" in told or not folder.exists():
        return facts
    config = configs.load(folder.config)
    hyper = config.hyper()
    return dataclasses.replace(
        facts,
        experiment=config.name,
        method=config.method["name"],
        seed=config.seed,
        round=folder.read_result()["rounds"] if folder.finished() else 0,
        logit_scale=getattr(hyper, "logit_scale", 1.0),
        batch_statistics=getattr(hyper, "train_bn_at_eval", False),
    )


def _loaded(factory: NetworkFactory, tensors: Mapping[str, torch.Tensor], where: str) -> nn.Module:
    try:
        return factory.load(tensors)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _facts_from_data(folder: RunFolder, config: Experiment, live: networks.Own | None) -> ModelFacts:
    """What the experiment and its data set say of the network of a run of an older spikefed."""
    try:
        return model_facts(build(config, network=live), 0)
    except DataError as error:
        raise CheckpointError(
            f"the run in {folder.path} has no model file yet and its data set is needed to build the network again "
            f"({error})"
        ) from error
