"""What the probes of a run left, as far as their files can be read; an older run's ``energy.json`` counts as one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikefed.errors import CheckpointError
from spikefed.probes import PROBES, files
from spikefed.probes.energy import records_of

OLD = "energy.json"


def read_probes(folder: Path, energy: Mapping[str, Any] | None, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Files of the folder's probes by label (`spikefed.probes.files`); each has at least one measurement.

    Args:
        folder: the run folder.
        energy: what its ``energy.json`` holds: the probe ``energy``, where no newer file of that label is.
        problems: gets a sentence for each file that cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "probes").glob("*.json")):
        try:
            tree = files.read(path)
        except CheckpointError:
            tree = {}
        if _whole(tree):
            found[path.stem] = tree
        else:
            problems.append(f"probes/{path.name} cannot be read and was left out")
    if energy is not None and "energy" not in found and (old := _old(energy)) is not None:
        found["energy"] = old
    return dict(sorted(found.items()))


def frame_rows(tree: Mapping[str, Any], part: str | None) -> list[dict[str, Any]]:
    """Records with the round that they are of, those of one part if it is named."""
    rows = [{"round": m["round"], **record} for m in tree["measurements"] for record in m["records"]]
    return [row for row in rows if part is None or row.get("part") == part]


def headlines(folder: Path) -> dict[str, dict[str, Any]]:
    """The numbers for the table of a sweep by label: those of each probe's last measurement in a run folder."""
    return {label: tree["measurements"][-1]["headline"] for label, tree in read_probes(folder, None, []).items()}


def _whole(tree: Mapping[str, Any]) -> bool:
    measurements = tree.get("measurements")
    told = tree.get("quantities")
    if not isinstance(measurements, list) or not measurements or not isinstance(told, list):
        return False
    curves = tree.get("curves", [])
    return (
        isinstance(tree.get("hyper"), dict)
        and isinstance(curves, list)
        and all(isinstance(c, dict) and isinstance(c.get("x"), str) and isinstance(c.get("y"), str) for c in curves)
        and all(isinstance(q, dict) and isinstance(q.get("key"), str) and isinstance(q.get("title"), str) for q in told)
        and all(_measured(measurement) for measurement in measurements)
    )


def _measured(measurement: Any) -> bool:
    if not isinstance(measurement, dict) or not isinstance(measurement.get("headline"), dict):
        return False
    records = measurement.get("records")
    rows = isinstance(records, list) and all(isinstance(record, dict) for record in records)
    return rows and isinstance(measurement.get("round"), int) and isinstance(measurement.get("images"), int)


def _old(energy: Mapping[str, Any]) -> dict[str, Any] | None:
    """The file that the probe would have left, from what a run wrote before there were probes."""
    made = PROBES["energy"]
    try:
        records = records_of(energy)
        images = int(energy["totals"]["images"])
    except (KeyError, TypeError, ValueError):
        return None
    headline = made().headline(records)
    measurement = {"round": 0, "images": images, "headline": headline, "records": records}
    return {
        "probe": made.name,
        "label": made.name,
        "title": made.title,
        "version": made.version,
        "hyper": {},
        "quantities": [q.told() for q in made.quantities],
        "measurements": [measurement],
        "file": OLD,
    }
