"""The tables ``[[probe]]`` of an experiment file: which probe, under which label, when, and with which settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spikefed.errors import ConfigError
from spikefed.objects import check_keys, nearest
from spikefed.probes import Probe, ProbeHyperparameters, probe
from spikefed.probes.run import settings_of

LABEL = re.compile(r"[\w+-][\w.+-]*")
OWN = {
    "name": "a probe ('spikefed list probes'), or your own: module:ClassName",
    "label": "what tables call it and its file is named; default: the probe's name",
    "every": "measure after every so many rounds and after the last; 0: after the last only",
}
"""Keys of a table that are not the probe's own, with their meaning."""


@dataclass(frozen=True)
class ProbeTable:
    """One table, checked.

    Attributes:
        name: of the probe, as the file says it.
        label: no other table of the file has the same.
        every: rounds from one measurement to the next; 0: only after the last round.
        probe: the probe itself.
        hyper: its hyperparameters.
    """

    name: str
    label: str
    every: int
    probe: Probe
    hyper: ProbeHyperparameters

    def due(self, round: int) -> bool:
        """Whether it measures after this round, the last aside, after which everything does."""
        return bool(self.every) and round % self.every == 0

    def resolved(self) -> dict[str, Any]:
        """The table with every setting."""
        return {"name": self.name, "label": self.label, "every": self.every, **self.hyper.model_dump(mode="json")}


def probe_tables(tables: Any, place: Callable[[str], str]) -> list[ProbeTable]:
    """The tables, checked, in the order of the file.

    Args:
        tables: what stands under ``probe``.
        place: key to where it was written, for errors.

    Raises:
        ConfigError: one sentence that names the table, the key and what is allowed.
    """
    where = place("probe")
    if isinstance(tables, Mapping):
        raise ConfigError(f"'probe' in {where} is one table; write its heading with two brackets, as [[probe]]")
    if not isinstance(tables, Sequence) or not all(isinstance(table, Mapping) for table in tables):
        raise ConfigError(f"'probe' in {where} must be tables, each under a heading [[probe]], not {tables!r}")
    found = [_table(table, where) for table in tables]
    labels = [table.label for table in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"two tables [[probe]] in {where} are called '{twice}'; give each its own label")
    return found


def _table(table: Mapping[str, Any], where: str) -> ProbeTable:
    name = table.get("name")
    if not isinstance(name, str) or not name:
        known = [key for key in table if nearest(key, OWN) == "name"]
        told = f" (it has '{known[0]}')" if name is None and known else ""
        raise ConfigError(f'a table [[probe]] in {where} names no probe{told}; give name = "accuracy", for example')
    try:
        made = probe(name)
        own = {field.alias or key for key, field in made.hyperparameters.model_fields.items()}
        check_keys(table, own | OWN.keys(), where=f" of probe '{name}'")
        hyper = settings_of(made, {key: value for key, value in table.items() if key not in OWN})
    except ConfigError as error:
        raise ConfigError(f"[[probe]] in {where}: {error}") from error
    every = table.get("every", 0)
    if isinstance(every, bool) or not isinstance(every, int) or every < 0:
        raise ConfigError(
            f"'every' = {every!r} of probe '{name}' in {where} must be a whole number of rounds, 0 or more"
        )
    return ProbeTable(name, checked_label(table.get("label") or made.name), every, made, hyper)


def checked_label(label: Any) -> str:
    """The label, if a file can be called so.

    Raises:
        ConfigError: it cannot.
    """
    if not isinstance(label, str) or not LABEL.fullmatch(label):
        raise ConfigError(
            f"label {label!r} of a probe may hold letters, digits and the characters _ . + - only, no dot first"
        )
    return label
