"""The experiment file: one TOML, validated, with presets, inheritance and overrides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from spikefed.errors import ConfigError
from spikefed.experiment import wording
from spikefed.experiment.probetables import ProbeTable, probe_tables
from spikefed.experiment.tables import PRESETS, in_order, merge, override_key, parse_override, presets, read_tree
from spikefed.federated import METHODS, Hyperparameters, method
from spikefed.federated.attackers import Attack
from spikefed.federated.local import LocalTraining
from spikefed.hardware.crossbar import Changes
from spikefed.networks import Adapter
from spikefed.objects import check_keys, nearest


class Section(BaseModel):
    """Base of every table of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SINCE_02: dict[str, Any] = {"since": "0.2"}
"""Marks a key that version 0.1 did not have: at its default it leaves an experiment's hash as it was."""


class DataConfig(Section):
    """Which images, and who holds what."""

    dataset: str = Field(
        default="digits",
        description="data set of clients and test ('spikefed list datasets'), or your own: module:name, images:FOLDER, "
        "csv:FILE, npz:PATH, or shares:FOLDER of share folders",
    )
    dir: str | None = Field(default=None, description="folder of the data files; default $SPIKEFED_DATA, then ./data")
    clients: int = Field(default=4, ge=1, description="number of clients N")
    private_per_client: int | None = Field(
        default=None, ge=1, description="private samples per client; default: an equal share"
    )
    public: int = Field(default=400, ge=1, description="rows of the public set X_p")
    public_dataset: str | None = Field(
        default=None,
        description="data set of the public rows; or nobody's: noise, crops:PICTURE, synthetic:FILE (of 'spikefed "
        "synthesise'); default: the same",
    )
    public_order: Literal["content"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="'content': public rows in an order that their content alone fixes, for machines that read their "
        "own copy; default: as the seed draws them (share folders made elsewhere: content)",
    )
    partition: str = Field(
        default="iid",
        pattern=r"^(iid|dirichlet|shards|column|[^:]+:.+)$",
        description="how private data is dealt out: iid, dirichlet, shards; column: one client for each value of the "
        "column 'by'; or a function of your own, module:function",
    )
    alpha: float = Field(default=0.5, gt=0, le=1e6, description="Dirichlet concentration; smaller is more skewed")
    shards_per_client: int = Field(default=2, ge=1, description="label-sorted shards per client")
    validation: float = Field(
        default=0.1, ge=0, lt=1, description="share kept to measure a client's accuracy [FSD: 0.1]"
    )
    validation_overlap: bool = Field(default=False, description="train on the validation items too [FSD authors' code]")
    pooled: bool = Field(
        default=False,
        json_schema_extra=SINCE_02,
        description="one client holds the private data of all: the method trains centrally, a round is its epochs",
    )
    pixels: Literal["unit", "signed", "standard", "raw"] | None = Field(
        default=None,
        description="network input: [0, 1], [-1, 1], mean 0 and deviation 1, or the numbers as they are; default: what "
        "coding needs, raw for counts of events, standard for real numbers",
    )
    evaluate_on: Literal["test", "validation"] = Field(
        default="test", description="what the server is measured on; 'validation' (all clients' together) for tuning"
    )
    test_limit: int | None = Field(
        default=None,
        ge=1,
        description="use so many test images: the first, or a sample by class where the first lack classes",
    )
    by: str = Field(
        default="client",
        json_schema_extra=SINCE_02,
        description="column that says whose an item is, such as person; for partition 'column' and for groups",
    )
    sizes: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], json_schema_extra=SINCE_02, description="items of each client; default: equal shares"
    )
    size_alpha: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        json_schema_extra=SINCE_02,
        description="clients' sizes drawn from Dirichlet(size_alpha); smaller is less equal; default: equal shares",
    )
    own_test: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        json_schema_extra=SINCE_02,
        description="share of each client's items, the last of each class, that is its own test set",
    )
    test_groups: list[str | int] | int = Field(
        default=0,
        json_schema_extra=SINCE_02,
        description="values of the column 'by' whose items are the test set (people left out), or how many the seed "
        "draws; default: the test part as it comes",
    )
    public_groups: list[str | int] | int = Field(
        default=0,
        json_schema_extra=SINCE_02,
        description="values of the column 'by' whose items alone are public rows, or how many the seed draws",
    )
    kind: Literal["images", "frames", "series", "rows"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="what your own arrays are: images [N, C, H, W], frames [N, T, C, H, W], series [N, T, F] or rows "
        "[N, F]; default: told from their shape",
    )
    channels: Literal["first", "last"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="which axis of your own images has the channels; default: told from their shape",
    )
    size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        json_schema_extra=SINCE_02,
        description="side in pixels that event frames and pictures of a folder are brought to; default: as they are",
    )
    frames: Literal["time", "count"] = Field(
        default="time",
        json_schema_extra=SINCE_02,
        description="event sets: T frames of equal time, or of equally many events",
    )
    resample: Literal["bin", "pick", "window"] = Field(
        default="bin",
        json_schema_extra=SINCE_02,
        description="data with a time axis to the network's T steps: 'bin' takes sums of counts and means of other "
        "numbers over T equal stretches, 'pick' one sample of each, 'window' shows a step its whole stretch (series)",
    )


