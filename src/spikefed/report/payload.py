"""The numbers behind the figures, as one compact JSON value for the page's script."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikefed.report import palette
from spikefed.report.costs import COSTS, TERMS, Terms, band_costs, cost_title
from spikefed.report.curves import MEASURES, Curve
from spikefed.report.energy import energy_layers
from spikefed.report.groups import Group, networks_of
from spikefed.report.points import ReaderPoint
from spikefed.report.runs import Run, number
from spikefed.report.settings import titles
from spikefed.report.targets import TargetRow, seeds_of
from spikefed.report.text import bytes_text

CLIENT_CELLS = 40_000  # at most so many (client, round) cells a report; beyond, rounds are thinned
CONFUSION_CELLS = 120_000  # at most so many confusion cells a report; beyond, one seed a group keeps its matrix
RASTER_ROWS = 24  # samples of a recorded spike stream that are shown


def payload(
    groups: Sequence[Group], rows: Sequence[TargetRow], points: Sequence[ReaderPoint] = (), terms: Terms = TERMS
) -> dict[str, Any]:
    """Everything the script draws: settings, groups with bands, runs with details, target rows, the reader's points.

    Args:
        groups: of all settings.
        rows: target by target.
        points: the reader's own numbers.
        terms: of the devices.
    """
    named = titles(networks_of(groups))
    settings = list(named)
    runs = [(g, run, curve) for g in groups for run, curve in zip(g.runs, g.curves, strict=True)]
    cells = sum(len(r.rounds) * len(_client_ids(r)) for _, r, _ in runs)
    stride = max(1, math.ceil(cells / CLIENT_CELLS))
    firsts = {id(g.runs[0]) for g in groups}
    matrices = sum(len(m) ** 2 for _, r, _ in runs if (m := _last(r, "confusion")) is not None)
    all_matrices = matrices <= CONFUSION_CELLS
    return {
        "measures": {key: label for key, (_, label) in MEASURES.items()},
        "costs": {cost: cost_title(cost, terms) for cost in COSTS},
        "settings": [{"label": label, "dataset": s.dataset} for s, label in named.items()],
        "groups": [_group(g, settings, terms) for g in groups],
        "runs": [
            _run(run, curve, groups.index(g), stride, all_matrices or id(run) in firsts) for g, run, curve in runs
        ],
        "targets": [
            {
                "group": groups.index(r.group),
                "target": r.target,
                "reached": r.reached,
                "seeds": r.seeds,
                "best": r.best,
                "bytes": r.bytes,
                "text": {measure: bytes_text(size) for measure, size in r.bytes.items()},  # as the table has them
                "rounds": r.rounds,
                "ends": {measure: ends(r, measure) for measure in MEASURES},
            }
            for r in rows
        ],
        "points": [{"label": p.label, "accuracy": p.accuracy, "places": dict(p.places)} for p in points],
    }


def ends(row: TargetRow, measure: str) -> list[float] | None:
    """Least and most bytes of the seeds that reached a target and sent any; None without one."""
    sizes = seeds_of(row, measure)
    return [min(sizes), max(sizes)] if sizes else None


def to_json(value: Any) -> str:
    """Compact JSON that may stand inside a script element: no NaN, no ``<``."""
    return json.dumps(_clean(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _group(group: Group, settings: list[Any], terms: Terms) -> dict[str, Any]:
    band = group.band
    return {
        "label": group.label,
        "method": group.method,
        "setting": settings.index(group.setting),
        "colour": list(group.colour),
        "dash": palette.dash_of(group.method, group.variant),
        "symbol": group.symbol,
        "seeds": sum(bool(curve.rounds) for curve in group.curves),
        "rounds": band.rounds,
        "mean": band.mean,
        "low": band.low,
        "high": band.high,
        "totals": band.totals,
        "home": band.home,
        "costs": {cost: band_costs(group, cost, terms) for cost in COSTS},
    }


def _run(run: Run, curve: Curve, group: int, stride: int, with_confusion: bool) -> dict[str, Any]:
    return {
        "name": run.name,
        "seed": run.seed,
        "group": group,
        "finished": run.finished,
        "rounds": curve.rounds,
        "acc": curve.accuracy,
        "totals": curve.totals,
        "clients": _clients(run, stride),
        "dropped": _dropped(run),
        "unmerged": [e["round"] for e in run.rounds if e.get("merged") is False and not e.get("diverged")],
        "diverged": [e["round"] for e in run.rounds if e.get("diverged")],
        "firing": _last(run, "firing_rates"),
        "firingRounds": _firing_rounds(run),
        "classSpikes": _last(run, "class_spikes"),
        "confusion": _last(run, "confusion") if with_confusion else None,
        "classNames": run.class_names,
        "seconds": _seconds(run),
        "energy": energy_layers(run),
        "raster": _raster(run.folder),
    }


def _client_ids(run: Run) -> list[int]:
    return sorted({c["client"] for e in run.rounds for c in e.get("clients") or [] if isinstance(c.get("client"), int)})


def _clients(run: Run, stride: int) -> dict[str, Any] | None:
    ids = _client_ids(run)
    if not ids:
        return None
    kept = [e for place, e in enumerate(run.rounds) if place % stride == 0 or place == len(run.rounds) - 1]
    tables = [{c.get("client"): c for c in e.get("clients") or []} for e in kept]
    pick = {
        key: [[number(t.get(i, {}).get(source)) for t in tables] for i in ids]
        for key, source in (("acc", "accuracy"), ("weight", "weight"))
    }
    last = [next((t[i] for t in reversed(tables) if i in t), {}) for i in ids]
    fields = ("train_loss", "distil_loss", "firing_rate")
    joined = [sum(i in (e.get("participants") or []) for e in run.rounds) for i in ids]
    lost = [sum(d.get("client") == i for e in run.rounds for d in e.get("dropped") or []) for i in ids]
    return {
        "ids": ids,
        "lost": lost,
        "rounds": [e["round"] for e in kept],
        **pick,
        "last": [{k: number(entry.get(k)) for k in fields} for entry in last],
        "joined": joined,
    }


def _dropped(run: Run) -> list[list[Any]]:
    return [
        [e["round"], d.get("client"), str(d.get("reason", "no reason given"))]
        for e in run.rounds
        for d in e.get("dropped") or []
        if isinstance(d, dict)
    ]


def _last(run: Run, key: str) -> Any:
    return next((e[key] for e in reversed(run.rounds) if e.get(key)), None)


def _firing_rounds(run: Run) -> dict[str, Any] | None:
    """Firing rate of every layer round by round, at most 60 rounds."""
    entries = [e for e in run.rounds if isinstance(e.get("firing_rates"), dict) and e["firing_rates"]]
    if not entries:
        return None
    stride = math.ceil(len(entries) / 60)
    entries = entries[::-stride][::-1]
    layers = list(entries[-1]["firing_rates"])
    return {
        "rounds": [e["round"] for e in entries],
        "rates": {layer: [number(e["firing_rates"].get(layer)) for e in entries] for layer in layers},
    }


def _seconds(run: Run) -> dict[str, float]:
    """Mean seconds a round for each phase."""
    entries = [e["seconds"] for e in run.rounds if isinstance(e.get("seconds"), dict)]
    phases = dict.fromkeys(k for e in entries for k in e)
    known = {p: [v for e in entries if (v := number(e.get(p))) is not None] for p in phases}
    return {p: sum(v) / len(v) for p, v in known.items() if v}


def _raster(folder: Path) -> dict[str, Any] | None:
    """The first samples of the last recorded round: bit strings of the shape ``[N, C, T]``, by sender."""
    files = sorted((folder / "streams").glob("round-*.npz")) if folder.is_dir() else []
    for file in reversed(files):
        try:
            with np.load(file, allow_pickle=False) as arrays:
                rows, classes, steps = (int(n) for n in arrays["shape"])
                kept = min(rows, RASTER_ROWS)
                bits = kept * classes * steps
                senders = [k for k in arrays.files if k == "down" or k.startswith("up_")][:9]
                trains = {k: "".join(map(str, np.unpackbits(arrays[k].view(np.uint8))[:bits])) for k in senders}
        except (OSError, ValueError, KeyError):
            continue  # a torn file of a run in progress: the round before will do
        return {"file": file.name, "shape": [kept, classes, steps], "trains": trains}
    return None


def _clean(value: Any) -> Any:
    """Whole numbers for counts, None for what is not finite, seven significant digits for fractions.

    With fewer the page would round some to another tenth than the tables do.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else (round(value) if abs(value) >= 1e5 else float(f"{value:.7g}"))
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value if isinstance(value, str | int | bool) or value is None else str(value)
