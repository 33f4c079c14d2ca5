"""Figures of probes: lines where the numbers are, bands of seeds and of errors, nothing from damaged files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from probes.subjects import network, subject
from report.synthetic import make_run
from spikefed.probes import files, run_probe
from spikefed.report import load_run, write_report
from spikefed.report.probecurves import ticks


def probed(run: Path, seed: int, rounds: tuple[int, ...] = (2, 6)) -> Path:
    for round in rounds:
        files.add(run / "probes", "temporal", run_probe(network(seed + round), subject(), "temporal", round=round))
    return run


def drawn(page: str, caption: str) -> list[list[tuple[float, float]]]:
    """The lines of the figure with this caption, in the drawing's units."""
    [figure] = re.findall(rf"<figure[^>]*><figcaption>{caption}</figcaption>(.*?)</figure>", page, re.S)
    lines = re.findall(r'<polyline points="([^"]+)"', figure)
    return [[tuple(map(float, dot.split(","))) for dot in line.split()] for line in lines]  # type: ignore[misc]


def test_the_page_draws_what_the_probe_asks_for(tmp_path: Path) -> None:
    runs = [probed(make_run(tmp_path / f"fsd-{seed}", seed=seed), seed) for seed in (0, 1)]
    page = write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    [information] = drawn(page, "Information over steps")
    assert len(information) == 4 and [x for x, _ in information] == sorted(x for x, _ in information)
    values = [
        sum(load_run(run).probes["temporal"]["measurements"][-1]["records"][1 + t]["information"] for run in runs)
        for t in range(4)
    ]
    heights = [-y for _, y in information]
    rising = [b > a for a, b in zip(values, values[1:], strict=False)]
    assert [b > a for a, b in zip(heights, heights[1:], strict=False)] == rising
    [over] = drawn(page, "Centroid over round")
    assert len(over) == 2
    assert "Centroid over round. FSD ends at" in page


def test_one_run_shows_its_error_and_one_measurement_no_rounds(tmp_path: Path) -> None:
    run = probed(make_run(tmp_path / "run"), 0, rounds=(6,))
    page = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Information over steps" in page and "Centroid over round" not in page
    [band] = re.findall(r"Information over steps</figcaption>.*?<polygon points=\"([^\"]+)\"", page, re.S)
    tops = [float(dot.split(",")[1]) for dot in band.split()]
    assert all(top < bottom for top, bottom in zip(tops[:4], reversed(tops[4:]), strict=True))


@pytest.mark.parametrize("curves", [5, [5], [{"x": 1}], [{"x": "steps", "y": "nothing"}]])
def test_damaged_curves_cost_the_figure_alone(tmp_path: Path, curves: Any) -> None:
    run = probed(make_run(tmp_path / "run"), 0)
    path = run / "probes" / "temporal.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"curves": curves}), encoding="utf-8")
    page = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Information over steps" not in page


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 250.0), (1e-6, 2e-6), (7.0, 7.0), (0.0, 0.0)])
def test_ticks_lie_around_the_range(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 10 and found[0] <= low + 1e-12 and found[-1] >= high - 1e-12
    assert all(b > a for a, b in zip(found, found[1:], strict=False))
