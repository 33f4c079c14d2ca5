"""Lines of ``metrics.jsonl`` in the shapes that tables and figures take for granted, whatever the file held."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def tidy(entry: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """The line of one round; a value of another shape than `SHAPES` says is left out, and named in ``problems``."""
    out = dict(entry)
    for key, (shape, what) in SHAPES.items():
        if entry.get(key) is None:
            continue
        out[key], whole = shape(entry[key])
        if not whole:
            problems.append(f"round {entry['round']} of metrics.jsonl: '{key}' is no {what}; it was left out")
    return out


def is_number(value: Any) -> bool:
    """Whether the value is a number that a float can hold (true, false, NaN and infinities are none)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1000
    return isinstance(value, float) and math.isfinite(value)


def number(value: Any) -> float | None:
    """The value as a finite float, or None: files may hold null, NaN, or text."""
    return float(value) if is_number(value) else None


def _clients(value: Any) -> tuple[Any, bool]:
    rows = value if isinstance(value, list) else []
    kept = [r for r in rows if isinstance(r, dict) and _whole(r.get("client"))]
    return kept, isinstance(value, list) and len(kept) == len(rows)


def _findings(value: Any) -> tuple[Any, bool]:
    """Findings with all that a reader is told of them."""
    rows = value if isinstance(value, list) else []
    keys = {"kind": str, "what": str, "text": str, "since": int}
    kept = [r for r in rows if isinstance(r, dict) and all(isinstance(r.get(k), kind) for k, kind in keys.items())]
    return kept, isinstance(value, list) and len(kept) == len(rows)


def _ids(value: Any) -> tuple[Any, bool]:
    kept = [v for v in value if _whole(v)] if isinstance(value, list) else []
    return kept, isinstance(value, list) and len(kept) == len(value)


def _rates(value: Any) -> tuple[Any, bool]:
    """Null stands for a number that was not finite: left out without a word."""
    told = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else {}
    kept = {k: v for k, v in told.items() if is_number(v)}
    return kept, isinstance(value, dict) and len(kept) == len(told)


def _matrix(value: Any) -> tuple[Any, bool]:
    """At least one row, all rows alike long, all finite numbers; an empty list stands for not measured."""
    if value == []:
        return None, True
    rows = value if isinstance(value, list) and all(isinstance(r, list) and r for r in value) else []
    whole = bool(rows) and all(len(r) == len(rows[0]) and all(map(is_number, r)) for r in rows)
    return (value if whole else None), whole


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


SHAPES: dict[str, tuple[Callable[[Any], tuple[Any, bool]], str]] = {
    "clients": (_clients, "list of tables with a client number"),
    "health": (_findings, "list of findings"),
    "dropped": (_clients, "list of tables with a client number"),
    "participants": (_ids, "list of client numbers"),
    "seconds": (_rates, "table of numbers"),
    "firing_rates": (_rates, "table of numbers"),
    "diagnostics": (_rates, "table of numbers"),
    "confusion": (_matrix, "matrix of numbers"),
    "class_spikes": (_matrix, "matrix of numbers"),
}
