"""A run's closing summary (``result.json``) held against its other files, so that a damaged one is not believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spikefed.federated.takehome import KEYS
from spikefed.report.tidy import number

TOTALS = ("upstream_bytes", "downstream_bytes", "paper_upstream_bytes", "text_upstream_bytes")


def curve_rounds(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rounds of the summary's curve with the keys of ``metrics.jsonl``: accuracy and cumulative bytes, no more."""
    curve = result.get("curve")
    return [
        {
            "round": p["round"],
            "server_accuracy": p.get("accuracy"),
            **{key: p[key] for key in KEYS if key in p},
            **{f"{k}_total": p.get(k) for k in TOTALS},
        }
        for p in (curve if isinstance(curve, list) else [])
        if isinstance(p, dict) and isinstance(p.get("round"), int) and not isinstance(p["round"], bool)
    ]


def fill_rounds(rounds: dict[int, dict[str, Any]], result: Mapping[str, Any], problems: list[str]) -> None:
    """Add to ``rounds`` those that only the summary has, and name them; name totals on which the two do not agree.

    A run that was taken up again has more rounds than the summary of its first end: no fault.
    """
    told = {entry["round"]: entry for entry in curve_rounds(result)}
    lost = sorted(told.keys() - rounds.keys())
    for key in TOTALS:
        both = [n for n in told if n in rounds and _differ(rounds[n].get(f"{key}_total"), told[n][f"{key}_total"])]
        if both:
            problems.append(
                f"metrics.jsonl and result.json disagree on {key} up to round {both[0]}: "
                f"{_bytes(rounds[both[0]][f'{key}_total'])} and {_bytes(told[both[0]][f'{key}_total'])}"
            )
    if lost:
        rounds.update({n: told[n] for n in lost})
        problems.append(
            f"metrics.jsonl lacks {_listed(lost)} of {len(told)}; accuracy and bytes there are those of result.json, "
            "all else is missing"
        )
    last = number(result.get("rounds"))
    if last is not None and last > max(rounds, default=0):
        problems.append(f"the run finished {last:g} rounds by its result.json, and only {len(rounds)} can be read")


def ledger_faults(ledger: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> list[str]:
    """A sentence for each direction in which the messages do not add up to the summary's bytes."""
    last = number(result.get("rounds"))
    # What a run sent that was taken up again is not in the summary of its first end.
    counted = [m for m in ledger if last is None or (number(m.get("round")) or 0.0) <= last]
    faults = []
    for direction, key in (("up", "upstream_bytes"), ("down", "downstream_bytes")):
        curve = [entry[f"{key}_total"] for entry in curve_rounds(result)]
        told = number(result.get(key, curve[-1] if curve else None))
        found = sum(number(m.get("encoded_bytes")) or 0.0 for m in counted if m.get("direction") == direction)
        if told is not None and found != told:
            faults.append(
                f"ledger.jsonl adds up to {_bytes(found)} {direction}stream where result.json says {_bytes(told)}; "
                "bytes by codec are those of the ledger"
            )
    return faults


def _differ(one: Any, other: Any) -> bool:
    """Whether both are numbers, and not the same."""
    return number(one) is not None and number(other) is not None and one != other


def _bytes(count: float) -> str:
    """To the byte: the difference may be a small one."""
    return f"{count:,.0f} B"


def _listed(rounds: Sequence[int]) -> str:
    if len(rounds) == 1:
        return f"round {rounds[0]}"
    if rounds[-1] - rounds[0] == len(rounds) - 1:
        return f"rounds {rounds[0]} to {rounds[-1]}"
    more = f" and {len(rounds) - 5} more" if len(rounds) > 5 else ""
    return f"rounds {', '.join(map(str, rounds[:5]))}{more}"
