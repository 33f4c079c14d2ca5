"""Put runs of one config and several seeds together, and name what tells the groups apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from spikefed.report.curves import Band, Curve, band_of, curve_of
from spikefed.report.runs import Run

# Config keys that do not make another experiment: the seed, the name, the length, places, how the machine is used.
IGNORED = {"seed", "name", "label", "rounds", "preset", "run", "data.dir"}

METHOD_NAMES = {
    "fsd": "FSD",
    "fsd+": "FSD+",
    "fd": "FD",
    "fedadagrad": "FedAdagrad",
    "fedavg": "FedAvg",
    "fedavg-stc": "FedAvg + STC",
    "stc": "FedAvg + STC",
    "cfd": "CFD",
    "dsfl": "DS-FL",
    "ds-fl": "DS-FL",
    "hdsfl": "HDSFL",
    "fedprox": "FedProx",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "fedavgm": "FedAvgM",
    "fedopt": "FedOpt",
    "scaffold": "SCAFFOLD",
    "local": "Local only",
    "central": "Central",
}


@dataclass(frozen=True)
class Setting:
    """What must be equal for two methods to be compared: the data, how they are dealt, the network, the clients."""

    dataset: str
    partition: str | None
    network: str | None
    clients: int | None

    @property
    def label(self) -> str:
        parts = [self.dataset, self.partition, self.network, f"{self.clients} clients" if self.clients else None]
        return " · ".join(p for p in parts if p)


@dataclass
class Group:
    """Runs that differ by their seed only.

    Attributes:
        traits: the config flattened to ``table.key``, without what does not make another experiment.
        label: what a reader calls it; no other group of its setting has the same.
        variant: its place among the groups of one method and setting, which picks dash and marker.
    """

    method: str
    preset: str | None
    setting: Setting
    traits: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    label: str = ""
    variant: int = 0

    @cached_property
    def curves(self) -> list[Curve]:
        return [curve_of(run) for run in self.runs]

    @cached_property
    def band(self) -> Band:
        return band_of(self.curves)

    @property
    def seeds(self) -> list[int | None]:
        return [run.seed for run in self.runs]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups in order of setting, then first appearance; each has a label no other group of its setting has."""
    groups: dict[Any, Group] = {}
    for run in runs:
        traits = _traits(run.config)
        key = (run.method, run.preset, run.label, setting_of(run), repr(sorted(traits.items())))
        fresh = Group(run.method, run.preset, setting_of(run), traits, label=run.label or "")
        groups.setdefault(key, fresh).runs.append(run)
    out = list(groups.values())
    for group in out:
        group.runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
    for setting in dict.fromkeys(g.setting for g in out):
        _name([g for g in out if g.setting == setting])
    order = list(dict.fromkeys(g.setting for g in out))
    return sorted(out, key=lambda g: order.index(g.setting))


def setting_of(run: Run) -> Setting:
    """The setting a run belongs to."""
    data = run.config.get("data")
    clients = data.get("clients") if isinstance(data, dict) else None
    return Setting(run.dataset, run.partition, run.network, clients)


def method_name(method: str) -> str:
    """How a reader writes the method; a user's own goes by the name of its class."""
    return METHOD_NAMES.get(method, method.rpartition(":")[2])


def _traits(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The config flattened to ``table.key``, without what does not make another experiment."""
    out: dict[str, str] = {}
    for key, value in config.items():
        if prefix + key in IGNORED:
            continue
        if isinstance(value, dict):
            out.update(_traits(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = str(value)
    return out


def _name(groups: list[Group]) -> None:
    """Give each group of one setting the shortest label that tells it apart."""
    for method in dict.fromkeys(g.method for g in groups):
        same = [g for g in groups if g.method == method]
        several = len({g.preset for g in same}) > 1
        # The plain configuration gets the solid line, whatever order the runs were given in.
        for place, group in enumerate(sorted(same, key=lambda g: g.preset is not None)):
            group.variant = place
            if group.label:  # that of a sweep's variant stands as it is
                continue
            group.label = method_name(method)
            if several and group.preset:
                group.label += f" {group.preset}"
    for label in dict.fromkeys(g.label for g in groups):
        twins = [g for g in groups if g.label == label]
        if len(twins) > 1:
            _tell_apart(twins)


def _tell_apart(twins: list[Group]) -> None:
    keys = list(dict.fromkeys(k for g in twins for k in g.traits))
    differing = [k for k in keys if len({g.traits.get(k) for g in twins}) > 1][:3]
    for group in twins:
        says = [f"{k.rsplit('.', 1)[-1]}={group.traits[k]}" for k in differing if k in group.traits]
        if says:
            group.label += f" ({', '.join(says)})"
    for label in {g.label for g in twins}:  # still alike: number them
        alike = [g for g in twins if g.label == label]
        if len(alike) > 1:
            for place, group in enumerate(alike, start=1):
                group.label += f" #{place}"