class NeuronConfig(Section):
    """The neuron of every spiking layer; a key that is absent takes the network's own."""

    kind: Literal["hard", "soft"] | None = Field(
        default=None, description="reset to zero [DTSNN] or by subtraction [V-SNN]"
    )
    decay: float | None = Field(
        default=None, ge=0, le=1, description="factor on the membrane per step [FSD: 0.1; V-SNN: 0.95]"
    )
    threshold: float | None = Field(default=None, gt=0, description="firing threshold [FSD: 0.25; V-SNN: 1]")
    strict: bool | None = Field(default=None, description="fire at u > theta; false: u >= theta")
    surrogate: str | None = Field(
        default=None, description="rectangle[:width=..], triangle[:gamma=..,width=..] or atan[:alpha=..]"
    )
    detach_reset: bool | None = Field(default=None, description="no gradient through the reset")
    start: float | None = Field(
        default=None,
        ge=0,
        le=1,
        json_schema_extra=SINCE_02,
        description="potential before the first step as a share of the threshold; converted networks have 0.5",
    )


class AdapterConfig(Section):
    """Parts of each task in a frozen network (docs/continual.md), for method ``adapters``."""

    kinds: list[Adapter] = Field(
        default=[], description="thresholds, bn, head, low-rank: what a task has of its own; all else is frozen"
    )
    per: Literal["layer", "channel", "neuron"] = Field(default="channel", description="what has a threshold of its own")
    rank: int = Field(default=2, ge=1, le=1024, description="of 'low-rank'")
    tasks: int | None = Field(default=None, ge=1, description="how many; default: those of [stages], else 1")
    outputs: list[list[int]] | None = Field(
        default=None, description="outputs of each task's head; default: those of [stages], else all"
    )


class NetworkConfig(Section):
    """The network and how images enter it."""

    name: str = Field(
        default="small", description="network (see 'spikefed list networks'), a layout, or your own: module:name"
    )
    twin: Literal["snn", "ann"] = Field(
        default="snn", description="'ann': same layers with ReLU, one step; FedAvg only"
    )
    steps: int = Field(default=8, ge=1, le=64, description="time steps T [FSD: 8]")
    norm: Literal["none", "bn", "tdbn", "bntt", "bn-step"] | None = Field(
        default=None, description="normalisation; default: the network's"
    )
    coding: Literal["direct", "bernoulli", "poisson", "latency", "delta"] | None = Field(
        default=None,
        description="input coding; default: the network's; 'latency': each pixel fires once, the brighter the earlier; "
        "'delta' spikes where a series has moved by 'network.delta'",
    )
    delta: float = Field(
        default=0.5,
        gt=0,
        json_schema_extra=SINCE_02,
        description="coding 'delta': change of the network's input that gives a spike",
    )
    readout: Literal["spike", "current"] = Field(
        default="spike", description="output spikes, or the last layer's currents"
    )
    neuron: NeuronConfig | None = Field(default=None, description="neuron of every layer; default: the network's")
    thresholds: Literal["layer", "channel"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="thresholds that training learns, of role neuron: one for each 'layer' or 'channel'; default: "
        "fixed ones",
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32",
        description="type of products and activations; 'auto': the faster one on this machine, which the run records",
    )
    pooling: Literal["average", "max", "stride"] | None = Field(
        default=None,
        description="what makes maps smaller; 'stride': strides of 2 in convolutions; default: the network's",
        json_schema_extra={"since": "0.2"},
    )
    state: Literal["clear", "keep"] = Field(
        default="clear",
        description="hidden state of your own network: cleared around every batch, or kept from batch to batch within "
        "a participant's step",
        json_schema_extra={"since": "0.2"},
    )
    clients: list[str] = Field(
        default=[],
        json_schema_extra=SINCE_02,
        description="names of the clients' own networks, dealt out in turn, for methods that exchange no weights; "
        "'name' is then the server's; default: all have that",
    )
    adapters: AdapterConfig = Field(
        default=AdapterConfig(),
        json_schema_extra=SINCE_02,
        description="parts of each task in a network that is frozen but for them",
    )
    start: str | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="begin from a trained network: a finished run's folder, or a model.safetensors; default: fresh "
        "weights",
    )
    start_roles: str | list[str] = Field(
        default="all",
        json_schema_extra=SINCE_02,
        description='"all", or roles of the tensors that are taken from \'start\', such as ["weight", "neuron"]; the '
        "others, and a head of other classes, begin anew",
    )


