"""What a search found: lines for the console, and an offline page with the front, its cells as pictures, all scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from spikefed.errors import ReportError
from spikefed.experiment.folder import records
from spikefed.files import write_atomic
from spikefed.networks.cells import Cell
from spikefed.report.cellpictures import cell_svg, legend
from spikefed.report.text import Cell as TableCell
from spikefed.report.text import Column, bytes_text, duration, number_text, table
from spikefed.report.write import asset
from spikefed.search import SCORES, Objective, with_ensemble

PICTURES = 24
FIGURES = ("sahd", "hd", "parameters", "macs", "flash_bytes", "ram_bytes", "spikes", "sops", "snip", "ensemble")
TITLES = {
    "sahd": "SAHD",
    "hd": "HD",
    "parameters": "Parameters",
    "macs": "MACs",
    "flash_bytes": "Flash",
    "ram_bytes": "RAM",
    "spikes": "Spikes",
    "sops": "SOPs",
    "snip": "SNIP",
    "ensemble": "Ensemble",
}
WIDTH = 640
HEIGHT = 340
LEFT = 72
BOTTOM = 46


def read_result(folder: Path) -> dict[str, Any]:
    """What `spikefed search` left in a folder.

    Raises:
        ReportError: the folder has no finished search.
    """
    path = folder / "search.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"{folder} has no finished search; run 'spikefed search' with --out {folder}") from error


def search_text(folder: Path) -> str:
    """A few lines: what was scored, the best cell, how an experiment uses it."""
    found = read_result(folder)
    over = found["over_limits"]
    left_out = f", {over} of them over a limit" if over else ""
    best = found["front"][0] if found["front"][0]["cell"] == found["cell"] else _row_of(found)
    figures = ", ".join(f"{TITLES[name]} {_written(name, best[name])}" for name in FIGURES if name in best)
    lines = [
        f"{found['scored']} cells scored in {duration(found['seconds'])} of processor time{left_out}",
        f"best by {found['objectives'][0]}: {figures}",
        f"{len(found['front'])} on the front of {', '.join(found['objectives'])}",
        f'to train it: network.name = "{found["best"]}"',
    ]
    if "upstream_bytes" in found:
        lines.insert(1, f"scalars of the clients: up {bytes_text(found['upstream_bytes'])}")
    return "\n".join(lines)


def _row_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(row for row in found["front"] if row["cell"] == found["cell"])


def _written(name: str, value: float) -> str:
    return bytes_text(value) if name.endswith("_bytes") else number_text(value)


def write_search_page(folder: Path) -> Path:
    """Write ``search.html``: no network, no script.

    Raises:
        ReportError: the folder has no finished search.
    """
    found = read_result(folder)
    scored = records(folder / "candidates.jsonl")
    objectives = [Objective.parse(text) for text in found["objectives"]]
    scored = with_ensemble(scored) if any(objective.score.ranks for objective in objectives) else scored
    best = cell_svg(Cell.parse(found["cell"]))
    pictures = "".join(
        f'<figure style="margin:.5rem;display:inline-block">{cell_svg(Cell.parse(row["cell"]))}'
        f"<figcaption><code>{escape(row['cell'])}</code><br>"
        f"{', '.join(f'{TITLES[o.score.name]} {_written(o.score.name, row[o.score.name])}' for o in objectives)}"
        "</figcaption></figure>"
        for row in found["front"][:PICTURES]
    )
    more = len(found["front"]) - PICTURES
    body = f"""<main class="wrap"><h1>Search over cells</h1>
<p>{escape(search_text(folder).splitlines()[0])}. A network of the best cell is named
<code>{escape(found["best"])}</code>.</p>{best}<p><small>{legend()}</small></p>
<section><h2>Scores</h2>{_scatter(scored, objectives, {row["cell"] for row in found["front"]})}</section>
<section><h2>The front of {escape(", ".join(found["objectives"]))}</h2>{pictures}
{f"<p>and {more} more in search.json</p>" if more > 0 else ""}{_table(found["front"])}</section></main>"""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Search over cells</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{asset('style.css')}</style></head><body>{body}</body></html>\n"
    )
    path = folder / "search.html"
    write_atomic(path, page)
    return path


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in FIGURES if name in rows[0]]
    columns = [Column("Cell", numeric=False), *(Column(TITLES[name], note=_note(name)) for name in names)]
    lines = [[row["cell"], *(TableCell(_written(name, row[name]), row[name]) for name in names)] for row in rows]
    return table("front", "Cells that no other beats in every objective", columns, lines)


def _note(name: str) -> str:
    return SCORES[name].summary if name in SCORES else "bytes on the device, float32"


def _scatter(scored: Sequence[Mapping[str, Any]], objectives: Sequence[Objective], front: set[str]) -> str:
    """First objective over the second (or the parameters), a dot a cell, those of the front filled."""
    up = objectives[0].score.name
    across = objectives[1].score.name if len(objectives) > 1 else "parameters" if up != "parameters" else "macs"
    points = [(row[across], row[up], row["cell"]) for row in scored if row["over"] is None]
    if len(points) < 2:
        return "<p>Too few cells for a figure.</p>"
    xs, ys = ([point[axis] for point in points] for axis in (0, 1))
    dots = "".join(
        _dot(_at(x, xs, LEFT, WIDTH - 12), _at(y, ys, HEIGHT - BOTTOM, 14), c, c in front) for x, y, c in points
    )
    ticks = "".join(_tick(xs, ys, share) for share in (0.0, 0.5, 1.0))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width:48rem;width:100%" role="img" '
        f'aria-label="{escape(TITLES[up])} over {escape(TITLES[across])} of {len(points)} cells">'
        f'<path d="M{LEFT} 8V{HEIGHT - BOTTOM + 6}H{WIDTH - 4}" fill="none" stroke="currentColor"/>{ticks}{dots}'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle" font-size="13" fill="currentColor">'
        f'{escape(TITLES[across])}</text><text x="14" y="{HEIGHT / 2}" font-size="13" fill="currentColor" '
        f'transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">{escape(TITLES[up])}</text></svg>'
    )


def _at(value: float, values: Sequence[float], low: float, high: float) -> float:
    least = min(values)
    most = max(values)
    return low + (high - low) * (0.5 if most == least else (value - least) / (most - least))


def _dot(x: float, y: float, cell: str, on_front: bool) -> str:
    look = 'r="4.5" fill="var(--accent)"' if on_front else 'r="3" fill="none" stroke="currentColor" opacity=".5"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}><title>{escape(cell)}</title></circle>'


def _tick(xs: Sequence[float], ys: Sequence[float], share: float) -> str:
    x = LEFT + share * (WIDTH - 12 - LEFT)
    y = HEIGHT - BOTTOM + share * (14 - HEIGHT + BOTTOM)
    across, up = (min(v) + share * (max(v) - min(v)) for v in (xs, ys))
    anchor = "end" if share == 1 else "middle"
    return (
        f'<text x="{x:.0f}" y="{HEIGHT - 26}" text-anchor="{anchor}" font-size="11" fill="currentColor">'
        f"{_tick_text(across)}</text>"
        f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end" font-size="11" fill="currentColor">'
        f"{_tick_text(up)}</text>"
    )


def _tick_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
