"""The report's part on probes, and a probe's table for the terminal, both from the file that the probe left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spikefed.report.columns import Column, lines

PART = "part"
"""Key of records that come in several tables: rows of one part stand together."""


def probe_text(tree: Mapping[str, Any]) -> str:
    """The latest measurement of a probe's file, a table a part, for the terminal."""
    latest = tree["measurements"][-1]
    told = settings_text(tree)
    out = [f"{tree['title']} of round {latest['round']}, {latest['images']} images" + (f" ({told})" if told else "")]
    for part, rows in parts_of(latest["records"]).items():
        out += ["", part] if part else [""]
        out += lines(columns_of(tree, rows), rows)
    return "\n".join(out)


def settings_text(tree: Mapping[str, Any]) -> str:
    """The settings that a probe measured with, without those that were left open."""
    return ", ".join(f"{key} = {_plain(value)}" for key, value in tree["hyper"].items() if value not in (None, [], {}))


def _plain(value: Any) -> str:
    """A setting without a language's brackets and quotes: a list's entries with blanks between."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(_plain(item) for item in value)
    if isinstance(value, float) and value == int(value):
        return f"{value:.0f}"
    return str(value)


def parts_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Records by what they say under `PART`, in order of appearance."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(str(record.get(PART) or ""), []).append(record)
    return found


def columns_of(tree: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """A column for each key that a row has, those that the probe told of first and in its order."""
    told = [str(q["key"]) for q in tree["quantities"]]
    there = list(dict.fromkeys(key for row in rows for key in row if key != PART))
    keys = [key for key in told if key in there] + [key for key in there if key not in told]
    return [column_of(tree, key, rows) for key in keys]


def column_of(tree: Mapping[str, Any], key: str, rows: Sequence[Mapping[str, Any]]) -> Column:
    """The column of one key, as the probe told of it, else as its values in ``rows`` suggest."""
    told = next((q for q in tree["quantities"] if q["key"] == key), None)

    def value(row: Mapping[str, Any]) -> Any:
        return row.get(key)

    if told is not None:
        return Column(key, str(told["title"]), value, str(told.get("unit", "number")), str(told.get("note", "")))
    text = any(isinstance(row.get(key), str) for row in rows)
    return Column(key, key.replace("_", " "), value, "text" if text else "number")
