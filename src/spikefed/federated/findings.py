"""What is not well in a round, in words, and how long it lasts; `spikefed.experiment` finds it.

A round's metrics hold its findings under ``health``: tables of ``kind``, ``what``, ``text`` and ``since``, the first
round of those without a gap that show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is not well.

    Attributes:
        kind: dead, saturated, silent, one-class, grown, no-images, claim or weight.
        what: the layer, class or client.
        text: a sentence, with what to try.
    """

    kind: str
    what: str
    text: str


def fresh(line: Mapping[str, Any]) -> list[str]:
    """The sentences of what a round is the first to show."""
    return [finding["text"] for finding in line.get("health", ()) if finding["since"] == line["round"]]


def lasting(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every finding of a run once, with the rounds that show it: ``kind``, ``what``, ``text``, ``rounds``."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        for finding in line.get("health") or ():
            entry = found.setdefault((finding["kind"], finding["what"]), {**finding, "rounds": []})
            entry["text"] = finding["text"]
            entry["rounds"].append(line["round"])
    return [{key: entry[key] for key in ("kind", "what", "text", "rounds")} for entry in found.values()]
