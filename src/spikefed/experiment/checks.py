"""Settings that do not fit each other, refused before anything is loaded or trained."""

from __future__ import annotations

import torch

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.experiment.methods import method_of
from spikefed.experiment.networkchecks import check_network
from spikefed.experiment.tables import BELONGS
from spikefed.experiment.taskchecks import check_tasks
from spikefed.federated import method
from spikefed.federated.attackers import Attacker
from spikefed.federated.local import LocalTraining
from spikefed.federated.setup import Setup
from spikefed.federated.steptables import TEMPORAL_KEYS, Temporal
from spikefed.hardware.crossbar import ChipProfile, load_profile
from spikefed.networks import network_info
from spikefed.objects import is_own
from spikefed.training.accountant import check_installed
from spikefed.wire import codecs


def check(config: Experiment) -> None:
    """Refuse settings that do not fit each other, before anything is loaded or trained.

    Raises:
        ConfigError: a codec of another kind, a quorum nobody can reach, a GPU that is not there, what the method itself
            refuses (`spikefed.federated.Method.check`).
    """
    for rule in (
        _codecs,
        _losses,
        _chips,
        _device,
        _probes,
        _quorum,
        _liars,
        _method,
        _public_source,
        check_network,
        check_tasks,
    ):
        rule(config)


def _codecs(config: Experiment) -> None:
    for key, name in config.wire.model_dump().items():
        kind = key.removesuffix("_up").removesuffix("_down").replace("_", "-")
        known = sorted(codec.name for codec in codecs() if codec.kind == kind)
        if name not in known:
            raise ConfigError(
                f"'wire.{key}' names codec '{name}', which is none for {kind}; use one of {', '.join(known)}"
            )


def _losses(config: Experiment) -> None:
    hyper = config.hyper()
    if getattr(hyper, "calibrate", 0.0) and getattr(hyper, "local_loss", "") == "mse-rate":
        raise ConfigError("training.calibrate shifts logits, and local_loss = 'mse-rate' has none; take ce-rate or tet")
    if isinstance(hyper, LocalTraining):
        _temporal(hyper.temporal, hyper.local_loss, config.network.steps)
        if hyper.operations.weight and config.network.twin == "ann":
            raise ConfigError(
                "training.operations counts what spikes cause, and network.twin = 'ann' has none; leave one of them out"
            )
        _privacy(hyper, config)


def _privacy(hyper: LocalTraining, config: Experiment) -> None:
    """Refuse what differential privacy of local training cannot go with."""
    if not hyper.privacy.clip:
        if hyper.privacy != type(hyper.privacy)():
            raise ConfigError("training.privacy is off while its clip is 0; set training.privacy.clip = 1.0, say")
        return
    check_installed()
    if hyper.local_loss == "centroid":
        raise ConfigError("training.privacy clips losses of single samples, and local_loss = 'centroid' has none")
    if hyper.operations.weight:
        raise ConfigError(
            "training.operations adds to losses of whole batches, and training.privacy clips those of single samples; "
            "leave one of them out"
        )
    if getattr(hyper, "silence", 0.0):
        raise ConfigError("training.privacy does not go with public rows in the same step; leave method.silence at 0")
    if getattr(hyper, "rehearse", 0.0):
        raise ConfigError(
            "training.privacy does not go with public rows in the same step; set method.rehearse = 0 and distil_epochs"
        )
    name = config.network.name
    if not is_own(name) and (config.network.norm or network_info(name).norm) != "none":
        raise ConfigError(
            f"training.privacy needs gradients of single samples, and the norm of network {name} mixes those of a "
            "batch; set network.norm = 'none'"
        )


def _temporal(given: Temporal, loss: str, steps: int) -> None:
    """Keys that would do nothing with this loss, and steps that the network does not have."""
    for key, owner in TEMPORAL_KEYS.items():
        if getattr(given, key) != getattr(Temporal(), key) and loss != owner:
            raise ConfigError(
                f"training.temporal.{key} does nothing with local_loss = '{loss}'; set training.local_loss = "
                f"'{owner}', or leave the key out"
            )
    if any(step > steps for step in given.steps):
        raise ConfigError(f"training.temporal.steps names step {max(given.steps)}, but network.steps is {steps}")


def _chips(config: Experiment) -> None:
    """Profiles are read by the probe that ``[chips]`` brings, which is checked like the others."""
    chips = config.chips
    if not chips.profiles:
        if chips != type(chips)():
            raise ConfigError("[chips] names no profile, so nobody has a chip; set chips.profile = 'rram', for example")
        return
    if config.run.device != "cpu":
        raise ConfigError(
            f"chips are simulated on the processor and run.device is '{config.run.device}'; set run.device = 'cpu', or "
            "leave [chips] out"
        )
    if len(chips.profiles) > _clients(config):
        raise ConfigError(
            f"chips.profile names {len(chips.profiles)} kinds for {_clients(config)} clients, so some would be "
            "nobody's; name as many as there are clients, or fewer, which are repeated in turn"
        )
    if chips.train == "on-chip":
        for name in chips.profiles:
            _learns(load_profile(name).changed(chips.changes))