class ParticipationConfig(Section):
    """Who takes part in which round."""

    schedule: Literal["all", "late", "sample", "list"] = Field(
        default="all",
        description="'all' in every round; 'late': client 0 alone in rounds 1 and 2, then all [FSD tables, DTSNN]; "
        "'sample': a random 'fraction'; 'list': as 'rounds' says",
    )
    rounds: list[list[int]] = Field(default=[], description="schedule 'list': clients by round; the last repeats")
    fraction: float = Field(default=1.0, gt=0, le=1, description="schedule 'sample': share of clients per round")
    straggle: float = Field(
        default=0.0, ge=0, lt=1, description="probability that a chosen client misses the round; one never does"
    )
    deadline_s: float | None = Field(default=None, gt=0, description="seconds to wait for uploads (deployment)")
    quorum: int = Field(default=1, ge=1, description="accepted uploads without which a round changes nothing")


class WireConfig(Section):
    """Codecs of the messages (see 'spikefed list codecs')."""

    spikes_up: str = Field(default="context", description="codec of uploaded spikes [FSD: bitpack, Algorithm 2]")
    spikes_down: str = Field(default="context", description="codec of the voted spikes [FSD: bitpack]")
    weights_up: str = Field(default="float32", description="codec of uploaded weights")
    weights_down: str = Field(default="float32", description="codec of the global weights")
    hint_spikes: str = Field(default="context", description="codec of uploaded spikes with hints [HDSFL]")
    partial_spikes: str = Field(default="context", description="codec of uploaded spikes of some rows")
    labels: str = Field(default="context", description="codec of hard labels, both directions [CFD: delta coding]")
    counts: str = Field(default="context", description="codec of counts and quantised distributions, both directions")
    probabilities: str = Field(default="fp16", description="codec of soft labels, both directions [DS-FL]")
    class_means: str = Field(default="float32", description="codec of per-class means, both directions [FD]")


class AttackConfig(Section):
    """Test equipment: clients that lie, to measure what a robust vote is worth (docs/privacy.md)."""

    clients: list[Annotated[int, Field(ge=0)]] = Field(default=[], description="numbers of the lying clients")
    kind: Attack = Field(default="flip-labels", description="flip-labels, invert-spikes, random or scale")
    factor: float = Field(default=-1.0, description="'scale': factor on the change of the weights")
    claim: float | None = Field(
        default=None, ge=0, le=1, description="accuracy that a liar claims; default: what it measured"
    )


class ChipsConfig(Section):
    """Imperfect chips that the clients compute on (docs/chips.md)."""

    profile: str | list[str] = Field(
        default=[],
        description="kind of every client's chip, or a list of kinds, repeated in turn: rram, pcm, fefet, ideal, or "
        "TOML files of your own; none: exact hardware",
    )
    changes: Changes = Field(
        default={}, description="numbers of the profiles that are others here, such as {noise.read = 0.2}"
    )
    seed: int | None = Field(
        default=None, ge=0, description="client k has chip number seed + k of its kind; default: 1000 x the run's seed"
    )
    age_s: float = Field(default=0.0, ge=0, description="age at which a chip computes, seconds after it was written")
    train: Literal["on-chip", "off-chip"] = Field(
        default="on-chip",
        description="clients train, validate and predict on their chips, or exactly, with chips for use alone",
    )
    rewrite: int = Field(default=20, ge=1, description="training steps after which a chip is written anew")
    repairs: list[str] = Field(
        default=["none", "adapt", "soft", "labels"],
        min_length=1,
        description="what is measured on every client's own chip after the last round: none, gain, adapt, labels, soft",
    )
    calibration: int = Field(default=1000, ge=1, description="a client's images that its repair sees at most")

    @property
    def profiles(self) -> list[str]:
        """By client, repeated in turn; none: no chips."""
        return [self.profile] if isinstance(self.profile, str) else self.profile


