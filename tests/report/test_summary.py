"""The top of the page: who leads it, and what it warns of."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest

from report.synthetic import make_run
from report.test_write import read_tables
from spikefed.report import load_run, write_report
from spikefed.report.groups import Group, group_runs
from spikefed.report.sections import configs
from spikefed.report.summary import cards, caveats, headline, hero_row
from spikefed.report.targets import default_targets, target_rows
from spikefed.report.write import default_title


def grouped(*folders: Path) -> list[Group]:
    return group_runs([load_run(folder) for folder in folders])


@pytest.fixture
def with_silent(tmp_path: Path) -> list[Group]:
    runs = [make_run(tmp_path / "fsd"), make_run(tmp_path / "fedavg", method="fedavg", top=0.96, speed=0.9)]
    runs += [make_run(tmp_path / m, method=m, top=top, speed=2) for m, top in (("central", 0.97), ("local", 0.75))]
    return grouped(*runs)


def test_who_sends_nothing_does_not_lead(with_silent: list[Group]) -> None:
    rows = target_rows(with_silent, [0.7, 0.85])
    hero = hero_row(with_silent, rows)
    assert hero is not None and hero.group.label == "FSD"
    text = headline(with_silent, rows)
    assert text.startswith("FSD reaches 85\u00a0% with ") and "FedAvg needs" in text
    assert re.search(r"Server accuracy after the last round: FedAvg 9\d\.\d\u00a0%, FSD \d\d\.\d\u00a0%\.", text)
    assert re.search(
        r"Without a byte sent upstream: Central \d+\.\d\u00a0%, Local only 7\d\.\d\u00a0%\. All of it is one seed", text
    )
    shown = cards(with_silent, rows)
    assert "Traffic saved" in shown and "Central" not in shown and "0 B" not in shown


def test_where_nothing_is_sent_somebody_leads(tmp_path: Path) -> None:
    groups = grouped(make_run(tmp_path / "local", method="local"))
    rows = target_rows(groups, [0.5])
    assert headline(groups, rows).startswith("Local only reaches 50\u00a0% with 0\u00a0B sent upstream. Server acc")
    assert "Without a byte" not in headline(groups, rows) and "Highest after the last round" in cards(groups, rows)


def test_the_last_round_decides_who_is_named_first(tmp_path: Path) -> None:
    """A method that was ahead once and fell back does not lead: its best round was picked on what measures it."""
    early, steady = make_run(tmp_path / "fsd", rounds=3), make_run(tmp_path / "cfd", method="cfd", rounds=3)
    for folder, curve in ((early, (0.5, 0.95, 0.7)), (steady, (0.5, 0.6, 0.8))):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for line, accuracy in zip(lines, curve, strict=True):
            line["server_accuracy"] = accuracy
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    groups = grouped(early, steady)
    text, shown = headline(groups, []), cards(groups, [])
    assert text.startswith(
        "Server accuracy after the last round: CFD 80.0\u00a0%, FSD 70.0\u00a0%. All of it is one seed"
    )
    assert "Highest after the last round</dt><dd><strong>80.0\u00a0%</strong><span>CFD, one seed" in shown
    page = write_report([early, steady], tmp_path / "r.html").read_text(encoding="utf-8")
    head, *rows = read_tables(page)["runs-1"]
    assert [rows[0][head.index(name)] for name in ("Last accuracy", "Best round")] == ["70.0\u00a0%", "95.0\u00a0%"]


def test_only_clients_that_upload_can_lose_an_upload(with_silent: list[Group], tmp_path: Path) -> None:
    """Those of ``local`` and ``central`` train alone: 2 methods x 10 rounds x 4 clients, not twice that."""
    assert "or refused, of 80 expected" in cards(with_silent, [])
    assert "Uploads lost" not in cards(grouped(make_run(tmp_path / "alone", method="local")), [])


def test_a_method_that_lost_every_upload_has_lost_them(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", method="local", rounds=1)  # a run without a byte upstream
    line = json.loads((folder / "metrics.jsonl").read_text())
    lost = [{"client": c, "reason": "no answer"} for c in line["participants"]]
    (folder / "metrics.jsonl").write_text(json.dumps(line | {"dropped": lost}) + "\n")
    shown = cards(grouped(folder), [])
    assert "<strong>4</strong><span>or refused, of 4 expected" in shown


def test_default_targets_are_of_runs_that_send(with_silent: list[Group]) -> None:
    assert default_targets(with_silent) == default_targets(with_silent[:2])


def test_targets_of_the_records_are_the_table_s(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / m, method=m) for m in ("fsd", "fedavg")]
    for run in runs:
        result = json.loads((run / "result.json").read_text())
        points = {"0.75": {"round": 3}, "0.8": None, "no number": None, "7": None}
        (run / "result.json").write_text(json.dumps(result | {"targets": points}))
    assert default_targets(grouped(*(run / "result.json" for run in runs))) == [0.75, 0.8]
    assert default_targets(grouped(*runs)) == [0.75, 0.8]


def test_named_targets_that_nobody_reaches_stand_beside_some_that_are_reached(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", top=0.5)
    (run / "result.json").write_text(
        json.dumps(json.loads((run / "result.json").read_text()) | {"targets": {"0.9": None}})
    )
    targets = default_targets(grouped(run))
    assert targets[-1] == 0.9 and len(targets) > 1 and targets[0] < 0.55


def test_unequal_rounds_are_said_and_made_equal_in_the_table(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", rounds=3),
        make_run(tmp_path / "b", rounds=2, seed=1),
        make_run(tmp_path / "c", rounds=2, method="fedavg"),
    ]
    page = write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    text = unescape(page)
    assert "unequal numbers of rounds (3 rounds: FSD; 2 rounds: FSD, FedAvg)" in text
    head, *rows = read_tables(page)["runs-1"]
    place = head.index("Best of the first 2 rounds")
    first = load_run(runs[0])
    best = max(e["server_accuracy"] for e in first.rounds[:2])
    assert rows[0][place] == f"{100 * best:.1f}\u00a0%" != rows[0][place - 1]
    assert rows[1][place] == rows[1][place - 1]


def test_equal_rounds_and_one_network_need_no_word(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / m, method=m, rounds=2) for m in ("fsd", "fedavg")]
    assert caveats(grouped(*runs)) == ""
    assert "Best of the first" not in write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_run_without_a_round_yet_makes_no_rounds_unequal(tmp_path: Path) -> None:
    waiting = make_run(tmp_path / "w", rounds=1, seed=1, finished=False)
    (waiting / "metrics.jsonl").write_text("")
    assert caveats(grouped(make_run(tmp_path / "a", rounds=2), waiting)) == ""


def test_several_networks_are_said(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", rounds=2), make_run(tmp_path / "b", rounds=2, method="fedavg", network="vgg9")]
    text = unescape(caveats(grouped(*runs)))
    assert "The networks differ (small: FSD on small; vgg9: FedAvg on vgg9)." in text
    assert "Ratios to FedAvg are to FedAvg on vgg9, of a method to the FedAvg on its own network" in text


def test_a_report_without_energy_says_of_which_runs_and_names_no_version(tmp_path: Path) -> None:
    with_energy, without = make_run(tmp_path / "a"), make_run(tmp_path / "b", dataset="mnist")
    (without / "energy.json").unlink()
    page = unescape(write_report([with_energy, without], tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "energy-1" in read_tables(page) and "energy-2" not in read_tables(page)
    said = page[page.index("None of the runs compared here has a file energy.json") :]
    assert "version" not in said[: said.index("</p>")]


def test_many_methods_make_a_short_title(tmp_path: Path) -> None:
    names = ("fsd", "fedavg", "cfd", "local", "central", "fd")
    runs = [make_run(tmp_path / m, method=m, rounds=1) for m in names]
    assert default_title(grouped(*runs[:3])) == "FSD, FedAvg and CFD on digits"
    assert default_title(grouped(*runs)) == "6 methods on digits"


def test_one_run_is_written_as_one(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "a", rounds=1), make_run(tmp_path / "b", seed=3, rounds=1)
    assert "<small>1 run, seed 0</small>" in configs(grouped(one)) and "of one run" in cards(grouped(one), [])
    both = grouped(one, other)
    assert "<small>2 runs, seeds 0, 3</small>" in configs(both) and "all 2 runs together" in cards(both, [])


def test_the_energy_table_explains_its_columns(tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "a", rounds=1)], tmp_path / "r.html").read_text(encoding="utf-8")
    part = page[page.index('id="energy"') : page.index('data-table="energy-1"')]
    assert "“Spikes an input” counts" in part and "At “Break-even”" in part
