"""Probes of run folders: frames, the report's part with means over seeds, older runs, and damaged files."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from probes.subjects import network, subject
from report.synthetic import make_run
from report.test_write import read_tables
from spikefed.errors import ReportError
from spikefed.probes import files, run_probe
from spikefed.report import load_run, write_report
from spikefed.report.probefiles import headlines


def probed(
    run: Path, seed: int = 0, names: tuple[str, ...] = ("accuracy", "latency"), rounds: tuple[int, ...] = (2, 6)
) -> Path:
    for name in names:
        for round in rounds:
            files.add(run / "probes", name, run_probe(network(seed + round), subject(), name, round=round, seed=seed))
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("probed")
    made = [probed(make_run(root / f"fsd-{seed}", seed=seed), seed) for seed in (0, 1)]
    return [*made, make_run(root / "fedavg", method="fedavg")]


def test_a_frame_has_a_row_a_record_and_round(runs: list[Path]) -> None:
    pytest.importorskip("pandas")
    run = load_run(runs[0])
    frame = run.probe_frame("latency")
    assert list(frame["round"]) == [2] * 4 + [6] * 4 and list(frame["steps"]) == [1, 2, 3, 4] * 2
    classes = run.probe_frame("accuracy", "classes")
    assert set(classes["part"]) == {"classes"} and len(classes) == 2 * 4
    with pytest.raises(ReportError, match=r"has no probe 'rates' \(it has accuracy, energy, latency|it has accuracy"):
        run.probe_frame("rates")


def test_the_report_has_a_row_a_method_with_the_mean_over_seeds(runs: list[Path], tmp_path: Path) -> None:
    page = write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    head, *rows = read_tables(page)["probe-latency-1"]
    assert head == ["Method", "Steps", "Accuracy", "Of all spikes"] and [row[0] for row in rows] == ["FSD"]
    found = [headlines(run)["latency"] for run in runs[:2]]
    mean = sum(float(h["accuracy"]) for h in found) / 2
    assert rows[0][2].startswith(f"{100 * mean:.1f}\u00a0%")
    told = read_tables(page)["probe-latency-1-0-0"]
    assert told[0][:2] == ["Steps", "Accuracy"] and [row[0] for row in told[1:]] == ["1", "2", "3", "4"]
    over = read_tables(page)["probe-latency-1-0-rounds"]
    assert [row[0] for row in over[1:]] == ["2", "6"]


def test_without_a_probe_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    page = unescape(write_report([make_run(tmp_path / "run")], tmp_path / "r.html").read_text(encoding="utf-8"))
    part = page[page.index('id="probes"') : page.index('id="inside"')]
    assert "None of the runs compared here was probed" in part and "spikefed probe RUN NAME" in part


def test_a_long_table_says_where_the_rest_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikefed.report.probesection.MOST_ROWS", 3)
    run = probed(make_run(tmp_path / "run"), names=("latency",), rounds=(6,))
    page = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(read_tables(page)["probe-latency-1-0-0"]) == 4
    assert "1 rows more are in probes/latency.json" in page or "1 row more is in probes/latency.json" in page


def test_the_energy_of_an_older_run_is_a_probe(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    tree = json.loads((run / "energy.json").read_text())
    assert "energy" not in load_run(run).probes, "a file without totals is none"
    from spikefed.hardware import energy_report

    shown = subject()
    whole = energy_report(network(), shown.preprocess(shown.images)).to_json()
    (run / "energy.json").write_text(whole)
    found = load_run(run).probes["energy"]
    new = run_probe(network(), shown, "energy")
    assert found["measurements"][0]["records"] == new.records and found["measurements"][0]["headline"] == new.headline
    assert tree["totals"]["break_even"]
    page = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "energy-1" in read_tables(page) and "probe-energy-1" not in read_tables(page)


ODD = [None, "", "x", 3, -1.5, [], {}, [1], {"a": 1}, [[{}]], True, 10**400]


@pytest.mark.parametrize("at", ["top", "measurement", "quantity", "record"])
def test_a_file_may_hold_anything(tmp_path: Path, at: str) -> None:
    run = probed(make_run(tmp_path / "run"), names=("latency",), rounds=(6,))
    path = run / "probes" / "latency.json"
    whole = path.read_text()

    def place(tree: Any) -> dict[str, Any]:
        inside = {"top": lambda: tree, "measurement": lambda: tree["measurements"][0]}
        inside |= {"quantity": lambda: tree["quantities"][0], "record": lambda: tree["measurements"][0]["records"][0]}
        return inside[at]()

    for key in list(place(json.loads(whole))):
        for odd in ODD:
            tree = json.loads(whole)
            place(tree)[key] = odd
            path.write_text(json.dumps(tree))
            page = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
            assert "Probes" in page, (key, odd)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    run = probed(make_run(tmp_path / "run"), names=("latency", "accuracy"), rounds=(6,))
    (run / "probes" / "latency.json").write_text("{")
    said: list[str] = []
    page = write_report([run], tmp_path / "r.html", warn=said.append).read_text(encoding="utf-8")
    assert any("probes/latency.json cannot be read and was left out" in text for text in said)
    assert "probe-accuracy-1" in read_tables(page) and list(headlines(run)) == ["accuracy"]