class StagesConfig(Section):
    """Tasks that are learned one after the other (docs/continual.md); one of the first five keys says which."""

    classes: Annotated[int, Field(ge=2)] | list[Annotated[list[int], Field(min_length=1)]] | None = Field(
        default=None, description="tasks by classes: a number of tasks, or the classes of each: [[0, 1], [2, 3]]"
    )
    rotations: list[float] = Field(default=[], description="tasks by degrees that images are turned: [0, 90, 180]")
    permutations: int = Field(
        default=0, ge=0, description="so many tasks: images as they are, then with pixels in orders that the seed draws"
    )
    ranges: list[tuple[Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]]] = Field(
        default=[], description="tasks by pixel range that 0 and 255 are brought to; [255, 0] is the negative"
    )
    datasets: list[str] = Field(
        default=[], description="tasks by data set, data.dataset first; the others are brought to its channels and size"
    )
    rounds: int = Field(default=10, ge=1, description="rounds of a stage")
    order: Literal["same", "random", "latin"] | list[list[int]] = Field(
        default="same",
        description="order in which clients meet the tasks: the same, one drawn for each, a Latin square (all tasks in "
        "every stage), or a list of tasks for each client",
    )
    heads: Literal["one", "task"] = Field(
        default="one", description="'task': each task has outputs of its own, and is known when it is tested"
    )

    @property
    def on(self) -> bool:
        """Whether the run has stages."""
        return self.tasks > 0

    @property
    def tasks(self) -> int:
        """How many; 0 without stages."""
        classes = self.classes if isinstance(self.classes, int) else len(self.classes or ())
        return classes or len(self.rotations) or self.permutations or len(self.ranges) or len(self.datasets)


class DeployConfig(Section):
    """What the server does about clients that fail; nothing here changes a run in which none does."""

    repeats: int = Field(default=2, ge=0, description="how often a round without quorum asks the missing again")
    strikes: int = Field(default=3, ge=0, description="refused packets in a row that set a client aside; 0: never")
    set_aside_rounds: int = Field(default=5, ge=1, description="rounds for which it is not asked")


class RunConfig(Section):
    """What changes no result, but for rounding: another number of threads or another device adds in another order, and
    training makes points of accuracy of last bits. Compare runs of one number of threads.
    """

    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="torch threads; 0 takes the cores of this machine, 1 with 'workers' and in comparisons",
    )
    device: str = Field(
        default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="where networks compute: cpu, cuda or cuda:N"
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="processes that share the clients of a round; 0 or 1: none beside this one",
    )
    record_streams: bool = Field(
        default=False, description="keep all spikes in RUN/streams, for 'spikefed codec bench'"
    )
    take_home: bool = Field(
        default=False,
        json_schema_extra=SINCE_02,
        description="measure every client's own network after its step of each round, and the vote of them all, on the "
        "test set beside the server's; costs a test a client",
    )
    keep_clients: bool = Field(
        default=False,
        json_schema_extra=SINCE_02,
        description="keep every client's own network, as its last step left it, in RUN/clients; a file a client",
    )
    targets: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        default=[], description="accuracies in the report's bytes-to-target table; default: from curves"
    )


