"""Run folders are read whole, growing, or damaged; nonsense is refused by name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from report.synthetic import make_run
from spikefed.errors import ReportError
from spikefed.report import load_run
from spikefed.report.curves import curve_of
from spikefed.report.runs import Run, load_runs


def test_a_whole_run_tells_what_it_is(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "a", preset="faithful", seed=7, rounds=3))
    assert (run.method, run.preset, run.dataset, run.partition, run.seed) == ("fsd", "faithful", "digits", "iid", 7)
    assert run.network == "small"
    assert run.finished and run.problems == ()
    assert len(run.rounds) == 3 and len(run.ledger) == 3 * 2 * 4
    assert run.command == "spikefed run experiments/fsd-faithful-digits.toml --set seed=7"


def test_a_run_in_progress_reads_from_its_config(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "a", method="fedavg", rounds=2, finished=False))
    assert not run.finished
    assert (run.method, run.dataset, run.seed) == ("fedavg", "digits", 0)


def test_a_torn_last_line_is_left_out_and_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=3, finished=False)
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-40])
    run = load_run(folder)
    assert [e["round"] for e in run.rounds] == [1, 2]
    assert run.problems == ("the last line of metrics.jsonl is torn and was left out",)


def test_a_round_written_twice_counts_once_and_the_later_line_wins(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=2)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"round": 2, "server_accuracy": 0.5}) + "\n")
    run = load_run(folder)
    assert [e["round"] for e in run.rounds] == [1, 2]
    assert run.rounds[1]["server_accuracy"] == 0.5


def test_a_run_before_its_first_round_is_a_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=1, finished=False)
    (folder / "metrics.jsonl").unlink()
    (folder / "ledger.jsonl").unlink()
    (folder / "provenance.json").unlink()
    run = load_run(folder)
    assert run.rounds == [] and run.ledger == [] and curve_of(run).best is None


def test_damaged_side_files_are_named_not_fatal(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=1)
    (folder / "provenance.json").write_text("{")
    (folder / "config.toml").write_text("[[[")
    assert len(load_run(folder).problems) == 2


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_what_is_no_run_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind == "empty":
        folder.mkdir()
    with pytest.raises(ReportError, match=str(folder)) as caught:
        load_run(folder)
    if kind == "empty":
        assert all(name in str(caught.value) for name in ("metrics.jsonl", "result.json", "config.toml"))


def test_a_folder_of_runs_stands_for_all_of_them_and_none_is_counted_twice(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "sweep" / "b", rounds=1), make_run(tmp_path / "sweep" / "a", rounds=1, seed=1)
    make_run(one / "copy", rounds=1)  # within a run: not looked for
    (tmp_path / "sweep" / "logs").mkdir()
    assert [run.folder for run in load_runs([tmp_path / "sweep"])] == [two, one]
    assert [run.folder for run in load_runs([tmp_path])] == [two, one]
    assert [run.folder for run in load_runs([one, tmp_path / "sweep"])] == [one, two]
    with pytest.raises(ReportError, match="it holds runs, such as '.*sweep/a'"):
        load_run(tmp_path / "sweep")
    with pytest.raises(ReportError, match="logs' is no run folder"):
        load_runs([tmp_path / "sweep" / "logs"])


def test_a_result_file_alone_is_enough_for_curves(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=4)
    alone, whole = load_run(folder / "result.json"), load_run(folder)
    assert curve_of(alone).totals == curve_of(whole).totals
    assert curve_of(alone).accuracy == curve_of(whole).accuracy


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(ReportError, match="no result file"):
        load_run(tmp_path / "x.json")


def test_cumulative_bytes_are_summed_when_only_rounds_are_given(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    lines = [{"round": r, "server_accuracy": 0.1 * r, "upstream_bytes": 100 * r} for r in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    curve = curve_of(load_run(folder))
    assert curve.totals["upstream"] == [100, 300, 600]
    assert curve.per_round("upstream") == [100, 200, 300]
    assert curve.totals["text"] is None


def test_frames_hold_a_row_for_each_round_client_and_message(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="the notebook extra is not installed")
    run = load_run(make_run(tmp_path / "a", rounds=3))
    metrics, clients, ledger = run.metrics_frame(), run.clients_frame(), run.ledger_frame()
    assert len(metrics) == 3 and len(clients) == 3 * 4 and len(ledger) == 3 * 2 * 4
    assert metrics["upstream_bytes_total"].tolist() == metrics["upstream_bytes"].cumsum().tolist()
    assert metrics["seconds.round"].tolist() == [6.0, 6.0, 6.0]
    assert (
        ledger[ledger.direction == "up"].groupby("round").encoded_bytes.sum().tolist()
        == metrics["upstream_bytes"].tolist()
    )


def test_without_pandas_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ReportError, match="pip install pandas"):
        load_run(make_run(tmp_path / "a", rounds=1)).metrics_frame()


def test_a_notebook_shows_the_last_numbers_and_the_curve(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "a", rounds=3, seed=4))
    html = run._repr_html_()
    drawing = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    points = [tuple(map(float, p.split(","))) for p in drawing[0].attrib["points"].split()]
    assert len(points) == 3
    assert points[0][1] == 64 and points[-1][1] == 6  # rising: lowest at the bottom, highest at the top
    assert "seed 4, finished" in html and "3 rounds" in html


def test_a_notebook_shows_a_run_without_rounds(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=1, finished=False)
    (folder / "metrics.jsonl").write_text("")
    assert "<svg" not in load_run(folder)._repr_html_()


def test_every_method_has_a_name_and_a_colour_and_marker_of_its_own() -> None:
    from spikefed.federated import METHODS
    from spikefed.report.groups import method_name
    from spikefed.report.palette import colour_of, symbol_of

    looks = {name: (colour_of(name), symbol_of(name)) for name in METHODS}
    assert len(set(looks.values())) == len(looks), looks
    runs = [Run(Path("a"), result={"method": name}) for name in METHODS]
    assert [run.method for run in runs if method_name(run) == run.method] == []


def test_an_own_method_goes_by_its_title_and_else_by_its_class() -> None:
    from spikefed.report.groups import method_name

    plain = Run(Path("a"), result={"method": "mymethods:MedianVote"})
    assert method_name(plain) == "MedianVote"
    assert method_name(replace(plain, provenance={"method_title": "Median vote"})) == "Median vote"
