"""The file of a probe, ``RUN/probes/LABEL.json``: what was asked, what the columns mean, one measurement a round.

The file says all that a reader needs, so a report shows a probe of a user's own without the module that it lives in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikefed.errors import CheckpointError, ConfigError
from spikefed.files import write_atomic
from spikefed.probes.run import Measurement
from spikefed.version import __version__

FORMAT = 1
SHARED = ("probe", "version", "hyper")
"""What all measurements of one file have in common."""
OWN = ("round", "seed", "weights_sha256", "images", "seconds", "headline", "records")
"""What each measurement of a file says of itself."""


def path_of(folder: Path, label: str) -> Path:
    """The file of the probe that goes by this label."""
    return folder / f"{label}.json"


def partial_path(folder: Path, label: str) -> Path:
    """Where a probe of this label leaves what it has done so far."""
    return folder / f".{label}.partial"


def check_same(folder: Path, label: str, probe: str, version: int, hyper: Mapping[str, Any]) -> None:
    """Refuse a label under which another probe, or the same with other settings, has measured.

    Args:
        folder: of the run or the model file.
        label: under which the result is kept.
        probe: name of the probe.
        version: of its measure.
        hyper: its settings.

    Raises:
        ConfigError: the text names the first setting that differs.
        CheckpointError: the file is there and cannot be read.
    """
    path = path_of(folder, label)
    if not path.is_file():
        return
    there = read(path)
    advice = "keep both by giving this one a label, or delete the file"
    if there["probe"] != probe:
        raise ConfigError(f"{path} was measured by probe '{there['probe']}', not '{probe}'; {advice}")
    before = there["hyper"]
    differing = [key for key in sorted({*before, *hyper}) if before.get(key) != hyper.get(key)]
    if differing:
        key = differing[0]
        raise ConfigError(
            f"{path} was measured with {key} = {before.get(key)!r}, and now {key} is {hyper.get(key)!r}; {advice}"
        )
    if there["version"] != version:
        raise ConfigError(
            f"{path} was measured by version {there['version']} of the probe, this is {version}; {advice}"
        )


def add(folder: Path, label: str, found: Measurement) -> Path:
    """Write a measurement into the label's file, beside those of other rounds; one of the same round is replaced.

    Raises:
        ConfigError, CheckpointError: as `check_same`.
    """
    check_same(folder, label, found.probe, found.version, found.hyper)
    path = path_of(folder, label)
    kept = read(path)["measurements"] if path.is_file() else []
    mine = {key: getattr(found, key) for key in OWN}
    mine["seconds"] = round(found.seconds, 3)
    measurements = [*(m for m in kept if m["round"] != found.round), mine]
    tree = {
        "format": FORMAT,
        "spikefed": __version__,
        "label": label,
        "title": found.title,
        **{key: getattr(found, key) for key in SHARED},
        "quantities": [quantity.told() for quantity in found.quantities],
        **({"curves": [curve.told() for curve in found.curves]} if found.curves else {}),
        "measurements": sorted(measurements, key=lambda m: m["round"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(tree, indent=1))
    return path


def read(path: Path) -> dict[str, Any]:
    """A probe's file.

    Raises:
        CheckpointError: it cannot be read, or is of a later format.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it and run the probe again") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("measurements"), list):
        raise CheckpointError(f"{path} is no file of a probe; delete it and run the probe again")
    if tree.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {tree.get('format')}, this spikefed reads {FORMAT}; read it with the spikefed that "
            "wrote it, or delete it and run the probe again"
        )
    return tree


def forget_after(folder: Path, round: int) -> None:
    """Drop measurements of rounds after this one, which a run that goes on from here will reach again."""
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            tree = read(path)
        except CheckpointError:
            continue
        kept = [m for m in tree["measurements"] if m["round"] <= round]
        if not kept:
            path.unlink()
        elif len(kept) < len(tree["measurements"]):
            write_atomic(path, json.dumps(tree | {"measurements": kept}, indent=1))


def measured(folder: Path, label: str, round: int) -> bool:
    """Whether the label's file holds a measurement of this round."""
    path = path_of(folder, label)
    try:
        return path.is_file() and any(m["round"] == round for m in read(path)["measurements"])
    except CheckpointError:
        return False
