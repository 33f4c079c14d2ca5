"""The networks that a run left, wanted back: from its folder, its model file, a checkpoint, or one of its clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import nn

from spikefed import networks
from spikefed.errors import CheckpointError, ConfigError, DataError
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.checks import check_device
from spikefed.experiment.config import Experiment, NetworkConfig
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.networks import build_network, config_of, network_info, neuron_for
from spikefed.experiment.stages import adapters_of
from spikefed.federated import Context, NetworkFactory, State, method
from spikefed.federated.history import History
from spikefed.federated.randomness import NETWORK, SERVER, derive_seed, generator
from spikefed.files import counted_from
from spikefed.interop import PREFIX
from spikefed.models import Model, ModelFacts, read_model
from spikefed.objects import is_own


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
        network: the network's module, class or function, where it was an object of a program that no name leads back
            to.
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
    path, round = _place(Path(source))
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
        return Model(net, facts, str(source) + ("" if client is None else f" (client {client})"))
    if path.is_file():
        raise CheckpointError(f"{path} holds one network; give its run folder to load another round or a client")
    return _from_checkpoint(folder, round, client, network, device, str(source))


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
        network=resolved_network(config) | ({"adapters": adapters.model_dump()} if adapters.kinds else {}),
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
    )


def resolved_network(config: Experiment) -> dict[str, Any]:
    """The table ``[network]`` with what the network's own defaults put into it: a later zoo builds the same."""
    table = config.network.model_dump(exclude={"start", "start_roles", "clients"})  # which do not build it
    if table["thresholds"] is None:
        del table["thresholds"]  # a key that older readers do not know
    if not config.network.adapters.kinds:
        del table["adapters"]
    if config.network.name.startswith(PREFIX):
        table["name"] = f"{PREFIX}{Path(config.network.name.removeprefix(PREFIX)).resolve()}"
    if is_own(config.network.name):
        return table
    info = network_info(config)
    neuron = neuron_for(config)
    neuron = info.neuron if neuron is None else neuron
    table["norm"] = table["norm"] or info.norm
    table["coding"] = table["coding"] or info.coding
    table["pooling"] = table["pooling"] or info.pooling
    table["neuron"] = {
        "kind": neuron.kind,
        "decay": neuron.decay,
        "threshold": neuron.v_threshold,
        "strict": neuron.strict,
        "surrogate": str(neuron.surrogate),
        "detach_reset": neuron.detach_reset,
        **({"start": neuron.start} if neuron.start else {}),  # a key that older readers do not know
    }
    return table


def build_again(facts: ModelFacts, live: networks.Own | None, device: str, where: str) -> NetworkFactory:
    """The network that a model file speaks of, with its initial weights.

    Args:
        facts: what the model file says.
        live: the module or maker of a network of one's own.
        device: where to put it.
        where: name of the file, for errors.

    Raises:
        CheckpointError: settings that this spikefed does not know.
        ConfigError: an own network that cannot be made.
    """
    try:
        config = Experiment(network=NetworkConfig.model_validate(dict(facts.network)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{where} was written by another spikefed: this one cannot read its 'network.{key}'; load it with the one "
            "that wrote it, or a newer one"
        ) from error

    def make(seed: int) -> nn.Module:
        return build_network(config, cast(Any, facts.input_shape), facts.classes, live, facts.timed, seed)

    return NetworkFactory(make, derive_seed(facts.seed, NETWORK, 0), device)


def _place(source: Path) -> tuple[Path, int | None]:
    """The path, and the round behind its ``@``."""
    if source.exists():
        return source, None
    name, at, number = str(source).rpartition("@")
    if at and Path(name).exists():
        if not number.isdecimal():
            raise CheckpointError(f"'{source}' names round '{number}'; write a number behind the @, as in {name}@5")
        return Path(name), int(number)
    raise CheckpointError(
        f"there is no run folder or model file {source}{counted_from(source)}; give what 'spikefed run' made"
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


def _from_checkpoint(
    folder: RunFolder, round: int | None, client: int | None, live: networks.Own | None, device: str, source: str
) -> Model:
    config = configs.load(folder.config)
    tree = _tree(folder, config, round)
    at = int(tree["server"]["round"])
    facts = dataclasses.replace(_of_client(_facts_of(folder, config, live), config, client), round=at)
    factory = build_again(facts, live, device, str(folder.path))
    ctx = Context(
        round=at,
        networks=factory,
        public=torch.zeros((0, *facts.input_shape), dtype=torch.uint8),
        public_set_id=bytes(32),
        hyper=config.hyper(),
        preprocess=facts.preprocess,
        generator=generator(config.seed, SERVER, 0, at),
        seed=derive_seed(config.seed, NETWORK, 1),
    )
    steps = method(config.method["name"])
    states: dict[int, State] = {int(c): saved["state"] for c, saved in tree["clients"].items() if saved["started"]}
    if client is None and steps.server_model:
        return Model(steps.server_network(tree["server"]["state"], ctx), facts, source)
    if client is not None and client not in states:
        there = sorted({*states, *folder.personal_models()}) if round is None else sorted(states)
        raise CheckpointError(
            f"the checkpoint of round {at} in {folder.path} has nothing of client {client}"
            + (f"; it has clients {_listed(there)}" if there else "; its clients kept nothing")
        )
    for number in sorted(states) if client is None else [client]:
        net = steps.client_network(states[number], ctx)
        if net is not None:
            return Model(net, facts, f"{source} (client {number})")
    who = "its clients" if client is None else f"client {client}"
    if client is not None and folder.personal(client).is_file():
        raise CheckpointError(
            f"method {steps.name} keeps no network of {who} between rounds, so there is none of round {round}; leave "
            f"@{round} out to load the one after its last step, {folder.personal(client)}"
        )
    raise CheckpointError(
        f"method {steps.name} keeps no network of {who} between rounds, so none can be loaded from {folder.path}; "
        "load the server's instead, or run it again with run.keep_clients = true"
    )


def _tree(folder: RunFolder, config: Experiment, round: int | None) -> dict[str, Any]:
    history = History(folder.checkpoints, config.hash())
    tree = history.latest(lambda text: None) if round is None else history.at(round)
    if tree is not None:
        return tree
    there = history.rounds()
    if not there:
        raise CheckpointError(f"the run in {folder.path} has no checkpoint; run it, or continue it with --resume")
    raise CheckpointError(
        f"{folder.path} has no checkpoint of round {round}: only those of rounds {_listed(there)} are kept; a run "
        "keeps its newest two"
    )


def _facts_of(folder: RunFolder, config: Experiment, live: networks.Own | None) -> ModelFacts:
    """What is known of the network: from the model file, from the start of the run, else from the data set."""
    if folder.model.is_file():
        return read_model(folder.model)[1]
    told = folder.read_json(folder.provenance).get("model") if folder.provenance.is_file() else None
    if isinstance(told, Mapping):
        return ModelFacts.from_dict(told, str(folder.provenance))
    try:
        return model_facts(build(config, network=live), 0)
    except DataError as error:
        raise CheckpointError(
            f"the run in {folder.path} has no model file yet and its data set is needed to build the network again "
            f"({error})"
        ) from error


def _of_client(facts: ModelFacts, config: Experiment, client: int | None) -> ModelFacts:
    """The facts of a client's network, where clients have other networks than the server."""
    if client is None or not config.network.clients:
        return facts
    return dataclasses.replace(facts, network=resolved_network(config_of(config, client)))


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) < 8 else f"{numbers[0]} to {numbers[-1]}"
