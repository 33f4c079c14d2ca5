"""Search files: from a TOML file to a folder, killed and gone on with, every wrong file one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiment.killing import check_killed_is_whole
from spikefed.errors import ConfigError, DataError
from spikefed.experiment import from_tree, load
from spikefed.experiment.build import build
from spikefed.experiment.folder import records
from spikefed.experiment.search import SearchFolder, read_search, run_search, task_of
from spikefed.report.search import search_text, write_search_page

FILE = """
name = "tiny"
[data]
dataset = "digits"
clients = 3
public = 60
[network]
steps = 2
[search]
sizes = "width=2,hidden=8,vote=1"
strategy = "evolution"
cells = 48
images = 8
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "search.toml"
    path.write_text(FILE)
    return path


def untimed(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: untimed(value) for key, value in tree.items() if key != "seconds"}
    return [untimed(item) for item in tree] if isinstance(tree, list) else tree


def test_a_search_ends_with_a_network_that_an_experiment_uses(file: Path, tmp_path: Path) -> None:
    folder = SearchFolder(run_search(file, out=tmp_path / "out"))
    found = json.loads(folder.result.read_text())
    lines = records(folder.candidates)
    assert found["scored"] == len(lines) == len({line["cell"] for line in lines})
    assert found["front"][0]["sahd"] == max(line["sahd"] for line in lines)
    network = {"name": found["best"], "steps": 2, "readout": "current"}
    config = from_tree({"data": {"dataset": "digits"}, "network": network, "method": {"name": "fedavg"}})
    assert sum(p.numel() for p in build(config).networks.load().parameters()) == found["front"][0]["parameters"]
    assert f'network.name = "{found["best"]}"' in search_text(folder.path)
    page = write_search_page(folder.path).read_text()
    assert found["cell"] in page and "<script" not in page and page.count("<svg") >= 3


def test_killed_at_any_time_it_ends_the_same(file: Path, tmp_path: Path) -> None:
    whole = SearchFolder(run_search(file, out=tmp_path / "whole"))
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "spikefed", "search", str(file), "--out", str(out), "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (out / "candidates.jsonl").is_file() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = SearchFolder(out)
    scored = len(records(killed.candidates))
    assert scored > 0
    run_search(file, out=out)
    assert untimed(records(killed.candidates)) == untimed(records(whole.candidates))
    assert untimed(json.loads(killed.result.read_text())) == untimed(json.loads(whole.result.read_text()))
    before = killed.candidates.read_bytes()
    run_search(file, out=out)  # a finished one is looked up, not repeated
    assert killed.candidates.read_bytes() == before


