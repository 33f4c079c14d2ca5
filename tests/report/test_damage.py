"""Whatever stands in a run's files, the report and the live page are made; nothing in them becomes markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from report.synthetic import make_run
from spikefed.report import load_run
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
    assert "<img src" not in page.replace(page[page.index("<script>/**") : page.rindex("<script>")], "")


@pytest.mark.parametrize("name", ["metrics.jsonl", "ledger.jsonl", "provenance.json", "result.json", "config.toml"])
def test_bytes_that_are_no_text_are_named(whole: Path, tmp_path: Path, name: str) -> None:
    folder = damaged(whole, tmp_path / "run", name, "")
    (folder / name).write_bytes(bytes(range(256)) * 4)
    assert_readable(folder)
    assert load_run(folder).problems or name == "ledger.jsonl"
