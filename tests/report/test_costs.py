"""Energy, computing and slow links beside bytes: hand-made runs with known answers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import spikefed
from report.synthetic import SPIKE_BYTES, make_comparison, make_run
from spikefed.cli import app
from spikefed.errors import ReportError
from spikefed.report import Link, Run, Terms, load_run, terms_of
from spikefed.report.costs import band_costs, seconds_to, totals_of
from spikefed.report.curves import curve_of
from spikefed.report.groups import group_runs
from spikefed.report.linktable import links_table, times_to
from spikefed.report.targets import target_rows

CLIENTS = 4


def told(folder: Path, **settings: Any) -> Run:
    """A run of four clients: 4.7 s of theirs and 0.9 s of the server's a round, 1e6 pJ of training a client."""
    return load_run(make_run(folder, clients=CLIENTS, **settings))


def at(run: Run, cost: str, terms: Terms | None = None) -> list[float] | None:
    return totals_of(run, curve_of(run), cost, terms or Terms())


def test_costs_of_a_round_add_up(tmp_path: Path) -> None:
    run = told(tmp_path / "run", rounds=3)
    assert at(run, "seconds") == pytest.approx(
        [4.7 / CLIENTS + 0.9, 2 * (4.7 / CLIENTS + 0.9), 3 * (4.7 / CLIENTS + 0.9)]
    )
    assert at(run, "seconds", Terms(slowdown=10.0)) == pytest.approx([(47 / CLIENTS + 0.9) * n for n in (1, 2, 3)])
    assert at(run, "energy") == pytest.approx([1e6, 2e6, 3e6])
    a_round = 2 * (SPIKE_BYTES + 48)
    radio = at(run, "energy", Terms(radio_nj_per_byte=2.0))
    assert radio == pytest.approx([n * (1e6 + 2e3 * a_round) for n in (1, 2, 3)])


def test_a_client_that_is_away_spends_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["participants"] = [0]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert at(load_run(folder), "energy") == pytest.approx([0.25e6, 0.5e6])


def test_time_to_a_target_is_bytes_by_rate_and_computing(tmp_path: Path) -> None:
    run = told(tmp_path / "run", rounds=6)
    curve = curve_of(run)
    target = curve.accuracy[3] or 0.0
    rounds = (curve.first_at(target) or 0) + 1
    link = Link("slow", 1000.0, 500.0, 0.1)
    carrying = 8 * (SPIKE_BYTES + 48) * (1 / 1000 + 1 / 500) / 0.1
    computing = seconds_to(run, curve, target, None)
    assert computing == pytest.approx(rounds * (4.7 / CLIENTS + 0.9))
    assert seconds_to(run, curve, target, link) == pytest.approx(rounds * carrying + (computing or 0.0))
    assert seconds_to(run, curve, 1.0, link) is None


def test_a_result_file_alone_is_timed_by_its_bytes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=3)
    result = json.loads((folder / "result.json").read_text()) | {"config": {"data": {"clients": CLIENTS}}}
    (tmp_path / "alone.json").write_text(json.dumps(result))
    run = load_run(tmp_path / "alone.json")
    assert at(run, "seconds") is None and at(run, "energy") is None
    first = curve_of(run).accuracy[0] or 0.0
    link = Link("slow", 1000.0, 1000.0)
    assert seconds_to(run, curve_of(run), first, None) is None
    assert seconds_to(run, curve_of(run), first, link) == pytest.approx(2 * 8 * (SPIKE_BYTES + 48) / 1000)
    rows = target_rows(group_runs([run]), [first])
    assert "tell no seconds: carrying alone" in links_table(0, rows, lambda group: "")


def test_the_table_has_a_row_a_method_and_target_and_a_column_a_link(tmp_path: Path) -> None:
    groups = group_runs([load_run(folder) for folder in make_comparison(tmp_path)])
    rows = target_rows(groups, [0.5, 0.99])
    terms = terms_of(["LoRa=5470/5470/0.01", "LAN=1e8"], 20.0)
    html = links_table(0, rows, lambda group: "", terms)
    assert html.count("<tr") == 1 + len(rows) and "LoRa" in html and "LAN" in html and "LTE" not in html
    assert "20 times slower" in html and "not reached" in html
    lora, lan = terms.links
    for row in rows[: len(groups)]:
        assert min(times_to(row, lora, terms)) > max(times_to(row, lan, terms)) > max(times_to(row, None, terms))


def test_figures_and_page_have_the_costs(tmp_path: Path) -> None:
    folders = make_comparison(tmp_path / "runs")
    assert "Energy of a client" in spikefed.plot(folders, "energy").svg
    written = {path.name: path for path in spikefed.report.write_figures(folders, tmp_path / "figures")}
    rows = list(csv.DictReader(io.StringIO(written["accuracy-seconds.csv"].read_text())))
    groups = group_runs([load_run(folder) for folder in folders])
    expected = [seconds for group in groups for seconds in band_costs(group, "seconds") or []]
    assert [float(row["seconds"]) for row in rows] == pytest.approx(expected)
    assert {"accuracy-energy.pdf", "accuracy-energy.svg", "table-links-1.tex"} <= set(written)


def test_the_command_takes_links_and_refuses_what_is_none(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=2)
    out = tmp_path / "page.html"
    given = ["report", str(run), "--out", str(out), "--target", "0.3"]
    shown = CliRunner().invoke(
        app, [*given, "--link", "satellite=2400", "--slowdown", "20", "--radio-nj-per-byte", "50"]
    )
    assert shown.exit_code == 0, shown.output
    page = out.read_text()
    assert "satellite" in page and "NB-IoT" not in page and "with its radio" in page
    refused = CliRunner().invoke(app, [*given, "--link", "satellite"])
    assert isinstance(refused.exception, ReportError)


@pytest.mark.parametrize(
    ("links", "slowdown", "radio", "says"),
    [
        (["a=1", "a=2"], 1.0, None, "two links are named 'a'"),
        ([], 0.0, None, "slowdown 0 is no factor above 0"),
        ([], float("nan"), None, "slowdown nan is no factor"),
        ([], 1.0, -1.0, "radio_nj_per_byte -1 is no energy"),
    ],
)
def test_terms_that_are_none_are_refused(links: list[str], slowdown: float, radio: float | None, says: str) -> None:
    with pytest.raises(ReportError, match=says):
        terms_of(links, slowdown, radio)


def test_a_damaged_energy_file_costs_the_figure_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=2)
    for found in ({}, {"client_round": 3}, {"client_round": {"training_pj": "much"}}):
        (folder / "energy.json").write_text(json.dumps(found))
        assert at(load_run(folder), "energy") is None


def test_what_a_round_itself_says_of_its_energy_comes_first(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=2)
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    whole = at(load_run(folder), "energy")
    for line in lines:
        line["diagnostics"] = {**(line.get("diagnostics") or {}), "train_joules": 3e-6 * len(line["participants"])}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = at(load_run(folder), "energy")
    assert found is not None and found != whole
    asked, everybody = len(lines[0]["participants"]), load_run(folder).config["data"]["clients"]
    assert found[0] == pytest.approx(3e6 * asked / everybody)
