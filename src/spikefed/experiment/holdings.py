"""Who holds what, before anything is trained: a picture of an experiment's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table

from spikefed.experiment.config import Experiment
from spikefed.experiment.dealing import deal

BARS = " ▁▂▃▄▅▆▇█"
SHOWN = 40
"""Parties and classes that a picture has room for."""


@dataclass(frozen=True)
class Holder:
    """One party's items.

    Attributes:
        name: public, test, or a client.
        train: items trained on.
        validation: items that measure a client while it trains.
        test: items of its own that measure it at the end.
        per_class: items of each class, validation and test included; None where labels are dropped.
    """

    name: str
    train: int
    validation: int
    test: int
    per_class: list[int] | None


@dataclass(frozen=True)
class Holdings:
    """All parties of an experiment.

    Attributes:
        holders: the public set, the clients in order, the test set.
        class_names: a text a class.
        notes: what was done to the data that its owner should know.
    """

    holders: list[Holder]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]

    def rows(self) -> dict[str, Any]:
        """For JSON."""
        return {"classes": self.class_names, "holders": [vars(h) for h in self.holders], "notes": self.notes}

    def table(self) -> Table:
        """Numbers, and a bar a class whose height is its share of the party's items."""
        classes = ", ".join(self.class_names[:12]) + (", ..." if len(self.class_names) > 12 else "")
        table = Table("who", "train", "validation", "own test", f"classes ({classes})", box=None, pad_edge=False)
        for holder in self.holders[:SHOWN]:
            numbers = [f"{n:,}" if n else "" for n in (holder.train, holder.validation, holder.test)]
            table.add_row(
                holder.name, *numbers, "labels dropped" if holder.per_class is None else bars(holder.per_class)
            )
        if len(self.holders) > SHOWN:
            table.add_row(f"and {len(self.holders) - SHOWN:,} more", "", "", "", "")
        return table


def bars(counts: list[int]) -> str:
    """One character a class, the largest full; a dot where the party has none."""
    top = max(counts) or 1
    shown = counts[:SHOWN]
    return "".join("·" if not c else BARS[max(1, round(8 * c / top))] for c in shown) + ("…" if shown != counts else "")


def holdings(config: Experiment, dataset: Any = None) -> Holdings:
    """The parties of an experiment, dealt out as a run would.

    Raises:
        ConfigError: settings that do not fit.
        DataError: data missing, damaged or too small.
    """
    train, test, split = deal(config, dataset)

    def counted(index: torch.Tensor) -> list[int]:
        return train.labels[index].bincount(minlength=train.classes).tolist()

    found = [Holder("public", len(split.public_indices), 0, 0, None)]
    for number, client in enumerate(split.clients):
        every = torch.cat([client.train, client.validation, client.test]).unique()
        name = f"client {number}" + (f" ({split.names[number]})" if split.names else "")
        found.append(Holder(name, len(client.train), len(client.validation), len(client.test), counted(every)))
    found.append(Holder("test", len(test), 0, 0, test.labels.bincount(minlength=test.classes).tolist()))
    return Holdings(found, train.names, train.notes)
