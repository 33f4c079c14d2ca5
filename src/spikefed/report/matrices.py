"""The accuracy matrices that a run of stages has in its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikefed.report.tidy import number

WAYS = ("known", "unknown")
"""Keys of the matrices: tested with the task known, and unknown."""


def matrices_of(result: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a result says under each of `WAYS`; without stages, and of what is damaged, nothing."""
    found = (result or {}).get("stages")
    if not isinstance(found, dict):
        return {}
    return {way: tree for way, tree in found.items() if way in WAYS and _whole(tree)}


def stage_rows(result: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A row for every stage and task: accuracy with the task known and unknown, None where not measured."""
    matrices = {way: tree["matrix"] for way, tree in matrices_of(result).items()}
    first = next(iter(matrices.values()), [])
    return [
        {"stage": s, "task": t, **{way: matrices[way][s][t] if way in matrices else None for way in WAYS}}
        for s in range(len(first))
        for t in range(len(first[0]))
    ]


def _whole(tree: Any) -> bool:
    """Whether it holds a matrix of accuracies, all rows alike long."""
    rows = tree.get("matrix") if isinstance(tree, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        return False
    cells = [number(value) for row in rows for value in row]
    return len({len(row) for row in rows}) == 1 and all(c is not None and 0 <= c <= 1 for c in cells)