def _learns(profile: ChipProfile) -> None:
    """Converters' ranges come from calibration, which weights that still move do not have."""
    converters = profile.converters
    for key, bits in (("dac_bits", converters.dac_bits), ("adc_bits", converters.adc_bits)):
        if bits is not None:
            raise ConfigError(
                f"chip profile {profile.name} has converters (converters.{key} = {bits}), whose ranges are calibrated "
                "on trained weights, so clients cannot train on it; set chips.train = 'off-chip', which measures and "
                "repairs on the chip, or leave its converters out"
            )


def _probes(config: Experiment) -> None:
    for table in config.probe_tables():
        table.probe.check(table.hyper)


def _clients(config: Experiment) -> int:
    return 1 if config.data.pooled else config.data.clients


def _quorum(config: Experiment) -> None:
    clients = _clients(config)
    if config.participation.quorum > clients:
        raise ConfigError(
            f"'participation.quorum' = {config.participation.quorum} can never be reached by {clients} client"
            f"{'' if clients == 1 else 's'}{' (data.pooled makes one of all)' if config.data.pooled else ''}; lower it"
        )


def _liars(config: Experiment) -> None:
    clients = _clients(config)
    strangers = [client for client in config.attack.clients if client >= clients]
    if strangers:
        raise ConfigError(f"'attack.clients' names client {strangers[0]}, but there are clients 0 to {clients - 1}")
    if config.attack.clients:
        Attacker(method(config.method["name"]), config.attack.kind, classes=1)  # refuses what it cannot change


def _method(config: Experiment) -> None:
    part = config.participation
    net = config.network
    silent = f"network.readout = '{net.readout}'" if net.readout != "spike" else ""
    setup = Setup(
        clients=_clients(config),
        rounds=config.rounds,
        everybody=part.schedule == "all" and not part.straggle,
        silent="network.twin = 'ann'" if net.twin == "ann" else silent,
        codecs=config.wire.model_dump(),
        on_chip=bool(config.chips.profiles) and config.chips.train == "on-chip",
    )
    method_of(config).check(config.hyper(), setup)


def _public_source(config: Experiment) -> None:
    """Refuse rows that nobody would look at, and settings of rows that are not made."""
    source = config.data.public_source
    if source.kind == "set":
        if source != type(source)():
            raise ConfigError(
                "data.public_source does nothing while its kind is 'set'; set data.public_source.kind = 'sent' or "
                "'seeds'"
            )
        return
    used = method(config.method["name"])
    if used.public_rows == "nobody":
        raise ConfigError(
            f"method {used.name} has no public rows, so data.public_source makes none; leave it out, or take a method "
            "that distils"
        )
    if getattr(config.hyper(), "rows", "public") == "generator":
        raise ConfigError(
            "nobody would look at the rows of data.public_source: method.rows = 'generator' makes others; leave one of "
            "them out"
        )
    if config.stages.on:
        raise ConfigError("data.public_source does not go with [stages], whose public rows are dealt out; drop one")


def check_idle(config: Experiment) -> None:
    """Refuse settings that the partition or the schedule leaves without effect; for runs that are about to begin.

    A recorded config holds every key, so only values other than the default count;
    and a folder's run goes on as it began.

    Raises:
        ConfigError: such a setting; the text names it and what to set instead.
    """
    for (table, key), (chooser, wanted) in BELONGS.items():
        section = getattr(config, table)
        default = type(section).model_fields[key].default
        chosen = getattr(section, chooser)
        if chosen != wanted and getattr(section, key) != default:
            raise ConfigError(
                f"'{table}.{key}' = {getattr(section, key)!r} has no effect with {table}.{chooser} = '{chosen}'; leave "
                f"it out, or set {table}.{chooser} = '{wanted}'"
            )


def _device(config: Experiment) -> None:
    device = config.run.device
    if device == "cpu":
        return
    if config.run.workers > 1:
        raise ConfigError(f"run.device = '{device}' cannot be shared by run.workers; set one of the two")
    check_device("run.device", device)


def check_device(key: str, device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        ConfigError: no name of a device, no GPU, or not so many.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{key} = '{device}' is no device; use cpu, cuda or cuda:N") from error
    if wanted.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise ConfigError(f"{key} = '{device}', but torch {torch.__version__} finds no GPU here; set it to 'cpu'")
    if (wanted.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{key} = '{device}', but there are {torch.cuda.device_count()} GPUs, from cuda:0 on")
