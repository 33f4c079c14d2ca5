"""Settings that do not fit each other, refused before anything is loaded or trained."""

from __future__ import annotations

import importlib.util

import torch

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.experiment.tables import BELONGS
from spikefed.federated import Method, method
from spikefed.federated.attackers import Attacker
from spikefed.objects import is_own
from spikefed.wire import codecs

CHANGE_CODECS = ("stc", "topk", "qsgd", "cosine")
"""Lossy codecs for changes of weights; sending the weights themselves through them would zero most of a network."""


def check(config: Experiment) -> None:
    """Refuse settings that do not fit each other, before anything is loaded or trained.

    Raises:
        ConfigError: a codec of another kind, a quorum nobody can reach, spikes from a network that has none.
    """
    hyper = config.hyper()
    for key, name in config.wire.model_dump().items():
        kind = key.removesuffix("_up").removesuffix("_down").replace("_", "-")
        known = sorted(codec.name for codec in codecs() if codec.kind == kind)
        if name not in known:
            raise ConfigError(
                f"'wire.{key}' names codec '{name}', which is none for {kind}; use one of {', '.join(known)}"
            )
        payload = "payload" if key.endswith("_up") else "payload_down"
        if name.startswith(CHANGE_CODECS) and getattr(hyper, payload, "weights") != "change":
            raise ConfigError(
                f"'wire.{key}' = '{name}' codes changes of weights; set method.{payload} = 'change' with it, or use "
                "float32 or fp16"
            )
    if getattr(hyper, "calibrate", 0.0) and getattr(hyper, "local_loss", "") == "mse-rate":
        raise ConfigError("training.calibrate shifts logits, and local_loss = 'mse-rate' has none; take ce-rate or tet")
    if config.run.device != "cpu":
        _check_device(config)
    for table in config.probe_tables():
        table.probe.check(table.hyper)
    taking_part = config.participation
    if getattr(hyper, "payload_down", "") == "change" and (taking_part.schedule != "all" or taking_part.straggle):
        raise ConfigError(
            "method.payload_down = 'change' needs every client in every round (a missed change cannot be made up); use "
            "'weights', or participation.schedule = 'all' without straggle"
        )
    if config.participation.quorum > config.data.clients:
        raise ConfigError(
            f"'participation.quorum' = {config.participation.quorum} can never be reached by {config.data.clients} "
            "clients; lower it"
        )
    strangers = [client for client in config.attack.clients if client >= config.data.clients]
    if strangers:
        raise ConfigError(
            f"'attack.clients' names client {strangers[0]}, but there are clients 0 to {config.data.clients - 1}"
        )
    steps, net = method(config.method["name"]), config.network
    check_privacy(config, steps)
    if config.attack.clients:
        Attacker(steps, config.attack.kind, classes=1)  # refuses what it cannot change
    if any("spikes" in (kind or "") for kind in (steps.uplink_kind, steps.downlink_kind)) and (
        net.readout != "spike" or net.twin == "ann"
    ):
        setting = "network.twin = 'ann'" if net.twin == "ann" else f"network.readout = '{net.readout}'"
        raise ConfigError(
            f"method {steps.name} exchanges spikes but {setting} gives none; use a spiking readout or FedAvg"
        )
    if is_own(net.name):
        defaults = type(net)()
        for key in ("twin", "norm", "neuron", "precision", "pooling"):
            if getattr(net, key) != getattr(defaults, key):
                raise ConfigError(
                    f"'network.{key}' has no effect on your own network '{net.name}'; leave it out and build it so"
                )
    elif net.state != "clear":
        raise ConfigError(
            f"'network.state' = '{net.state}' is for networks of your own, and '{net.name}' has no hidden state; "
            "leave it out"
        )


def check_idle(config: Experiment) -> None:
    """Refuse settings that the partition or the schedule leaves without effect; for runs that are about to begin.

    A recorded config holds every key, so only values other than the default count, and a folder's run goes on as it
    began.

    Raises:
        ConfigError: such a setting; the text names it and what to set instead.
    """
    for (table, key), (chooser, wanted) in BELONGS.items():
        section = getattr(config, table)
        default, chosen = type(section).model_fields[key].default, getattr(section, chooser)
        if chosen != wanted and getattr(section, key) != default:
            raise ConfigError(
                f"'{table}.{key}' = {getattr(section, key)!r} has no effect with {table}.{chooser} = '{chosen}'; leave "
                f"it out, or set {table}.{chooser} = '{wanted}'"
            )


def check_privacy(config: Experiment, steps: Method) -> None:
    """Refuse privacy switches where they would do nothing, or cannot work.

    Raises:
        ConfigError: a method that does not know them, a robust vote on votes that nobody sees, one client.
    """
    hyper = config.hyper()
    secure = getattr(hyper, "secure", False)
    for key, on in (("secure", secure), ("response_epsilon", getattr(hyper, "response_epsilon", None) is not None)):
        if on and steps.name != "fsd":
            raise ConfigError(
                f"'method.{key}' is a switch of method fsd and does nothing in {steps.name}; leave it out"
            )
    if not secure:
        return
    if hyper.vote != "weighted":  # type: ignore[attr-defined]
        raise ConfigError(
            f"'method.vote' = '{hyper.vote}' needs every client's spikes, which "  # type: ignore[attr-defined]
            "'method.secure' hides from the server; choose one of the two"
        )
    if config.data.clients < 2:
        raise ConfigError("'method.secure' sums the votes of at least two clients; raise data.clients")
    if importlib.util.find_spec("cryptography") is None:
        raise ConfigError("'method.secure' needs the package cryptography; install spikefed[privacy]")


def _check_device(config: Experiment) -> None:
    device = config.run.device
    if config.run.workers > 1:
        raise ConfigError(f"run.device = '{device}' cannot be shared by run.workers; set one of the two")
    if not torch.cuda.is_available():
        raise ConfigError(f"run.device = '{device}', but torch {torch.__version__} finds no GPU here; set it to 'cpu'")
    number = torch.device(device).index or 0
    if number >= torch.cuda.device_count():
        raise ConfigError(f"run.device = '{device}', but there are {torch.cuda.device_count()} GPUs, from cuda:0 on")
