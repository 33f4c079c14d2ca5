"""The report's part on energy: what an image costs each network, beside an ordinary one of the same layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikefed.report.curves import mean
from spikefed.report.groups import Group
from spikefed.report.runs import Run, number
from spikefed.report.text import ABSENT, Cell, Column, energy_text, table, times


def energy_table(setting: int, groups: Sequence[Group], css: Any) -> str:
    """One row a method and comparison, means over seeds; a sentence when no run has the numbers.

    Args:
        css: gives a group's style class.
    """
    columns = [
        Column("Method", False),
        Column("Compared with", False, note="the ordinary network (ANN) of the same layers, and what is counted"),
        Column("Spiking"),
        Column("Ordinary"),
        Column("Ordinary / spiking", note="above 1 the spiking network needs less"),
        Column("Spikes an input", note="mean spikes that reach a weight over all time steps; an ANN counts 1"),
        Column("Break-even", note="spikes an input at which both need the same; below it the spiking network wins"),
    ]
    out = []
    for group in groups:
        found = [_comparisons(run) for run in group.runs]
        known = [rows for rows in found if rows]
        for place, first in enumerate(known[0] if known else []):
            mine = [rows[place] for rows in known if place < len(rows)]
            snn, ann, rate, even = (
                _mean([number(row.get(key)) for row in mine]) for key in ("snn_pj", "ann_pj", "measured", "rate")
            )
            ratio = ann / snn if snn and ann is not None else None
            reachable = even is not None and even > 0
            out.append(
                [
                    Cell(group.label, kind=css(group)),
                    str(first.get("against", ABSENT)),
                    Cell(energy_text(snn), snn),
                    Cell(energy_text(ann), ann),
                    Cell(times(ratio), ratio if ratio is not None else ""),
                    Cell(ABSENT if rate is None else f"{rate:.3g}", rate),
                    Cell(
                        f"{even:.3g}" if reachable else "none",
                        even if reachable else "",
                        kind="" if reachable else "absent",
                    ),
                ]
            )
    if not out:
        return (
            '<p class="empty">None of the runs compared here has a file energy.json. A run writes it into its folder '
            "when it ends, unless no energy model fits its network; "
            "<code>spikefed energy RUN</code> makes the numbers.</p>"
        )
    explained = (
        "<p>“Spikes an input” counts the spikes that reach a weight for one image, over all time steps; an ordinary "
        "network sends one number there. At “Break-even” spikes an input both would need the same energy: with fewer "
        "the spiking network needs less, and “none” says that no number of spikes is few enough.</p>"
    )
    return explained + table(f"energy-{setting + 1}", "Energy of one image at the measured firing rates", columns, out)


def energy_layers(run: Run) -> dict[str, Any] | None:
    """Layers with the energy of both networks by the paper formula, pJ, for the figure."""
    layers = (run.energy or {}).get("layers")
    if not isinstance(layers, list) or not layers:
        return None
    try:
        return {
            "layers": [str(layer["counts"]["name"]) for layer in layers],
            "snn": [number(layer["paper_fp32_pj"]) for layer in layers],
            "ann": [number(layer["ann_pj"]) for layer in layers],
        }
    except (KeyError, TypeError):
        return None


def _comparisons(run: Run) -> list[dict[str, Any]]:
    totals = (run.energy or {}).get("totals")
    rows = totals.get("break_even") if isinstance(totals, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return mean(known) if known else None
