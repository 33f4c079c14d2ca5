"""The network that a config asks for, with seeded weights."""

from __future__ import annotations

import dataclasses
from math import prod
from typing import Any

from torch import nn

from spikefed import interop, networks
from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.experiment.stages import adapters_of
from spikefed.neurons import LIFParameters, SendOnDelta, settle_precision, surrogate
from spikefed.objects import is_own


def config_of(config: Experiment, client: int) -> Experiment:
    """The experiment whose one network is that of a client; the same where all have one."""
    names = config.network.clients
    if not names:
        return config
    return named(config, names[client % len(names)])


def named(config: Experiment, name: str) -> Experiment:
    """The experiment with another network for everybody."""
    return config.model_copy(update={"network": config.network.model_copy(update={"name": name, "clients": []})})


def network_info(config: Experiment) -> networks.NetworkInfo:
    """Defaults of the config's network; a layout and your own network have those of ``small``."""
    return networks.network_info("small" if is_own(config.network.name) else config.network.name)


def neuron_for(config: Experiment) -> LIFParameters | None:
    """The network's own neuron with the config's keys on top, or None when the config names none."""
    given = {} if config.network.neuron is None else config.network.neuron.model_dump(exclude_none=True)
    if not given:
        return None
    if "threshold" in given:
        given["v_threshold"] = given.pop("threshold")
    if "surrogate" in given:
        given["surrogate"] = surrogate(given["surrogate"])
    return dataclasses.replace(network_info(config).neuron, **given)


def build_network(
    config: Experiment,
    shape: tuple[int, int, int],
    classes: int,
    live: networks.Own | None,
    timed: bool,
    seed: int,
    bones: str | None = None,
) -> nn.Module:
    """The config's network with seeded weights, and the parts of every task where ``network.adapters`` names some.

    Args:
        config: the experiment.
        shape: ``(C, H, W)`` of an image or of one time step.
        classes: width of the output.
        live: a network or a function given by code instead of by name.
        timed: whether the data have a time axis.
        seed: of the initial weights.
        bones: of a network ``nir:FILE``, in place of the file (`spikefed.interop.nir_bones`).

    Raises:
        ConfigError: a network that cannot be adapted so.
    """
    net = _plain(config, shape, classes, live, timed, seed, bones)
    own = adapters_of(config, classes)
    if not own.kinds:
        return net
    for task, chosen in enumerate(own.outputs or ()):
        if strangers := [output for output in chosen if not 0 <= output < classes]:
            raise ConfigError(
                f"network.adapters.outputs of task {task} names output {strangers[0]}, and there are 0 to {classes - 1}"
            )
    kinds = list(dict.fromkeys(own.kinds))
    sizes: dict[str, Any] = {"per": own.per, "rank": own.rank, "skips": own.skips}
    return networks.adapt(net, kinds, tasks=own.tasks or 1, outputs=own.outputs, **sizes)


def _plain(
    config: Experiment,
    shape: tuple[int, int, int],
    classes: int,
    live: networks.Own | None,
    timed: bool,
    seed: int,
    bones: str | None,
) -> nn.Module:
    """`build_network` without parts of tasks."""
    coding = SendOnDelta(config.network.delta) if config.network.coding == "delta" else config.network.coding
    if live is None and config.network.name.startswith(interop.PREFIX):
        return from_nir(config, shape, classes, coding or "direct", bones)
    if live is not None or is_own(config.network.name):
        return networks.build_own(
            config.network.name if live is None else live,
            input_shape=shape,
            classes=classes,
            steps=config.network.steps,
            coding=coding,
            readout=config.network.readout,
            state=config.network.state,
            seed=seed,
            timed=timed,
        )
    given: dict[str, Any] = {
        "norm": config.network.norm,
        "coding": coding,
        "neuron": neuron_for(config),
        "pooling": config.network.pooling,
    }
    if config.network.twin == "ann":
        twin = networks.ann_twin(
            config.network.name,
            input_shape=shape,
            classes=classes,
            norm=config.network.norm,
            pooling=config.network.pooling,
            seed=seed,
        )
        return twin if config.network.qcfs is None else networks.quantise(twin, config.network.qcfs)
    net = networks.build(
        config.network.name,
        input_shape=shape,
        classes=classes,
        steps=config.network.steps,
        readout=config.network.readout,
        seed=seed,
        **{key: value for key, value in given.items() if value is not None},
    )
    net.precision = settle_precision(config.network.precision, config.run.device)
    return net if config.network.thresholds is None else networks.learn_thresholds(net, config.network.thresholds)


def from_nir(
    config: Experiment, shape: tuple[int, ...], classes: int, coding: str | SendOnDelta, bones: str | None = None
) -> networks.SpikingNetwork:
    """The network of ``nir:FILE``, weights included, for a config's data.

    Args:
        config: the experiment.
        shape: ``(C, H, W)`` of the data.
        classes: of the data.
        coding: of images as spikes.
        bones: in place of the file, whose weights they lack.

    Raises:
        ConfigError: no such file, or one that does not fit the data or the config.
    """
    told = config.network
    path, dt = interop.nir_name(told.name)
    net = interop.read_nir(path if bones is None else interop.bones_file(bones), steps=told.steps, coding=coding, dt=dt)
    flat = prod(net.input_shape) == net.input_shape[0] == prod(shape)
    if net.input_shape != tuple(shape) and not flat:
        taken, given = ("x".join(map(str, sides)) for sides in (net.input_shape, shape))
        raise ConfigError(f"network.name '{told.name}' takes images {taken}, the data set gives {given}; name another")
    if net.classes != classes:
        raise ConfigError(
            f"network.name '{told.name}' has {net.classes} outputs, the data set {classes} classes; name another"
        )
    if net.readout != told.readout:
        raise ConfigError(
            f"network.name '{told.name}' gives {'spikes' if net.readout == 'spike' else 'currents'}; set "
            f"network.readout = '{net.readout}'"
        )
    net.input_shape = tuple(shape)
    return net