def test_a_torn_last_line_is_scored_again(file: Path, tmp_path: Path) -> None:
    whole = SearchFolder(run_search(file, out=tmp_path / "whole"))
    text = whole.candidates.read_text()
    out = tmp_path / "torn"
    out.mkdir()
    (out / "search.toml").write_bytes(whole.config.read_bytes())
    (out / "candidates.jsonl").write_text(text[: len(text) // 2])
    torn = SearchFolder(run_search(file, out=out))
    assert untimed(json.loads(torn.result.read_text())) == untimed(json.loads(whole.result.read_text()))
    assert {r["cell"] for r in records(torn.candidates)} == {r["cell"] for r in records(whole.candidates)}


def test_clients_send_scalars(file: Path, tmp_path: Path) -> None:
    given = ['search.on="clients"', 'search.strategy="random"']
    folder = SearchFolder(run_search(file, overrides=given, out=tmp_path / "out"))
    found = json.loads(folder.result.read_text())
    line = records(folder.candidates)[0]
    assert len(line["sahd_by_client"]) == 3
    assert found["upstream_bytes"] == 8 * 3 * found["scored"]
    assert 0 <= min(row["rank"] for row in found["front"]) <= max(row["rank"] for row in found["front"]) <= 1
    assert "scalars of the clients: up" in search_text(folder.path)


def test_clients_send_a_scalar_for_every_objective_that_their_images_decide(file: Path, tmp_path: Path) -> None:
    given = ['search.on="clients"', 'search.strategy="random"', "search.cells=12"]
    given += ['search.objectives=["sahd","-parameters","spikes"]']
    found = json.loads(SearchFolder(run_search(file, overrides=given, out=tmp_path / "out")).result.read_text())
    assert found["upstream_bytes"] == 2 * 8 * 3 * found["scored"]


def test_images_are_different_and_the_same_for_every_cell(file: Path) -> None:
    task = task_of(read_search(file))
    again = task_of(read_search(file))
    (batches,) = task.shown
    assert [len(batch) for batch in batches] == [8, 8]
    rows = {row.numpy().tobytes() for batch in batches for row in batch}
    assert len(rows) == 16
    assert all(a.equal(b) for a, b in zip(batches, again.shown[0], strict=True))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search.cels=3", "unknown key 'search.cels' in .*; the nearest known key is 'search.cells'"),
        ("search.limits.flsh=3", "unknown key 'search.limits.flsh'"),
        ("search.limits=3", r"'search.limits' in .* must be a table \(\[search.limits\]\), not 3"),
        ("search.cells=0", "'search.cells' = 0 in"),
        ('search.strategy="greedy"', "'search.strategy' = 'greedy' in"),
        ('search.objectives=["sadh"]', "score 'sadh' is not known; the nearest is 'sahd'"),
        ('search.objectives=["sahd","-sahd"]', "score 'sahd' stands more than once in search.objectives"),
        ('search.ops="07"', "'7' in search.ops = '07' stands for no operation"),
        ("search.ops=17", "'7' in search.ops = '17' stands for no operation"),
        ("search.cells=0", "'search.cells' = 0 in --set: Input should be greater"),
        ('network.name="small"', "names a network, and a search makes its own"),
        ('search.sizes="widht=3"', "'widht' in network.name"),
        ("search.limits.parameters=5", "none of .* cells keeps within search.limits"),
        ('search.objectives=["sahd","-macs"]', "'evolution' takes one objective"),
    ],
)
def test_wrong_files(file: Path, tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_search(file, overrides=[override], out=tmp_path / "out")


@pytest.mark.parametrize(
    ("before", "after", "override", "said"),
    [
        ("rounds = 6", "", "", "'rounds' in .*search.toml would have no effect: a search trains nothing; leave it out"),
        ("rounds = 6", '[method]\nname = "fsd"', "", "'rounds', 'method' in .*search.toml .* leave them out"),
        ("", '[[probe]]\nname = "energy"', "", "'probe' in"),
        ("", "", "rounds=6", "'rounds' in --set rounds=6 would have no effect"),
        ("", "", "network.readout=spike", "'network.readout' in --set"),
        ("", "", "run.workers=2", "'run' in --set run.workers=2 .*--workers"),
    ],
)
def test_settings_that_no_search_reads(
    file: Path, tmp_path: Path, before: str, after: str, override: str, said: str
) -> None:
    file.write_text(f"{before}\n{FILE}\n{after}")
    with pytest.raises(ConfigError, match=said):
        run_search(file, overrides=[override] if override else [], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_objectives_as_they_are_typed(file: Path) -> None:
    assert read_search(file, ["search.objectives=sahd, -parameters", "search.strategy=random"]).table.objectives == [
        "sahd",
        "-parameters",
    ]


def test_a_search_file_is_no_experiment_and_a_sweep_no_search(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a search file .*; give it to 'spikefed search'"):
        load(file)
    file.write_text('[sweep]\nname = "x"\n')
    with pytest.raises(ConfigError, match=r"has no table \[search\]; .* 'spikefed compare'"):
        read_search(file)


def test_a_search_may_extend_an_experiment(file: Path, tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('rounds = 6\n[method]\nname = "fsd"\n[network]\nreadout = "current"\n')
    file.write_text(f'extends = "base.toml"\n{FILE}')
    folder = SearchFolder(run_search(file, overrides=["search.cells=4"], out=tmp_path / "out"))
    assert folder.result.is_file()


@pytest.mark.slow
def test_a_run_of_a_found_cell_goes_on_after_a_kill(tmp_path: Path) -> None:
    """An ordinary run; the cell has edges backward in time."""
    tables = {
        "rounds": 3,
        "data": {"dataset": "digits", "clients": 2, "private_per_client": 40, "public": 30, "test_limit": 50},
        "network": {"name": "cell:0302-0030-3003-0000:width=2,hidden=8,vote=1", "steps": 2},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    check_killed_is_whole(tmp_path, tables, "spikefed.federated.methods.fedavg:FedAvg", round=2)


def test_too_few_images_and_no_table(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the public set has \d+ different images, and .* asks for 200"):
        run_search(file, overrides=["search.images=100"], out=tmp_path / "out")
    file.write_text('name = "x"\n')
    with pytest.raises(ConfigError, match=r"has no table \[search\]"):
        read_search(file)


def test_a_folder_keeps_to_its_search_and_the_budget_may_grow(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = SearchFolder(run_search(file, overrides=["search.cells=8"], out=out))
    few = records(first.candidates)
    run_search(file, out=out)
    assert records(first.candidates)[: len(few)] == few
    assert json.loads(first.result.read_text())["scored"] > len(few)
    with pytest.raises(ConfigError, match="holds a search with other settings"):
        run_search(file, overrides=["seed=1"], out=out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already holds other files"):
        run_search(file, out=tmp_path / "other")
