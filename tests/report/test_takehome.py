"""What clients take home, on the page: table, verdict against clients alone, first sentences, frames."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy import stats

from report.synthetic import make_run
from report.test_write import read_tables
from spikefed.federated.takehome import KEYS, LEAST, MEAN, MOST, VOTE
from spikefed.report import load_run, write_report
from spikefed.report.curves import interval
from spikefed.report.groups import Group, group_runs
from spikefed.report.payload import payload
from spikefed.report.summary import cards, headline
from spikefed.report.takehome import SERVER, home_rows, home_table, points, verdicts


def measured(folder: Path, *, last: float, home: float, vote: float, method: str = "fsd+", seed: int = 0) -> Path:
    """A run that measured what its clients take home, and ends at these accuracies."""
    make_run(folder, method=method, seed=seed, rounds=3)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    for place, (line, point) in enumerate(zip(lines, result["curve"], strict=True)):
        below = 0.1 * (2 - place)
        told = {MEAN: home - below, LEAST: home - below - 0.02, MOST: home - below + 0.01, VOTE: vote - below}
        point |= told | {"accuracy": last - below}
        line |= told | {"server_accuracy": last - below}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "result.json").write_text(json.dumps(result | {"accuracy": last}))
    return folder


@pytest.fixture
def groups(tmp_path: Path) -> list[Group]:
    folders = [measured(tmp_path / f"p{s}", last=0.85, home=0.87 + 0.01 * s, vote=0.90, seed=s) for s in range(3)]
    folders += [measured(tmp_path / f"f{s}", last=0.83, home=0.85, vote=0.86, method="fsd", seed=s) for s in range(3)]
    folders += [measured(tmp_path / f"l{s}", last=0.86, home=0.86, vote=0.88, method="local", seed=s) for s in range(3)]
    return group_runs([load_run(folder) for folder in folders])


def test_rows_hold_every_seed_and_its_difference_to_clients_alone(groups: list[Group]) -> None:
    plus, fsd, local = home_rows(groups)
    assert plus.values[MEAN] == pytest.approx([0.87, 0.88, 0.89]) and plus.values[LEAST][0] == pytest.approx(0.85)
    assert plus.beyond[MEAN] == pytest.approx([0.01, 0.02, 0.03])
    assert plus.beyond[SERVER] == pytest.approx([-0.01] * 3) and plus.beyond[VOTE] == pytest.approx([0.02] * 3)
    assert fsd.beyond[MEAN] == pytest.approx([-0.01] * 3) and not local.beyond  # from itself


def test_the_verdict_names_a_gain_and_a_loss_alike(groups: list[Group]) -> None:
    gain, loss = verdicts(home_rows(groups))
    assert gain == (
        "FSD+: clients take home 88.0\u00a0%, above the 86.0\u00a0% that they reach alone in 3 seeds "
        "(+2.0 [−0.5 to +4.5] points); its server stands −1.0 [−1.0 to −1.0] points from there, the vote of its "
        "clients +2.0 [+2.0 to +2.0] points from the vote of clients alone."
    )
    assert "FSD: clients take home 85.0\u00a0%, not above the 86.0\u00a0% that they reach alone in any of 3" in loss
    text = headline(groups, [])
    assert gain in text and "not above" in text
    assert "Clients take home" in cards(groups, []) and "FSD+, own networks; their vote 90.0" in cards(groups, [])


def test_in_some_seeds_is_said_so(tmp_path: Path) -> None:
    folders = [measured(tmp_path / f"p{s}", last=0.85, home=0.85 + 0.02 * s, vote=0.9, seed=s) for s in range(2)]
    folders += [measured(tmp_path / f"l{s}", last=0.86, home=0.86, vote=0.9, method="local", seed=s) for s in range(2)]
    (told,) = verdicts(home_rows(group_runs([load_run(folder) for folder in folders])))
    assert "in 1 of 2 seeds above the 86.0" in told


def test_the_table_and_the_figure_hold_what_the_rows_do(groups: list[Group], tmp_path: Path) -> None:
    page = write_report([run.folder for group in groups for run in group.runs], tmp_path / "report.html").read_text()
    head, plus, fsd, local = read_tables(page)["home-1"]
    assert head[:6] == ["Method", "Server", "Clients, mean", "Clients, least", "Clients, most", "Together"]
    assert plus[0] == "FSD+" and plus[2] == "88.0\u00a0% ± 1.0" and plus[5] == "90.0\u00a0%"
    assert plus[7] == "+2.0 [−0.5 to +4.5]" and fsd[6] == "−3.0 [−3.0 to −3.0]" and local[7] == "–"
    assert 'data-figure="take-home"' in page
    home = payload(groups, [])["groups"][0]["home"]
    assert home[MEAN] == pytest.approx([0.68, 0.78, 0.88]) and set(home) == set(KEYS)


def test_without_it_there_is_no_table_and_no_sentence(tmp_path: Path) -> None:
    groups = group_runs([load_run(make_run(tmp_path / "run"))])
    assert home_table(0, groups, lambda group: "") == "" and "take home" not in headline(groups, [])
    assert payload(groups, [])["groups"][0]["home"] == {}


def test_without_clients_alone_it_says_what_they_hold(tmp_path: Path) -> None:
    groups = group_runs([load_run(measured(tmp_path / "run", last=0.85, home=0.87, vote=0.9))])
    assert "Clients take home, each its own network: FSD+ 87.0\u00a0%." in headline(groups, [])
    assert "beyond" not in home_table(0, groups, lambda group: "")


def test_a_result_file_alone_and_frames_have_the_columns(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    folder = measured(tmp_path / "run", last=0.85, home=0.87, vote=0.9)
    assert list(load_run(folder).metrics_frame()[VOTE]) == pytest.approx([0.7, 0.8, 0.9])
    (row,) = home_rows(group_runs([load_run(folder / "result.json")]))
    assert row.values[VOTE] == pytest.approx([0.9])


def test_the_interval_is_students(tmp_path: Path) -> None:
    values = [0.1, 0.3, 0.2, 0.7]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((low, high)) and interval([0.3]) is None
    assert points([0.012]) == "+1.2" and points([-0.012]) == "−1.2"
    assert points([-1e-6]) == "+0.0" and points([-1e-6, -1e-6]) == "+0.0 [+0.0 to +0.0]"  # nothing is not below itself


@pytest.mark.parametrize("key", ["method", "data.pooled"])
def test_a_ceiling_takes_nothing_home(key: str, tmp_path: Path) -> None:
    method = "central" if key == "method" else "fsd+"
    folders = [measured(tmp_path / f"c{s}", last=0.95, home=0.95, vote=0.95, method=method, seed=s) for s in range(2)]
    folders += [measured(tmp_path / f"l{s}", last=0.86, home=0.86, vote=0.9, method="local", seed=s) for s in range(2)]
    ceiling, alone = group_runs([load_run(folder) for folder in folders])
    if key == "data.pooled":
        ceiling.traits[key] = "True"
    rows = home_rows([ceiling, alone])
    assert ceiling.pooled and not alone.pooled and verdicts(rows) == []
    assert rows[0].beyond[MEAN] == pytest.approx([0.09] * 2)  # how far below it clients alone are
