"""Client by client: what each one's own network reaches, on the test set and on the client's own data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spikefed.experiment import RunFolder
from spikefed.report import columns
from spikefed.report.columns import Column
from spikefed.report.groups import Group
from spikefed.report.runs import Run
from spikefed.report.tidy import number

MOST = 400
"""Rows of the table: a page is no data base."""


@dataclass(frozen=True)
class ClientRow:
    """One client of one run.

    Attributes:
        group: the run's.
        run: which run.
        client: its number.
        told: what the run says of it: ``round`` and ``test_accuracy`` of its last step, ``accuracy``, ``own_accuracy``
            and ``name`` of `experiment.people`; what was not measured is absent.
        kept: its network lies in the run folder.
    """

    group: Group
    run: Run
    client: int
    told: dict[str, Any]
    kept: bool

    def share(self, key: str) -> float | None:
        """An accuracy in [0, 1], where it was measured."""
        return number(self.told.get(key))


def client_rows(groups: Sequence[Group]) -> list[ClientRow]:
    """A row a client of every run that measured its clients' own networks, or kept them."""
    return [row for group in groups for run in group.runs for row in _rows(group, run)]


def clients_table(setting: int, groups: Sequence[Group], css: Any) -> str:
    """The table of one setting, folded away; empty where no run has anything to say.

    Args:
        setting: its number on the page.
        css: gives a group's style class.
    """
    rows = client_rows(groups)
    if not rows:
        return ""
    heads = [
        Column("method", "Method", lambda row: row.group.label, "text", css=lambda row: css(row.group)),
        Column("seed", "Seed", lambda row: row.run.seed),
        Column("client", "Client", lambda row: row.client),
        Column("name", "Name", lambda row: row.told.get("name"), "text"),
        Column("round", "Last round", lambda row: row.told.get("round"), note="in which its step was measured"),
        _share("test_accuracy", "Own network, test set", "the client’s own network on the run’s whole test set"),
        _share("own_accuracy", "Own network, own data", "the client’s own network on its own test data"),
        _share("accuracy", "Run’s network, own data", "the network that the run reports, on the client’s test data"),
        Column("kept", "Kept", lambda row: row.kept, "text", "in the run folder, for load_model(run, client=...)"),
    ]
    heads = [head for head in heads if any(_said(head.value(row)) for row in rows)]
    cut = f" (the first {MOST} of {len(rows):,} rows)" if len(rows) > MOST else ""
    body = columns.html(f"clients-{setting + 1}", f"Accuracy client by client{cut}", heads, rows[:MOST])
    return f'<details class="fold"><summary>Client by client</summary>{body}</details>'


def _said(value: Any) -> bool:
    return value is not None and value is not False


def _rows(group: Group, run: Run) -> list[ClientRow]:
    told: dict[int, dict[str, Any]] = {}
    for entry in run.rounds:
        for client in entry.get("clients") or ():
            if number(client.get("test_accuracy")) is not None:
                told[client["client"]] = {"round": entry["round"], "test_accuracy": client["test_accuracy"]}
    people = (run.result or {}).get("people")
    for person in people if isinstance(people, list) else ():
        if isinstance(person, dict) and isinstance(person.get("client"), int):
            known = {key: person[key] for key in ("name", "accuracy", "own_accuracy") if person.get(key) is not None}
            told.setdefault(person["client"], {}).update(known)
    kept = RunFolder(run.folder).personal_models() if run.folder.is_dir() else {}
    return [ClientRow(group, run, c, told.get(c, {}), c in kept) for c in sorted({*told, *kept})]


def _share(key: str, title: str, note: str) -> Column:
    return Column(key, title, lambda row: row.share(key), "share", note)
