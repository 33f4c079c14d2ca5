"""Whatever stands in a run's files, the report and the live page are made; nothing in them becomes markup."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from report.synthetic import make_run
from spikefed.report import load_run, write_report
from spikefed.report.curves import curve_of
from spikefed.report.live import state_of
from spikefed.report.write import render

ODD: list[Any] = [None, True, -1, 1e400, "text", "</script><b>", [], [None], ["x"], [[1, "y"]], {}, {"client": None}]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", rounds=2, drop=True, streams=True)


def assert_readable(folder: Path) -> str:
    page = render([load_run(folder)])
    assert state_of(folder, "")["live"]["name"]
    data = page[page.index('id="data">') :]
    json.loads(data[len('id="data">') : data.index("</script>")])  # one JSON value, not cut off by what was in it
    return page


def damaged(whole: Path, folder: Path, file: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    for source in whole.iterdir():
        if source.is_file():
            (folder / source.name).write_bytes(source.read_bytes())
    (folder / file).write_text(text)
    return folder


@pytest.mark.parametrize("name", ["metrics.jsonl", "ledger.jsonl", "provenance.json", "result.json", "energy.json"])
def test_a_key_may_hold_anything(whole: Path, tmp_path: Path, name: str) -> None:
    lines = [json.loads(line) for line in (whole / name).read_text().splitlines()]
    for key in lines[-1]:
        for odd in ODD:
            changed = [*lines[:-1], lines[-1] | {key: odd}]
            assert_readable(damaged(whole, tmp_path / "run", name, "".join(json.dumps(x) + "\n" for x in changed)))


@pytest.mark.parametrize("inside", ["clients", "dropped", "seconds", "firing_rates", "confusion", "class_spikes"])
def test_what_is_nested_may_hold_anything(whole: Path, tmp_path: Path, inside: str) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    for odd in ODD:
        nest = lines[-1][inside]
        worse = {k: odd for k in nest} if isinstance(nest, dict) else [odd, *nest[1:]]
        text = "".join(json.dumps(x) + "\n" for x in [*lines[:-1], lines[-1] | {inside: worse}])
        assert_readable(damaged(whole, tmp_path / "run", "metrics.jsonl", text))
        if inside == "clients":
            for key in nest[0]:
                text = json.dumps(lines[-1] | {inside: [nest[0] | {key: odd}, *nest[1:]]})
                assert_readable(damaged(whole, tmp_path / "run", "metrics.jsonl", text))


@pytest.mark.parametrize("config", ["rounds = 'x'\nseed = 'y'\n", "data = 3\nmethod = []\nnetwork = 1.5\nrun = 'a'\n"])
def test_a_config_may_hold_anything(whole: Path, tmp_path: Path, config: str) -> None:
    folder = damaged(whole, tmp_path / "run", "config.toml", config)
    assert_readable(folder)
    (folder / "result.json").unlink()
    assert_readable(folder)


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=1)
    result = json.loads((folder / "result.json").read_text())
    evil = '<img src=x onerror="alert(1)">'
    changed = result | {"name": evil, "dataset": evil, "method": evil, "label": evil}
    (folder / "result.json").write_text(json.dumps(changed))
    page = assert_readable(folder)
    library = page[page.index('<script type="text/plain" id="plotly"') : page.rindex("<script>")]
    assert "<img src" not in page.replace(library, "")


@pytest.mark.parametrize("name", ["metrics.jsonl", "ledger.jsonl", "provenance.json", "result.json", "config.toml"])
def test_bytes_that_are_no_text_are_named(whole: Path, tmp_path: Path, name: str) -> None:
    folder = damaged(whole, tmp_path / "run", name, "")
    (folder / name).write_bytes(bytes(range(256)) * 4)
    assert_readable(folder)
    assert load_run(folder).troubles


def told(folder: Path, tmp_path: Path) -> list[str]:
    """What the report says of a folder, on the page as to its caller."""
    said: list[str] = []
    page = unescape(write_report([folder], tmp_path / "r.html", warn=said.append).read_text(encoding="utf-8"))
    summary = page[page.index('id="summary"') : page.index('id="accuracy"')]
    said = [sentence.removeprefix(f"{folder}: ") for sentence in said]
    assert all(sentence in summary for sentence in said)
    return said


def test_a_whole_run_has_nothing_to_say(whole: Path, tmp_path: Path) -> None:
    assert told(whole, tmp_path) == []
    for method in ("local", "central"):
        assert told(make_run(tmp_path / method, method=method, rounds=1), tmp_path) == []


@pytest.mark.parametrize("instead", ['{"round": 1, "direct', '{"round":1,"direction":"up","encoded_bytes":null}', None])
def test_a_ledger_that_lacks_a_message_is_named(whole: Path, tmp_path: Path, instead: str | None) -> None:
    lines = (whole / "ledger.jsonl").read_text().splitlines()
    lines[2:3] = [] if instead is None else [instead]
    said = told(damaged(whole, tmp_path / "run", "ledger.jsonl", "\n".join(lines) + "\n"), tmp_path)
    assert said[-1] == (
        "ledger.jsonl adds up to 140,336 B upstream where result.json says 160,384 B; "
        "bytes by codec are those of the ledger"
    )
    torn = instead is not None and not instead.endswith("}")
    assert said[:-1] == (["line 3 of ledger.jsonl is torn and was left out"] if torn else [])


def test_rounds_that_only_the_summary_has_are_filled_in_and_named(whole: Path, tmp_path: Path) -> None:
    folder = damaged(whole, tmp_path / "run", "metrics.jsonl", "")
    assert told(folder, tmp_path) == [
        "metrics.jsonl lacks rounds 1 to 2 of 2; accuracy and bytes there are those of result.json, all else is missing"
    ]
    curves = [curve_of(load_run(f)) for f in (whole, folder)]
    assert curves[0] == curves[1] and curves[1].rounds == [1, 2]
    first, _ = (whole / "metrics.jsonl").read_text().splitlines()
    said = told(damaged(whole, tmp_path / "torn", "metrics.jsonl", f'{first}\n{{"round": 2, "serv\n'), tmp_path)
    assert [s.split(" ")[:4] for s in said] == [["the", "last", "line", "of"], ["metrics.jsonl", "lacks", "round", "2"]]


def test_bytes_and_rounds_on_which_the_files_disagree_are_named(whole: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    lines[1]["upstream_bytes_total"] += 1
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert told(damaged(whole, tmp_path / "run", "metrics.jsonl", text), tmp_path) == [
        "metrics.jsonl and result.json disagree on upstream_bytes up to round 2: 160,385 B and 160,384 B"
    ]
    result = json.loads((whole / "result.json").read_text()) | {"rounds": 5}
    assert told(damaged(whole, tmp_path / "five", "result.json", json.dumps(result)), tmp_path) == [
        "the run finished 5 rounds by its result.json, and only 2 can be read"
    ]


def test_a_finished_run_that_was_taken_up_again_agrees_with_its_first_end(whole: Path, tmp_path: Path) -> None:
    result = json.loads((whole / "result.json").read_text())
    first_end = result | {"rounds": 1, "curve": result["curve"][:1]}
    assert told(damaged(whole, tmp_path / "run", "result.json", json.dumps(first_end)), tmp_path) == []


def test_a_table_of_codecs_says_whose_messages_it_adds_up(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), seed=seed, rounds=1) for seed in range(2)]
    assert "every message of every run" in render([load_run(run) for run in runs])
    (runs[0] / "ledger.jsonl").unlink()
    assert "every message of the 1 of 2 runs that have a ledger" in render([load_run(run) for run in runs])
