"""Runs whose clients remember tasks: what changes, what travels, stopped and resumed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from experiment.test_stages import FSD, tables
from experiment.test_ticket_runs import Interrupted, Stops
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.federated import method
from spikefed.federated.history import History
from spikefed.federated.memory import MEMORY, Remembering

OPTIONS: dict[str, dict[str, Any]] = {
    "ewc": {"strength": 100.0, "samples": 8},
    "lwf": {"strength": 1.0},
    "exemplars": {"per_class": 2},
}
TASKS = {"classes": 2, "order": "latin", "heads": "task"}
TRAINING = {"local_epochs": 1, "local_batch": 16, "lr": 0.01}


def told(key: str, name: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    training = {**TRAINING, key: OPTIONS[key]} if key else TRAINING
    return tables(name or {"name": "fedavg"}, TASKS, training=training, **changes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(spikefed.run(told(""), out=tmp_path_factory.mktemp("plain") / "run"))


@pytest.mark.parametrize("key", OPTIONS)
def test_it_changes_the_second_task_alone_and_not_what_travels(key: str, plain: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(told(key), out=tmp_path / "run"))
    before, after = (each.read_lines(each.metrics) for each in (plain, folder))
    assert [x["server_loss"] == y["server_loss"] for x, y in zip(before, after, strict=True)][2:] == [False, False]
    assert before[0]["server_loss"] == after[0]["server_loss"]
    for way in ("upstream_bytes", "downstream_bytes"):
        assert [line[way] for line in before] == [line[way] for line in after]


@pytest.mark.slow
@pytest.mark.parametrize("key", OPTIONS)
def test_killed_and_resumed_it_is_identical_also_over_processes(key: str, tmp_path: Path) -> None:
    whole = fingerprint(spikefed.run(told(key), out=tmp_path / "whole"))
    for workers in (1, 2):
        own = told(key, run={"threads": 1, "workers": workers})
        out = tmp_path / f"parts{workers}"
        for rounds in (1, 2):
            with pytest.raises(Interrupted):
                spikefed.run(own, out=out, resume=out.exists(), progress=Stops(rounds))
        assert fingerprint(spikefed.run(own, out=out, resume=True)) == whole


@pytest.mark.parametrize("name", ["fsd", "scaffold", "local", "central"])
def test_other_methods_remember_too(name: str, tmp_path: Path) -> None:
    own = {**FSD, "name": name} if name == "fsd" else {"name": name}
    folder = RunFolder(spikefed.run(told("exemplars", own), out=tmp_path / "run"))
    tree = History(folder.checkpoints, configs.load(folder.config).hash()).latest(pytest.fail)
    assert tree is not None and tree["clients"]
    for client in tree["clients"].values():
        kept = client["state"][MEMORY]["exemplars"]
        assert sorted(set(kept["tasks"].tolist())) == [0, 1] and len(kept["images"]) == len(kept["tasks"])


def test_exemplars_are_the_clients_own_images_and_stay_with_it() -> None:
    federation = build(configs.from_tree(told("exemplars")))
    steps = Remembering(method("fedavg"))
    state: dict[str, Any] = {}
    for round in (1, 3):
        ctx = federation.client_context(0, round)
        before = {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()}
        after, uplink, _ = steps.client_round(state, None, ctx)
        assert state.keys() == before.keys()  # a step is pure
        assert uplink is not None and set(uplink.tensors) <= set(federation.networks.roles)
        state = after
    kept = state[MEMORY]["exemplars"]
    assert kept["tasks"].tolist() == [0] * 10 + [1] * 10
    own = federation.labelled(federation.split.clients[0].train)
    assert all(any(torch.equal(image, held) for held in own.images) for image in kept["images"])
    assert set(state[MEMORY]["learned"]) == {"0", "1"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no stages": ({"stages": {}, "rounds": 2}, r"training\.ewc remembers tasks, and the run has none; add a table"),
    "off": ({"training": {"lwf": {"temperature": 3.0}}}, r"training\.lwf is off; set training\.lwf\.strength = 1\.0"),
    "none kept": (
        {"training": {"exemplars": {"strength": 2.0}}},
        r"training\.exemplars is off; set training\.exemplars\.per_class = 10",
    ),
    "method": (
        {"method": {"name": "tickets", "sparsities": [0.5], "search": "random", "level_rounds": 4}},
        r"does not go with method 'tickets'",
    ),
    "privacy": (
        {
            "training": {**TRAINING, "ewc": OPTIONS["ewc"], "privacy": {"clip": 1.0}},
            "network": {"name": "4C3-AP2", "steps": 4, "norm": "none"},
        },
        r"training\.privacy clips those of single samples",
    ),
    "negative": ({"training": {"ewc": {"strength": -1.0}}}, r"training\.ewc\.strength"),
    "strange": ({"training": {"ewc": {"lambda": 1.0}}}, r"unknown key 'training\.ewc\.lambda'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_do_not_fit_are_one_sentence(what: str, tmp_path: Path) -> None:
    changes, sentence = REFUSED[what]
    with pytest.raises(ConfigError, match=sentence):
        spikefed.run({**told("ewc"), **changes}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_off_it_leaves_the_hash_as_it_was() -> None:
    assert configs.from_tree(told("")).hash() == configs.from_tree(told(""), ["training.ewc.samples=64"]).hash()
    assert configs.from_tree(told("")).hash() != configs.from_tree(told("ewc")).hash()
