"""The plain SVG figure: well-formed, true to the numbers, never empty."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

import spikefed
from report.synthetic import make_comparison, make_run
from spikefed.errors import ReportError

SVG = "{http://www.w3.org/2000/svg}"


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


@pytest.mark.parametrize("against", ["rounds", "upstream", "downstream", "paper", "text"])
def test_a_comparison_has_a_line_a_configuration_and_a_band_where_seeds_differ(tmp_path: Path, against: str) -> None:
    runs = make_comparison(tmp_path)
    root = ElementTree.fromstring(spikefed.plot(runs, against).svg)
    lines = [points(line.attrib["points"]) for line in root.iter(f"{SVG}polyline")]
    assert len(lines) == 4 and len(list(root.iter(f"{SVG}polygon"))) == 2
    for line in lines:
        assert len(line) == 10 and all(0 <= x <= 640 and 0 <= y <= 360 for x, y in line)
        assert [x for x, _ in line] == sorted(x for x, _ in line)
    texts = [t.text or "" for t in root.iter(f"{SVG}text")]
    assert len(set(texts)) == len(texts), "every tick and name once"
    assert any("FedAvg" in t for t in texts) and "FedAvg" in root.attrib["aria-label"]


def test_heights_are_the_accuracies(tmp_path: Path) -> None:
    run = spikefed.load_run(make_run(tmp_path / "one", rounds=6))
    root = ElementTree.fromstring(spikefed.plot(run).svg)
    line = points(next(root.iter(f"{SVG}polyline")).attrib["points"])
    ticks = {
        float(t.text.split()[0]) / 100: float(t.attrib["y"]) - 4
        for t in root.iter(f"{SVG}text")
        if t.text and "%" in t.text
    }
    (low, y_low), (high, y_high) = min(ticks.items()), max(ticks.items())
    for (_, y), entry in zip(line, run.rounds, strict=True):
        read = low + (y - y_low) / (y_high - y_low) * (high - low)
        assert read == pytest.approx(entry["server_accuracy"], abs=0.002)


def test_one_round_and_equal_values_still_draw(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", rounds=1)
    for against in ("rounds", "upstream"):
        ElementTree.fromstring(spikefed.plot(folder, against).svg)
    saved = spikefed.plot([folder]).save(tmp_path / "figure.svg")
    assert saved.read_text() == spikefed.plot(str(folder))._repr_html_()


def test_nothing_to_plot_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", rounds=1, finished=False)
    with pytest.raises(ReportError, match="plot against 'time' is not known; use one of rounds, upstream"):
        spikefed.plot(folder, "time")
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(ReportError, match="nothing to plot"):
        spikefed.plot(folder)
