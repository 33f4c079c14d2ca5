"""Settings that do not fit each other, refused before anything is loaded or trained."""

from __future__ import annotations

import torch

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.experiment.methods import method_of
from spikefed.experiment.tables import BELONGS
from spikefed.federated import method
from spikefed.federated.attackers import Attacker
from spikefed.federated.local import LocalTraining
from spikefed.federated.memory import MemoryOption, memories
from spikefed.federated.selection import check_roles
from spikefed.federated.setup import Setup
from spikefed.federated.steptables import TEMPORAL_KEYS, Temporal
from spikefed.hardware.crossbar import ChipProfile, load_profile
from spikefed.interop import PREFIX
from spikefed.networks import network_info
from spikefed.objects import is_own
from spikefed.training.accountant import check_installed
from spikefed.wire import codecs
from spikefed.wire.header import WEIGHT_KINDS


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
        _thresholds,
        _own_network,
        _mixed,
        _start,
        _stages,
        _adapters,
        _memories,
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


KINDS = ("classes", "rotations", "permutations", "ranges", "datasets")
"""Keys of ``[stages]`` of which one says what the tasks are."""


def _stages(config: Experiment) -> None:
    stages = config.stages
    given = [key for key in KINDS if getattr(stages, key)]
    if not given:
        if stages != type(stages)():
            raise ConfigError(f"[stages] names no tasks; set one of stages.{', stages.'.join(KINDS)}")
        return
    if len(given) > 1:
        raise ConfigError(f"[stages] has both {given[0]} and {given[1]}, and tasks are of one kind; leave one out")
    if stages.tasks < 2:
        raise ConfigError(f"stages.{given[0]} gives one task, and stages need two; name another, or leave [stages] out")
    whole = stages.tasks * stages.rounds
    if config.rounds != whole:
        raise ConfigError(
            f"{stages.tasks} stages of {stages.rounds} rounds are {whole} rounds, but the run has {config.rounds}; set "
            f"rounds = {whole}, or stages.rounds"
        )
    if isinstance(stages.classes, list):
        _disjoint(stages.classes)
    if stages.datasets and stages.datasets[0] != config.data.dataset:
        raise ConfigError(
            f"stages.datasets begins with '{stages.datasets[0]}', and data.dataset is '{config.data.dataset}'; begin "
            "with that one, whose shape the others are brought to"
        )
    if config.data.partition == "column" or is_own(config.data.dataset) and stages.datasets:
        raise ConfigError("stages need data that are dealt out by chance; set data.partition to 'iid' or 'dirichlet'")


def _adapters(config: Experiment) -> None:
    own = config.network.adapters
    name = config.method["name"]
    if not own.kinds:
        if own != type(own)():
            raise ConfigError("[network.adapters] names no kind; set network.adapters.kinds = ['thresholds', 'head']")
        if name == "adapters":
            raise ConfigError(
                "method 'adapters' trains the parts of tasks, and the network has none; set network.adapters.kinds = "
                "['thresholds', 'head'], say"
            )
        return
    if name != "adapters" and not is_own(name):
        raise ConfigError(
            f"network.adapters freezes the network, and method '{name}' would train it; set method.name = 'adapters'"
        )
    if config.network.start is None:
        raise ConfigError(
            "network.adapters freezes the network, which would stay as it was drawn; set network.start to a trained run"
        )
    if config.stages.on and own.tasks not in (None, config.stages.tasks):
        raise ConfigError(
            f"network.adapters.tasks is {own.tasks}, and [stages] has {config.stages.tasks} tasks; leave it out"
        )
    if not config.stages.on and own.tasks not in (None, 1):
        raise ConfigError(
            f"network.adapters.tasks is {own.tasks}, and a run without [stages] trains one task; leave it out, or say "
            "in [stages] what the tasks are"
        )
    if own.outputs is not None and len(own.outputs) != (own.tasks or config.stages.tasks or 1):
        raise ConfigError(
            f"network.adapters.outputs has {len(own.outputs)} lists for {own.tasks or config.stages.tasks or 1} tasks; "
            "give one a task, or leave it out"
        )
    privacy = getattr(config.hyper(), "privacy", None)
    if privacy is not None and privacy.clip:
        raise ConfigError("training.privacy follows gradients of whole layers, not of adapters; leave one of them out")


FORGETFUL = {
    "adapters": "freezes what tasks share, so nothing is forgotten",
    "tickets": "trains networks whose weights come and go",
    "dc-nas": "trains a part of the network at a time",
}
"""Methods whose clients cannot remember tasks by an option of local training, and why."""


def _memories(config: Experiment) -> None:
    """Refuse memories of tasks where there are none, or that the method cannot hold."""
    hyper = config.hyper()
    for key, value in hyper:
        if isinstance(value, MemoryOption) and not value.on and value != type(value)():
            raise ConfigError(f"training.{key} is off; set training.{key}.{_switch(value)}, or leave the table out")
    asked = [f"training.{key}" for key in memories(hyper)]
    if getattr(hyper, "old_votes", 0.0) and not config.stages.on:
        raise ConfigError(
            "method.old_votes keeps the votes of stages, and the run has none; add a table [stages], or leave it out"
        )
    if not asked:
        return
    name = config.method["name"]
    if not config.stages.on:
        raise ConfigError(f"{asked[0]} remembers tasks, and the run has none; add a table [stages], or leave it out")
    if name in FORGETFUL:
        raise ConfigError(f"{asked[0]} does not go with method '{name}', which {FORGETFUL[name]}; leave it out")
    assert isinstance(hyper, LocalTraining)
    if hyper.privacy.clip:
        raise ConfigError(
            f"{asked[0]} adds to losses of whole batches, and training.privacy clips those of single samples; leave "
            "one of them out"
        )


def _switch(option: MemoryOption) -> str:
    return "strength = 1.0" if option.strength == 0 else "per_class = 10"


def _disjoint(groups: list[list[int]]) -> None:
    seen: set[int] = set()
    for group in groups:
        for label in group:
            if label < 0:
                raise ConfigError(f"stages.classes names class {label}; classes count from 0")
            if label in seen:
                raise ConfigError(f"stages.classes names class {label} twice; every class belongs to one task")
            seen.add(label)


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
