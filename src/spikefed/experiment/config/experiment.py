"""The whole file as one value, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, PrivateAttr
from pydantic.fields import FieldInfo

from spikefed.experiment.config.data import DataConfig, StagesConfig
from spikefed.experiment.config.federation import (
    AttackConfig,
    ChipsConfig,
    DeployConfig,
    ParticipationConfig,
    PrivacyConfig,
    WireConfig,
)
from spikefed.experiment.config.network import NetworkConfig
from spikefed.experiment.config.section import SINCE_02, Section
from spikefed.experiment.probetables import ProbeTable, probe_tables
from spikefed.federated import METHODS, Hyperparameters, method
from spikefed.federated.local import LocalTraining


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
    privacy: PrivacyConfig = Field(default=PrivacyConfig(), json_schema_extra=SINCE_02)
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

    _notes: tuple[str, ...] = PrivateAttr(default=())

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever wrote the file should know of how it was read, a sentence each."""
        return self._notes

    def noted(self, notes: tuple[str, ...]) -> Experiment:
        """The same with these notes."""
        self._notes = notes
        return self

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
        absent |= set() if self.privacy != PrivacyConfig() else {"privacy"}
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
        if issubclass(hyper, METHODS["fsd"].hyperparameters):
            tree["method"] |= tree.pop("privacy", PrivacyConfig().model_dump())  # where these keys once stood
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
