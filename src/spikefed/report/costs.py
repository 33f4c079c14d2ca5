"""What accuracy costs a device beside bytes: energy of a client, seconds of computing, seconds on a slow link.

=========  ==========================================================================================================
cost       of a round
=========  ==========================================================================================================
energy     one client, mean over all: arithmetic of its training (``client_round`` in ``energy.json``) times the share
           of clients that were asked, and its bytes where a price of the radio is given
seconds    computing: what one client took on the machine of the run, clients being devices of their own that work at
           the same time, times ``slowdown``; and the server's part
link       its bytes of the round at the link's rates, and the seconds above
=========  ==========================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from spikefed.errors import ReportError
from spikefed.report.curves import Curve, mean
from spikefed.report.groups import Group
from spikefed.report.links import LINKS, Link, read_link
from spikefed.report.runs import Run, number

COSTS = {"energy": "Energy of a client", "seconds": "Computing time"}
"""What a curve can be drawn over beside rounds and bytes."""
OVER = {"energy": "training of one client, from round 1 on", "seconds": "one client and the server, from round 1 on"}


@dataclass(frozen=True)
class Terms:
    """What a report is told about devices.

    Attributes:
        links: between client and server.
        slowdown: how many times slower a device computes than the machine of the run; above 0.
        radio_nj_per_byte: energy of sending or receiving one byte; None leaves the radio out.
    """

    links: tuple[Link, ...] = LINKS
    slowdown: float = 1.0
    radio_nj_per_byte: float | None = None


TERMS = Terms()


def terms_of(links: Sequence[str] = (), slowdown: float = 1.0, radio_nj_per_byte: float | None = None) -> Terms:
    """Terms from what a reader types.

    Args:
        links: as `links.FORM` spells them; the ones that a report knows by itself where there are none.
        slowdown: of a device.
        radio_nj_per_byte: of the radio.

    Raises:
        ReportError: a link that cannot be read or is named twice, a slowdown or a price that is no number above 0.
    """
    read = tuple(read_link(text) for text in links)
    names = [link.name for link in read]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ReportError(f"two links are named '{twice}'; give each a name of its own")
    if not (math.isfinite(slowdown) and slowdown > 0):
        raise ReportError(f"slowdown {slowdown:g} is no factor above 0; give 20 for a device twenty times slower")
    if radio_nj_per_byte is not None and not (math.isfinite(radio_nj_per_byte) and radio_nj_per_byte >= 0):
        raise ReportError(f"radio_nj_per_byte {radio_nj_per_byte:g} is no energy; give nanojoules a byte, 0 or more")
    return Terms(read or LINKS, slowdown, radio_nj_per_byte)


def cost_title(cost: str, terms: Terms = TERMS) -> str:
    """What an axis of this cost says."""
    more = ", with its radio" if cost == "energy" and terms.radio_nj_per_byte is not None else ""
    return f"{COSTS[cost]}: {OVER[cost]}{more}"


def totals_of(run: Run, curve: Curve, cost: str, terms: Terms = TERMS) -> list[float] | None:
    """Picojoules or seconds from round 1 on, one entry a round of the run; None where its files do not tell.

    Args:
        run: the run.
        curve: its curve.
        cost: a key of `COSTS`.
        terms: of the devices.
    """
    carried = carried_by(run, curve)
    if cost == "energy":
        each = [_energy(run, entry, bytes_, terms) for entry, bytes_ in zip(run.rounds, carried, strict=True)]
    else:
        each = [_seconds(run, entry, terms) for entry in run.rounds]
    known = [value for value in each if value is not None]
    return list(accumulate(known)) if known and len(known) == len(each) else None


def band_costs(group: Group, cost: str, terms: Terms = TERMS) -> list[float] | None:
    """Mean over the seeds at the rounds of the group's band; None where a seed does not tell."""
    rows = []
    for run, curve in zip(group.runs, group.curves, strict=True):
        if not curve.rounds:
            continue
        totals = totals_of(run, curve, cost, terms)
        if totals is None:
            return None
        rows.append([totals[curve.rounds.index(round)] for round in group.band.rounds])
    return [mean(column) for column in zip(*rows, strict=True)] if rows else None


def seconds_to(run: Run, curve: Curve, target: float, link: Link | None, terms: Terms = TERMS) -> float | None:
    """Seconds until the run first reaches a target; None where it does not, or its bytes are unknown.

    Args:
        run: the run.
        curve: its curve.
        target: accuracy in (0, 1].
        link: None for computing alone. A run whose files tell no seconds is timed by its bytes alone.
        terms: of the devices.
    """
    at = curve.first_at(target)
    computing = totals_of(run, curve, "seconds", terms)
    if at is None or (link is None and computing is None):
        return None
    spent = computing[at] if computing else 0.0
    if link is None:
        return spent
    carried = carried_by(run, curve)[: at + 1]
    known = [bytes_ for bytes_ in carried if bytes_ is not None]
    return spent + sum(link.seconds(*bytes_) for bytes_ in known) if len(known) == len(carried) else None


def carried_by(run: Run, curve: Curve) -> list[tuple[float, float] | None]:
    """Bytes up and down of one client that was asked, one entry a round; None where the files do not tell."""
    up, down = (curve.per_round(way) or [None] * len(run.rounds) for way in ("upstream", "downstream"))
    out: list[tuple[float, float] | None] = []
    for entry, sent, got in zip(run.rounds, up, down, strict=True):
        asked = _asked(run, entry)
        out.append(None if not asked or sent is None or got is None else (sent / asked, got / asked))
    return out


def _energy(run: Run, entry: dict[str, Any], carried: tuple[float, float] | None, terms: Terms) -> float | None:
    told = (run.energy or {}).get("client_round")
    training = number(told.get("training_pj")) if isinstance(told, dict) else None
    asked = _asked(run, entry)
    everybody = _clients(run)
    if not asked or not everybody:
        return None
    share = min(asked / everybody, 1.0)
    said = entry.get("diagnostics")
    spent = number(said.get("train_joules")) if isinstance(said, dict) else None
    if spent is not None:  # the round's own figure, of all who took part, where networks shrink as they train
        training = 1e12 * spent / asked
    if training is None:
        return None
    if terms.radio_nj_per_byte is None:
        return training * share
    return None if carried is None else share * (training + 1e3 * terms.radio_nj_per_byte * sum(carried))


def _seconds(run: Run, entry: dict[str, Any], terms: Terms) -> float | None:
    told = entry.get("seconds")
    asked = _asked(run, entry)
    if not isinstance(told, dict) or not asked:
        return None
    clients = number(told.get("clients"))
    server = number(told.get("server"))
    return None if clients is None or server is None else terms.slowdown * clients / asked + server


def _asked(run: Run, entry: dict[str, Any]) -> int | None:
    told = entry.get("participants")
    return len(told) if isinstance(told, list) and told else _clients(run)


def _clients(run: Run) -> int | None:
    data: Any = run.config.get("data")
    told = number(data.get("clients")) if isinstance(data, dict) else None
    return 1 if isinstance(data, dict) and data.get("pooled") is True else int(told) if told else None