class Experiment(Section):
    """A whole experiment file."""

    name: str = Field(default="experiment", min_length=1, pattern=r"^[\w.+-]+$", description="name of the run folder")
    label: str | None = Field(
        default=None, pattern=r"^[\w.+-]+$", description="what tables call the run; default: the method's name"
    )
    seed: int = Field(default=0, ge=0, description="the one seed of everything")
    rounds: int = Field(default=10, ge=1, description="global epochs E_g")
    preset: str | None = Field(default=None, description="preset underneath this file (see 'spikefed list presets')")
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: dict[str, Any] = Field(default={}, description="training on private data")
    method: dict[str, Any] = Field(default={"name": "fsd"}, description="'name' and the method's own hyperparameters")
    participation: ParticipationConfig = ParticipationConfig()
    wire: WireConfig = WireConfig()
    attack: AttackConfig = AttackConfig()
    chips: ChipsConfig = Field(default=ChipsConfig(), json_schema_extra=SINCE_02)
    stages: StagesConfig = Field(default=StagesConfig(), json_schema_extra=SINCE_02)
    deploy: DeployConfig = DeployConfig()
    run: RunConfig = RunConfig()
    probe: list[dict[str, Any]] = Field(
        default=[],
        description="measures of the network, a table [[probe]] each ('spikefed list probes'); none changes a result",
        json_schema_extra={"since": "0.2"},
    )

    def probe_tables(self) -> list[ProbeTable]:
        """The tables ``[[probe]]``, checked; with ``[chips]`` one more, which measures every client on its own."""
        return probe_tables([*self.probe, *self._own_chips()], lambda key: "the config")

    def chip_seed(self) -> int:
        """Of client 0's chip."""
        return 1000 * self.seed if self.chips.seed is None else self.chips.seed

    def _own_chips(self) -> list[dict[str, Any]]:
        """The probe that ``[chips]`` brings, unless the file has one."""
        chips = self.chips
        if not chips.profiles or any(table.get("name") == "own-chips" for table in self.probe):
            return []
        told = {
            "profiles": chips.profiles,
            "seed": self.chip_seed(),
            "logit_scale": self.training.get("logit_scale", 1.0),
        }
        same = {key: getattr(chips, key) for key in ("changes", "age_s", "repairs", "calibration")}
        return [{"name": "own-chips", **told, **same}]

    def with_precision(self, precision: str) -> Experiment:
        """The same with ``network.precision``."""
        return self.model_copy(update={"network": self.network.model_copy(update={"precision": precision})})

    def hyper(self) -> Hyperparameters:
        """The method's validated hyperparameters: tables ``training`` and ``method`` together."""
        own = {key: value for key, value in self.method.items() if key != "name"}
        return method(self.method["name"]).hyperparameters.model_validate({**self.training, **own})

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value, defaults filled in."""
        tree = self.model_dump()
        hyper = self.hyper().model_dump(by_alias=True)
        tree["training"] = {key: hyper[key] for key in hyper if key in LocalTraining.model_fields}
        tree["method"] = {"name": self.method["name"]} | {k: v for k, v in hyper.items() if k not in tree["training"]}
        tree["probe"] = [table.resolved() for table in self.probe_tables()]
        absent = {"probe"} if not tree["probe"] else set()
        absent |= set() if self.chips.profiles else {"chips"}
        absent |= set() if self.stages.on else {"stages"}
        if not self.network.adapters.kinds:
            tree["network"].pop("adapters")
        return {key: value for key, value in tree.items() if key not in absent}

    def hash(self) -> str:
        """SHA-256 of every setting that changes results; the number of rounds may grow when a run is resumed.

        Probes look and change nothing: they are left out.
        A key marked ``since`` is left out at its default: an experiment keeps the hash it had before the key was there.
        """
        tree = self.resolved()
        drop_new_defaults(tree, type(self))
        hyper = method(self.method["name"]).hyperparameters
        for table in ("training", "method"):
            drop_new_defaults(tree[table], hyper)
        for key in ("name", "label", "rounds", "preset", "run", "deploy"):
            tree.pop(key)
        tree.pop("probe", None)
        tree["data"].pop("dir")
        if not self.attack.clients:
            tree.pop("attack")  # an experiment without liars keeps the hash it had before there were any
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def drop_new_defaults(tree: dict[str, Any], model: type[BaseModel]) -> None:
    """Remove from ``tree`` the keys of ``model`` that came after version 0.1 and stand at their defaults."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        kind = field.annotation
        marks = field.json_schema_extra
        if key in tree and isinstance(marks, dict) and "since" in marks and tree[key] == _plain_default(field):
            del tree[key]
        elif isinstance(tree.get(key), dict):
            for inner in (kind, *get_args(kind)):  # a table, or a table that may be absent
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    drop_new_defaults(tree[key], inner)


def _plain_default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return default.model_dump() if isinstance(default, BaseModel) else default


def _refuse_unknown(tree: Mapping[str, Any], model: type[BaseModel], where: str, extra: Iterable[str] = ()) -> None:
    check_keys(tree, [*(f.alias or name for name, f in model.model_fields.items()), *extra], where)


def validate(tree: Mapping[str, Any], source: str, overrides: Iterable[str] = ()) -> Experiment:
    """An `Experiment` from merged tables (preset already named inside).

    Args:
        tree: the tables.
        source: where they come from, for errors.
        overrides: texts that are merged in already; a value of theirs is not blamed on ``source``.

    Raises:
        ConfigError: one sentence that names the key, the value and what is allowed.
    """
    if "sweep" in tree:
        raise ConfigError(
            f"{source} is a sweep file (it has a table [sweep]), not one experiment; give it to 'spikefed compare'"
        )
    place = partial(wording.source_of, source=source, given=[override_key(text) for text in overrides])
    tree = _on_preset(tree, place)
    _check_tables(tree, place)
    probe_tables(tree.get("probe", []), place)
    name = tree.get("method", {}).get("name", "fsd")
    _check_method_keys(tree, name)
    return _parsed({**tree, "method": {"name": name, **tree.get("method", {})}}, place)


