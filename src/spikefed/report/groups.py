"""Put runs of one config and several seeds together, and name what tells the groups apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from spikefed.federated import METHODS
from spikefed.report import palette
from spikefed.report.curves import Band, Curve, band_of, curve_of, mean
from spikefed.report.defaults import complete
from spikefed.report.runs import Run
from spikefed.report.settings import Setting, setting_of

# Config keys that do not make another experiment: the seed, the name, the length, places, how the machine is used,
# what a server does about clients that fail. Those that may differ when a run is resumed.
IGNORED = {"seed", "name", "label", "rounds", "preset", "run", "deploy", "data.dir", "probe"}


@dataclass
class Group:
    """Runs that differ by their seed only.

    Attributes:
        traits: the completed config flattened to ``table.key``, without what does not make another experiment.
        label: what a reader calls it; no other group of its setting has the same.
        variant: its place among the groups of one method and setting, which picks dash and marker.
        colour: that of its method on a light and on a dark page; no other method on the page has it.
    """

    method: str
    preset: str | None
    setting: Setting
    traits: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    label: str = ""
    variant: int = 0
    colour: tuple[str, str] = palette.BLUE

    @property
    def title(self) -> str:
        """How a reader writes its method."""
        return method_name(self.runs[0])

    @property
    def symbol(self) -> str:
        return palette.symbol_of(self.method, self.variant)

    @cached_property
    def curves(self) -> list[Curve]:
        return [curve_of(run) for run in self.runs]

    @cached_property
    def band(self) -> Band:
        return band_of(self.curves)

    @property
    def seeds(self) -> list[int | None]:
        return [run.seed for run in self.runs]

    @property
    def pooled(self) -> bool:
        """Whether one network had all private data: a ceiling, no federation."""
        return self.method == "central" or str(self.traits.get("data.pooled")) == "True"

    @property
    def network(self) -> str | None:
        """The network's name, ``"vgg9 (ANN)"`` for an ordinary one; None when no file tells."""
        name = self.runs[0].network
        return f"{name} (ANN)" if name and self.traits.get("network.twin") == "ann" else name

    @property
    def networks(self) -> str | None:
        """The network as a reader is told of it: the server's and, where theirs are others, the clients'."""
        table = self.runs[0].config.get("network")
        told = table.get("clients") if isinstance(table, Mapping) else None
        others = [name for name in dict.fromkeys(told if isinstance(told, list) else []) if isinstance(name, str)]
        if not self.network or others in ([], [self.runs[0].network]):
            return self.network
        theirs = " and ".join(others) if len(others) < 3 else f"{len(others)} networks"
        return f"{self.network} for clients of {theirs}"

    @property
    def last(self) -> float | None:
        """Accuracy after the last round of each seed, mean over seeds; None without a round."""
        lasts = [c.last for c in self.curves if c.last is not None]
        return mean(lasts) if lasts else None

    @property
    def silent(self) -> bool:
        """Whether nothing is ever sent upstream: clients alone, or all data in one place."""
        totals = [c.total("upstream") for c in self.curves if c.rounds]
        return bool(totals) and not any(total is None or total > 0 for total in totals)


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups in order of setting, then first appearance; each has a label no other group of its setting has."""
    groups: dict[Any, Group] = {}
    for run, config in zip(runs, complete([run.config for run in runs]), strict=True):
        setting = setting_of(run, config)
        traits = _traits(config)
        key = (run.method, run.preset, run.label, setting, run.network, repr(sorted(traits.items())))
        fresh = Group(run.method, run.preset, setting, traits, label=run.label or "")
        groups.setdefault(key, fresh).runs.append(run)
    out = list(groups.values())
    colours = palette.colours_of(group.method for group in out)
    for group in out:
        group.colour = colours[group.method]
        group.runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
    for setting in dict.fromkeys(g.setting for g in out):
        _name([g for g in out if g.setting == setting])
    order = list(dict.fromkeys(g.setting for g in out))
    return sorted(out, key=lambda g: order.index(g.setting))


def talkers(groups: Sequence[Group]) -> list[Group]:
    """The groups that send something upstream; all, if none does."""
    return [g for g in groups if not g.silent] or list(groups)


def networks_of(groups: Sequence[Group]) -> dict[Setting, list[str]]:
    """The networks of each setting in order of appearance."""
    out: dict[Setting, list[str]] = {}
    for group in groups:
        found = out.setdefault(group.setting, [])
        if group.networks and group.networks not in found:
            found.append(group.networks)
    return out


def common_rounds(groups: Sequence[Group]) -> int | None:
    """Rounds that all runs have which have any, if some have more of them; None where all have equally many."""
    counts = {len(c.rounds) for g in groups for c in g.curves if c.rounds}
    return min(counts) if len(counts) > 1 else None


def method_name(run: Run) -> str:
    """How a reader writes the run's method; a user's own goes by its title, or else by the name of its class."""
    made = METHODS.get(run.method)
    if made is not None:
        return made.title or made.name
    return run.method_title or run.method.rpartition(":")[2]


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
    """Give each group of one setting the shortest label that tells it apart; one of several networks is named in it."""
    networks = {g.networks for g in groups}
    for method in dict.fromkeys(g.method for g in groups):
        same = [g for g in groups if g.method == method]
        several = len({g.preset for g in same}) > 1
        # The plain configuration gets the solid line, whatever order the runs were given in.
        for place, group in enumerate(sorted(same, key=lambda g: (g.preset is not None, bool(g.label)))):
            group.variant = place
            if group.label:  # that of a sweep's variant stands as it is
                continue
            group.label = group.title
            if several and group.preset:
                group.label += f" {group.preset}"
            if len(networks) > 1 and group.networks:
                group.label += f" on {group.networks}"
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
