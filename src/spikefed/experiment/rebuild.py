"""A trained network built again from what is told of it, where neither its experiment nor its data set is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from torch import Tensor, nn

from spikefed import networks
from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment.config import AdapterConfig, Experiment, NetworkConfig
from spikefed.experiment.networks import build_network, network_info, neuron_for
from spikefed.federated import NetworkFactory
from spikefed.federated.randomness import NETWORK, derive_seed
from spikefed.interop import PREFIX, nir_bones
from spikefed.models import ModelFacts
from spikefed.neurons import LIFParameters
from spikefed.objects import is_own

Make = Callable[[int], nn.Module]
"""An experiment's network for a number of classes."""


def resolved_network(config: Experiment) -> dict[str, Any]:
    """The table ``[network]`` with what the network's own defaults put into it: a later zoo builds the same."""
    table = config.network.model_dump(exclude={"start", "start_roles", "clients"})  # which do not build it
    for key in ("thresholds", "qcfs"):
        if table[key] is None:
            del table[key]  # which older readers do not know
    if config.network.adapters.kinds:
        table["adapters"] = adapters_table(config.network.adapters)
    else:
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
    # A start of 0 is left out: older readers do not know the key.
    table["neuron"] = neuron_table(neuron) | ({"start": neuron.start} if neuron.start else {})
    return table


def adapters_table(adapters: AdapterConfig) -> dict[str, Any]:
    """The table ``[network.adapters]``; without proxies also without their key, which older readers do not know."""
    return adapters.model_dump(exclude=set() if "proxy1x1" in adapters.kinds else {"skips"})


def neuron_table(neuron: LIFParameters) -> dict[str, Any]:
    """The table ``[network.neuron]`` that makes this neuron, but for where its potential starts."""
    return {
        "kind": neuron.kind,
        "decay": neuron.decay,
        "threshold": neuron.v_threshold,
        "strict": neuron.strict,
        "surrogate": str(neuron.surrogate),
        "detach_reset": neuron.detach_reset,
    }


def graph_of_nir(config: Experiment) -> dict[str, str]:
    """For a model file: the graph of a network ``nir:FILE``, so that the file is not needed again; else nothing."""
    if not config.network.name.startswith(PREFIX):
        return {}
    try:
        return {"nir": nir_bones(config.network.name)}
    except ConfigError:  # taken away while the run went on: the name alone leads to it
        return {}


def build_again(
    facts: ModelFacts,
    live: networks.Own | None,
    device: str,
    where: str,
    begin: Callable[[Make], Mapping[str, Tensor]] | None = None,
) -> NetworkFactory:
    """The network that a model file speaks of, with its initial weights.

    Args:
        facts: what the model file says.
        live: the module or maker of a network of one's own.
        device: where to put it.
        where: name of the file, for errors.
        begin: what its run began with, told what builds the network for a number of classes.

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

    seed = derive_seed(facts.seed, NETWORK, 0)
    bones = cast(str | None, facts.extra.get("nir"))

    def make(classes: int, seed: int = seed) -> nn.Module:
        return build_network(config, cast(Any, facts.input_shape), classes, live, facts.timed, seed, bones)

    first = None if begin is None else begin(make)
    return NetworkFactory(lambda own: make(facts.classes, own), seed, device, first)
