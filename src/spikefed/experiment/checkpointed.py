"""Networks out of a run's checkpoints: the server's or a client's, of a round that is still kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikefed import networks
from spikefed.errors import CheckpointError
from spikefed.experiment import config as configs
from spikefed.experiment.config import Experiment
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.networks import config_of
from spikefed.experiment.rebuild import Make, build_again, resolved_network
from spikefed.experiment.start import fitted_start
from spikefed.federated import Context, Method, NetworkFactory, State, method
from spikefed.federated.history import History
from spikefed.federated.randomness import NETWORK, SERVER, derive_seed, generator
from spikefed.files import counted_from
from spikefed.models import Model, ModelFacts, read_model
from spikefed.training import Mask


def split_round(source: Path) -> tuple[Path, int | None]:
    """The path, and the round behind its ``@``.

    Raises:
        CheckpointError: nothing is there, no number stands behind the ``@``, or it is a checkpoint's own file.
    """
    if source.is_file() and source.parent.name == "checkpoints":
        run, round = source.parent.parent, source.stem.removeprefix("round-").lstrip("0")
        raise CheckpointError(f"{source} is a checkpoint, which holds more than a network; give {run}@{round}")
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


def read_checkpoint(
    folder: RunFolder,
    round: int | None,
    client: int | None,
    *,
    source: str,
    live: networks.Own | None = None,
    device: str = "cpu",
    older: Callable[[Experiment], ModelFacts] | None = None,
) -> tuple[Model, Mask | None]:
    """A network as a round left it, and the mask that the server's is under.

    Args:
        folder: of the run.
        round: whose checkpoint; None: the newest.
        client: whose network; None: the server's, or that of the first client of a method without one.
        source: what the user named.
        live: the module or maker of a network of one's own.
        device: where the network computes.
        older: what tells of the network of a run whose folder does not.

    Raises:
        CheckpointError: no such round or client, or a method that keeps no network.
    """
    config = configs.load(folder.config)
    tree = _tree(folder, config, round)
    at = int(tree["server"]["round"])
    facts = dataclasses.replace(_of_client(_facts_of(folder, config, older), config, client), round=at)
    factory = build_again(facts, live, device, str(folder.path), lambda make: _begun(folder, config, facts, make))
    ctx = _context(config, facts, factory, at)
    steps = method(config.method["name"])
    if client is None and steps.has_server_model(ctx.hyper, factory):
        state = tree["server"]["state"]
        mask = steps.server_mask(state)
        return Model(steps.server_network(state, ctx), facts, source, mask.kept if mask else None), mask
    states: dict[int, State] = {int(c): saved["state"] for c, saved in tree["clients"].items() if saved["started"]}
    if client is not None and client not in states:
        there = sorted({*states, *folder.personal_models()}) if round is None else sorted(states)
        raise CheckpointError(
            f"the checkpoint of round {at} in {folder.path} has nothing of client {client}"
            + (f"; it has clients {_listed(there)}" if there else "; its clients kept nothing")
        )
    for number in sorted(states) if client is None else [client]:
        net = steps.client_network(states[number], ctx)
        if net is not None:
            return Model(net, facts, f"{source} (client {number})"), None
    raise CheckpointError(_none_kept(folder, steps, round, client))


def _context(config: Experiment, facts: ModelFacts, factory: NetworkFactory, round: int) -> Context:
    """What a method's hooks may look at, without any data."""
    return Context(
        round=round,
        networks=factory,
        public=torch.zeros((0, *facts.input_shape), dtype=torch.uint8),
        public_set_id=bytes(32),
        hyper=config.hyper(),
        preprocess=facts.preprocess,
        generator=generator(config.seed, SERVER, 0, round),
        seed=derive_seed(config.seed, NETWORK, 1),
    )


def _begun(folder: RunFolder, config: Experiment, facts: ModelFacts, make: Make) -> Mapping[str, Tensor]:
    """What the run itself began with: a client's state may hold its own parts alone, the rest is from there."""
    copy = folder.own_start()
    if copy is None or config.network.start is None:
        return {}
    found, theirs = read_model(copy)
    return fitted_start(config.network.start, found, theirs, config, facts.input_shape, facts.names, make)[0]


def _none_kept(folder: RunFolder, steps: Method, round: int | None, client: int | None) -> str:
    """Why there is no network to be had."""
    who = "its clients" if client is None else f"client {client}"
    if client is not None and folder.personal(client).is_file():
        return (
            f"method {steps.name} keeps no network of {who} between rounds, so there is none of round {round}; leave "
            f"@{round} out to load the one after its last step, {folder.personal(client)}"
        )
    return (
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


def _facts_of(folder: RunFolder, config: Experiment, older: Callable[[Experiment], ModelFacts] | None) -> ModelFacts:
    """What is known of the network: from the model file, else from the start of the run."""
    if folder.model.is_file():
        return read_model(folder.model)[1]
    told = folder.read_json(folder.provenance).get("model") if folder.provenance.is_file() else None
    if isinstance(told, Mapping):
        return ModelFacts.from_dict(told, str(folder.provenance))
    if older is None:
        raise CheckpointError(
            f"the run in {folder.path} is of an older spikefed, whose checkpoints do not say of what network they are; "
            "finish it with --resume, and give its folder"
        )
    return older(config)


def _of_client(facts: ModelFacts, config: Experiment, client: int | None) -> ModelFacts:
    """The facts of a client's network, where clients have other networks than the server."""
    if client is None or not config.network.clients:
        return facts
    return dataclasses.replace(facts, network=resolved_network(config_of(config, client)))


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) < 8 else f"{numbers[0]} to {numbers[-1]}"
