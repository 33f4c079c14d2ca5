"""Settings of ``[network]`` that do not fit each other, refused before anything is loaded or trained."""

from __future__ import annotations

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.federated import method
from spikefed.federated.selection import check_roles
from spikefed.interop import PREFIX
from spikefed.networks import network_info
from spikefed.objects import is_own
from spikefed.wire.header import WEIGHT_KINDS


def check_network(config: Experiment) -> None:
    """Refuse settings of ``[network]`` that do not fit each other, or the method.

    Raises:
        ConfigError: such a setting; the text names it and what to do.
    """
    for rule in (_thresholds, _own_network, _mixed, _start):
        rule(config)


def _own_network(config: Experiment) -> None:
    net = config.network
    if not is_own(net.name):
        if net.state != "clear":
            raise ConfigError(
                f"'network.state' = '{net.state}' is for networks of your own, and '{net.name}' has no hidden state; "
                "leave it out"
            )
        return
    defaults = type(net)()
    for key in ("twin", "norm", "neuron", "precision", "pooling", "thresholds", "qcfs"):
        if getattr(net, key) != getattr(defaults, key):
            raise ConfigError(
                f"'network.{key}' has no effect on your own network '{net.name}'; leave it out and build it so"
            )


def _thresholds(config: Experiment) -> None:
    """Refuse learnt thresholds where no spiking layer of this package would have them, and QCFS outside ANN twins."""
    net = config.network
    if net.qcfs is not None and net.twin != "ann":
        raise ConfigError(
            "network.qcfs is the activation of an ANN twin that will be converted, and this network spikes; set "
            "network.twin = 'ann', or leave it out"
        )
    if net.thresholds is None:
        return
    if net.twin == "ann":
        raise ConfigError(
            "network.thresholds are those of spiking neurons, and network.twin = 'ann' has none; leave one of them out"
        )
    if net.name.startswith(PREFIX):
        raise ConfigError(
            f"network.thresholds does not go with '{net.name}', whose thresholds stand in its file; leave it out"
        )


def _mixed(config: Experiment) -> None:
    """Refuse networks of the clients where what travels, or what is begun with, fits one network only."""
    names = config.network.clients
    if not names:
        return
    used = method(config.method["name"])
    weights = {used.uplink_kind, used.downlink_kind} & {*WEIGHT_KINDS, "hint-spikes"}
    if weights:
        what = "spikes of a hidden layer" if "hint-spikes" in weights else "weights"
        raise ConfigError(
            f"method {used.name} exchanges {what}, "
            "which fit one network only, but 'network.clients' names several; use fsd, fsd+, cfd or ds-fl"
        )
    if not used.server_model:
        raise ConfigError(
            f"method {used.name} has no network at the server, so its runs have none to save beside those of "
            "'network.clients'; use fsd, fsd+, cfd or ds-fl"
        )
    for key, told in (("network.start", config.network.start), ("data.pooled", config.data.pooled)):
        if told:
            raise ConfigError(f"'network.clients' gives clients networks of their own, which '{key}' does not fit")
    for name in names:
        if is_own(name):
            raise ConfigError(f"'network.clients' takes networks that spikefed builds by name, and '{name}' is none")
        if network_info(name).ann:
            raise ConfigError(f"'network.clients' names '{name}', which has no spiking form; name another")


def _start(config: Experiment) -> None:
    net = config.network
    if net.start is not None and not net.start.strip():
        raise ConfigError("'network.start' is empty; name a run's folder or a model file, or leave it out")
    if net.start_roles == "all":
        return
    if net.start is None:
        raise ConfigError(
            "'network.start_roles' has no effect without 'network.start'; name a run there, or leave it out"
        )
    try:
        check_roles([net.start_roles] if isinstance(net.start_roles, str) else net.start_roles)
    except ConfigError as error:
        raise ConfigError(f"'network.start_roles': {error}") from error
