"""What runs must have in common to be compared: the data, how they are dealt, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spikefed.report.runs import Run
from spikefed.report.text import percent

# Keys of the config's data table that leave the task alone: where files are, and how pixels enter the network, which
# is the network's affair as its coding is. Every other key, one of a later version too, is part of the task.
NO_TASK = {"dir", "pixels"}
# Those that the fields of `Setting` hold.
OWN_FIELD = {"dataset", "partition", "alpha", "clients"}


@dataclass(frozen=True)
class Setting:
    """What must be equal for two methods to be compared; the network need not be, labels name it where it differs.

    Attributes:
        partition: how data were dealt, with what governs it: ``"dirichlet-0.1"``.
        task: the other keys of the data table that change the data or what is measured, with their values as text.
    """

    dataset: str
    partition: str | None
    clients: int | None
    task: tuple[tuple[str, str], ...] = ()

    @property
    def head(self) -> tuple[str, ...]:
        """The parts of the title that every setting names, around the network."""
        parts = [self.dataset, self.partition, f"{self.clients} clients" if self.clients else None]
        return tuple(p for p in parts if p)


def setting_of(run: Run, config: Mapping[str, Any]) -> Setting:
    """The setting a run belongs to; ``config`` is its own, completed (`spikefed.report.defaults`)."""
    data = config.get("data")
    data = data if isinstance(data, Mapping) else {}
    task = {key: str(value) for key, value in data.items() if key not in NO_TASK | OWN_FIELD}
    if data.get("partition") != "shards":
        task.pop("shards_per_client", None)
    if data.get("public_dataset") == run.dataset:
        task["public_dataset"] = "None"  # the default under its name
    clients = data.get("clients")
    return Setting(
        run.dataset, run.partition, clients if isinstance(clients, int) else None, tuple(sorted(task.items()))
    )


def titles(networks: Mapping[Setting, Sequence[str]]) -> dict[Setting, str]:
    """A title for each setting: data, partition, networks, clients, and of the rest only what tells it from its like.

    Args:
        networks: the networks of each setting's runs.
    """
    out = {}
    for setting, found in networks.items():
        alike = [dict(other.task) for other in networks if other.head == setting.head]
        task = dict(setting.task)
        told = [key for key in task if len({other.get(key) for other in alike}) > 1]
        if task.get("evaluate_on") == "validation" and "evaluate_on" not in told:
            told.append("evaluate_on")  # such numbers are for tuning, and no result: said in any company
        parts = [*setting.head, *(_words(key, task[key]) for key in told)]
        if found:
            parts.insert(len(setting.head) - (setting.clients is not None), _several(found))
        out[setting] = " · ".join(parts)
    return out


def _several(networks: Sequence[str]) -> str:
    names = list(dict.fromkeys(networks))
    if len(names) == 2 and len({name.removesuffix(" (ANN)") for name in names}) == 1:
        return f"{min(names, key=len)} and its ANN"
    return " and ".join(names) if len(names) < 3 else f"{len(names)} networks"


_PHRASES = {
    "evaluate_on": "measured on {value} data",
    "validation": "{share} for validation",
    "resample": "time by {value}",
    "private_per_client": "{count} private a client",
    "public": "{count} public",
    "public_dataset": "public rows of {value}",
    "shards_per_client": "{count} shards a client",
    "test_limit": "{count} test images",
    "kind": "kind {value}",
    "channels": "channels {value}",
}
_FIXED = {
    ("private_per_client", "None"): "equal shares",
    ("public_dataset", "None"): "public rows of the same data set",
    ("test_limit", "None"): "all test images",
    ("kind", "None"): "kind told from shapes",
    ("channels", "None"): "channels told from shapes",
    ("validation_overlap", "True"): "validation items trained on",
    ("validation_overlap", "False"): "validation items kept apart",
    ("pooled", "True"): "all private data in one hand",
    ("pooled", "False"): "data at the clients",
}


def _words(key: str, value: str) -> str:
    """A key of the data table as a title has it."""
    if (key, value) in _FIXED:
        return _FIXED[key, value]
    count = f"{int(value):,}" if value.isdigit() else value
    return _PHRASES.get(key, f"{key}={{value}}").format(value=value, count=count, share=_share(value))


def _share(value: str) -> str:
    try:
        return percent(float(value), 0 if (100 * float(value)).is_integer() else 1)
    except ValueError:
        return value