Place = Callable[[str], str]
"""Key to where it was written: the file, or ``--set``."""


def _on_preset(tree: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """The tables on top of the preset that they name."""
    name = tree.get("preset")
    if not name:
        return tree
    if name not in presets():
        raise ConfigError(f"preset '{name}' in {place('preset')} is not known; use one of {', '.join(presets())}")
    return merge(read_tree(PRESETS / f"{name}.toml"), tree)


def _check_tables(tree: Mapping[str, Any], place: Place) -> None:
    """Refuse tables and keys that no experiment has, and values where a table belongs."""
    _refuse_unknown(tree, Experiment, "")
    sections = _sections(Experiment)
    for key in tree:
        if not isinstance(tree[key], Mapping) and (key in sections or key in ("training", "method")):
            raise ConfigError(f"'{key}' in {place(key)} must be a table ([{key}]), not {tree[key]!r}")
        if key in sections:
            _refuse_unknown(tree[key], sections[key], f"{key}.")
    if isinstance(neuron := tree.get("network", {}).get("neuron"), Mapping):
        _refuse_unknown(neuron, NeuronConfig, "network.neuron.")


def _sections(model: type[BaseModel]) -> dict[str, type[Section]]:
    """Tables of an experiment by key, in the order of the file."""
    kinds = {key: field.annotation for key, field in model.model_fields.items()}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _check_method_keys(tree: Mapping[str, Any], name: Any) -> None:
    """Refuse an unknown method, and keys that neither training nor this method has."""
    try:
        hyper = method(str(name)).hyperparameters
    except ConfigError as error:
        if ":" in str(name):  # a class of the user's, which has no list of neighbours
            raise
        raise ConfigError(f"{error}; the nearest is '{nearest(str(name).lower(), METHODS)}'") from error
    _check_training(tree.get("training", {}))
    own = {f.alias or k for k, f in hyper.model_fields.items()} - set(LocalTraining.model_fields)
    given = tree.get("method", {})
    for key in given:
        if key in LocalTraining.model_fields and key not in own:
            raise ConfigError(f"unknown key 'method.{key}'; it belongs to table [training], as 'training.{key}'")
    check_keys(given, sorted({*own, "name"}), "method.", f" for method {name}")


def _check_training(table: Mapping[str, Any]) -> None:
    """Refuse keys that neither ``[training]`` nor a table inside it has, and values where such a table belongs."""
    _refuse_unknown(table, LocalTraining, "training.")
    for key, field in LocalTraining.model_fields.items():
        kind = field.annotation
        if key not in table or not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        if not isinstance(table[key], Mapping):
            raise ConfigError(f"'training.{key}' must be a table ([training.{key}]), not {table[key]!r}")
        _refuse_unknown(table[key], kind, f"training.{key}.")


def _parsed(tree: Mapping[str, Any], place: Place) -> Experiment:
    """The experiment, or one sentence on the first value that does not fit."""
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(wording.of_setting(first, where, place(where))) from error
    try:
        experiment.hyper()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"{'training' if str(first['loc'][0]) in LocalTraining.model_fields else 'method'}.{key}"
        raise ConfigError(wording.of_setting(first, where, place(where))) from error
    return experiment


def load(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read, merge and validate an experiment file.

    Args:
        path: the TOML file.
        overrides: ``table.key=value`` texts, applied last.

    Raises:
        ConfigError: anything wrong with the file or an override.
    """
    return from_tree(read_tree(path), overrides, str(path))


def from_tree(tree: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "the config") -> Experiment:
    """`load` for tables that are already in memory."""
    overrides = list(overrides)
    return validate(overridden(tree, overrides), source, in_order(overrides))


def overridden(tree: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The tables with ``table.key=value`` texts on top."""
    tree = dict(tree)
    for text in in_order(overrides):
        given = parse_override(text)
        if given.get("preset") in presets():
            # Named in a file, a preset lies under the file; named after it, on top, as every override.
            tree = merge(tree, read_tree(PRESETS / f"{given['preset']}.toml"))
        tree = merge(tree, given)
    return tree
