"""scripts/last_server.py does a run's last server round again; scripts/skew.py measures clients from a checkpoint."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from spikefed.experiment import build, from_tree

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = {
        "name": "votes",
        "rounds": 2,
        "data": {"clients": 3, "private_per_client": 40, "public": 60, "test_limit": 50},
        "network": {"name": "4C3-AP2-12FC", "steps": 4},
        "training": {"local_epochs": 2, "local_batch": 8, "lr": 1e-2},
        "method": {"name": "fsd+", "distil_lr": 1e-2},
        "run": {"threads": 1, "take_home": True},
    }
    return spikefed.run(experiment, out=tmp_path_factory.mktemp("votes") / "run")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module(name)


def test_with_the_runs_settings_the_round_comes_out_as_it_did(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = script("last_server", monkeypatch)
    row = last.again(run, [])
    federation = build(from_tree(spikefed.load_run(run).config))
    images, labels = last._unused(federation)
    model = spikefed.load_model(run)
    with torch.no_grad():
        said = model.network(federation.preprocess(images)).mean(dim=0).argmax(dim=1)
    assert row["accuracy"] == pytest.approx(float((said == labels).float().mean()))
    assert last.again(run, ["method.server_epochs=1"])["values"] != row["values"]


def test_a_fresh_server_may_be_another_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = script("last_server", monkeypatch)
    larger = ["network.name=6C3-AP2-12FC", 'network.clients=["4C3-AP2-12FC"]']
    row = last.again(run, ["method.server_epochs=1", *larger], fresh=True)
    assert row["fresh"] and 0.0 < row["accuracy"] < 1.0
    same = last.again(run, ["method.server_epochs=1"], fresh=True)
    assert same["values"]["server_distil_loss"] > last.again(run, [])["values"]["server_distil_loss"]
    assert same["values"]["agreement"] == row["values"]["agreement"], "the same votes"


def test_the_images_measured_on_are_nobodys(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = script("last_server", monkeypatch)
    federation = build(from_tree(spikefed.load_run(run).config))
    _, labels = last._unused(federation)
    assert len(labels) == len(federation.train) - 3 * 40 - 60 > 0


def test_what_clients_take_home_is_found_again_in_the_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = script("skew", monkeypatch)._taken_home(run)
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert found == {key: line[key] for key in ("clients_accuracy_mean", "vote_accuracy")}


def test_points_are_those_beyond_the_first_row_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    last = script("last_server", monkeypatch)
    told = [("as it was", 1, 0.8), ("flips", 1, 0.8125), ("as it was", 2, 0.5), ("flips", 2, 0.49)]
    rows = [{"name": n, "dataset": "digits", "partition": "iid", "seed": s, "accuracy": a} for n, s, a in told]
    lines = last.table(rows).splitlines()[2:]
    assert [line.split("|")[4].strip() for line in lines] == ["", "+1.25", "", "-1.00"]


def test_the_page_has_the_table_of_todays_results(monkeypatch: pytest.MonkeyPatch) -> None:
    last = script("last_server", monkeypatch)
    assert last.table(json.loads(last.KEPT.read_text())) in last.PAGE.read_text()
