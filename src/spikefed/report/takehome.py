"""What clients take home: their own networks and their vote beside the server's, and beside clients that stay alone.

Runs measure it with ``run.take_home``. A federation is worth its traffic to a client if what the client then holds is
better than what it reaches alone; so the table, the cards and the first sentences say whether it is, seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from spikefed.federated.takehome import LEAST, MEAN, MOST, VOTE
from spikefed.report import columns
from spikefed.report.columns import Column
from spikefed.report.curves import Curve, interval, mean, spread
from spikefed.report.groups import Group
from spikefed.report.text import fixed, percent, plural

ALONE = "local"
SERVER = "server"
BEYOND = (
    "<p>“Beyond alone” is the difference in percent points to the clients that train alone, to their mean or, of the "
    "vote, to their vote; seed by seed, with the 95 % interval of its mean (Student’s t).</p>"
)


@dataclass(frozen=True)
class HomeRow:
    """One method after its last round.

    Attributes:
        group: its runs.
        values: accuracy in [0, 1] of each seed, under ``server`` and the keys of `federated.takehome`.
        beyond: the same keys, accuracy beyond that of the clients alone on the same seed: their mean, and of the vote
            their vote; empty without such runs.
    """

    group: Group
    values: dict[str, list[float]]
    beyond: dict[str, list[float]]


def alone_of(groups: Sequence[Group], group: Group) -> Group | None:
    """The clients alone that a group is held against: method ``local`` on the same network, for as many rounds."""
    rounds = {curve.rounds[-1] for curve in group.curves if curve.rounds}
    found = [
        g
        for g in groups
        if g.method == ALONE and g.network == group.network and {c.rounds[-1] for c in g.curves if c.rounds} == rounds
    ]
    return found[0] if found else None


def home_rows(groups: Sequence[Group]) -> list[HomeRow]:
    """A row for every group of one setting that measured it."""
    measured = [group for group in groups if any(_measured(curve) for curve in group.curves)]
    return [_row(group, None if group.method == ALONE else alone_of(groups, group)) for group in measured]


def home_table(setting: int, groups: Sequence[Group], css: Any) -> str:
    """The table of one setting; empty where no run measured it.

    Args:
        setting: its number on the page.
        css: gives a group's style class.
    """
    rows = home_rows(groups)
    if not rows:
        return ""
    heads = [
        Column("method", "Method", lambda row: row.group.label, "text", css=lambda row: css(row.group)),
        _share(SERVER, "Server", "the server’s network; the mean of the clients’ where there is none"),
        _share(MEAN, "Clients, mean", "each client’s own network after its step of the last round"),
        _share(LEAST, "Clients, least", "the worst client of each seed"),
        _share(MOST, "Clients, most", "the best client of each seed"),
        _share(VOTE, "Together", "the vote of all clients: the class with the highest mean output"),
    ]
    if any(row.beyond for row in rows):
        heads += [
            _beyond(SERVER, "Server beyond alone"),
            _beyond(MEAN, "Clients beyond alone"),
            _beyond(VOTE, "Together beyond alone together"),
        ]
    caption = "What clients take home: accuracy on the full test set after the last round"
    told = "".join(f"<li>{escape(sentence)}</li>" for sentence in verdicts(rows))
    explained = BEYOND if any(row.beyond for row in rows) else ""
    return (
        f"<h3>What clients take home</h3>{f'<ul>{told}</ul>' if told else ''}{explained}"
        f"{columns.html(f'home-{setting + 1}', caption, heads, rows)}"
    )


def verdicts(rows: Sequence[HomeRow]) -> list[str]:
    """Whether clients gain by federating: a sentence a method that was held against clients alone.

    None of a run that had all data in one hand: its one network is no client's.
    """
    return [verdict(row) for row in rows if row.beyond and not row.group.pooled]


def verdict(row: HomeRow) -> str:
    """``FSD+: clients take home 86.8 %, above the 85.7 % that they reach alone in 3 of 3 seeds (+1.1 ...)``."""
    gains = row.beyond[MEAN]
    above = sum(gain > 0 for gain in gains)
    seeds = len(gains)
    alone = percent(mean(row.values[MEAN]) - mean(gains))
    home = percent(mean(row.values[MEAN]))
    where = "above" if above == seeds else "not above" if not above else f"in {above} of {plural(seeds, 'seed')} above"
    counted = (
        f" in {'any of ' if not above else ''}{plural(seeds, 'seed')}" if above in (0, seeds) and seeds > 1 else ""
    )
    vote = row.beyond.get(VOTE)
    together = f", the vote of its clients {points(vote)} points from the vote of clients alone" if vote else ""
    return (
        f"{row.group.label}: clients take home {home}, {where} the {alone} that they reach alone{counted} "
        f"({points(gains)} points); its server stands {points(row.beyond[SERVER])} points from there{together}."
    )


def points(differences: Sequence[float]) -> str:
    """Mean difference in percent points, with its interval where there are several seeds."""
    ends = interval(differences)
    between = "" if ends is None else f" [{_signed(ends[0])} to {_signed(ends[1])}]"
    return f"{_signed(mean(differences))}{between}"


def _signed(share: float) -> str:
    size = fixed(abs(100 * share), 1)
    return f"{'−' if share < 0 and float(size) else '+'}{size}"


def _measured(curve: Curve) -> bool:
    return curve.last_home(MEAN) is not None


def _row(group: Group, alone: Group | None) -> HomeRow:
    values: dict[str, list[float]] = {key: [] for key in (SERVER, MEAN, LEAST, MOST, VOTE)}
    beyond: dict[str, list[float]] = {}
    floors = {run.seed: curve for run, curve in zip(alone.runs, alone.curves, strict=True)} if alone else {}
    for run, curve in zip(group.runs, group.curves, strict=True):
        if not _measured(curve):
            continue
        found = {key: curve.last if key == SERVER else curve.last_home(key) for key in values}
        for key, value in found.items():
            if value is None:
                continue
            values[key].append(value)
            floor = floors.get(run.seed)
            least = None if floor is None else floor.last_home(VOTE) if key == VOTE else floor.last
            if least is not None:
                beyond.setdefault(key, []).append(value - least)
    return HomeRow(group, values, beyond)


def _share(key: str, title: str, note: str) -> Column:
    def middle(row: HomeRow) -> float | None:
        return mean(row.values[key]) if row.values[key] else None

    return Column(key, title, middle, "share", note, spread=lambda row: spread(row.values[key]))


def _beyond(key: str, title: str) -> Column:
    of: Callable[[HomeRow], str | None] = lambda row: points(row.beyond[key]) if row.beyond.get(key) else None  # noqa: E731
    note = "percent points beyond the clients alone, paired by seed, 95 % interval"
    return Column(f"{key}_beyond", title, of, "text", note)
