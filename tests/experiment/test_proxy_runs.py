"""Runs with NetTailor's proxies: what travels and freezes, what the server drops, stopped and resumed, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

import spikefed
from experiment.runs import fingerprint
from experiment.test_adapter_runs import DATA
from experiment.test_ticket_runs import Interrupted, Stops
from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, probe_run
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.plan import plan
from spikefed.federated import method
from spikefed.federated.methods.adapters import Adapters
from spikefed.federated.setup import Setup
from spikefed.networks import read_tensors
from spikefed.networks.proxies import DROPPED
from spikefed.networks.roles import task

NETWORK = {"name": "4C3-AP2-6C3-6C3-AP2", "steps": 3, "norm": "bn"}
TAILOR = {"teacher_epochs": 1, "drop_after": 1, "drop_below": 0.2, "drop_blocks": 1}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("parent") / "run"
    told = {"name": "parent", "rounds": 1, "data": DATA, "network": NETWORK, "method": {"name": "fedavg"}}
    return str(spikefed.run({**told, "training": {"local_epochs": 2, "lr": 0.01}, "run": {"threads": 1}}, out=out))


def tables(parent: str, tailor: dict[str, Any] | None = None, **own: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "rounds": 4,
        "data": DATA,
        "network": {**NETWORK, "start": parent, "adapters": {"kinds": ["proxy1x1", "head"]}},
        "training": {"local_epochs": 1, "local_batch": 16, "lr": 0.01},
        "run": {"threads": 1},
        "method": {"name": "adapters", "tailor": TAILOR if tailor is None else tailor, **own},
        "stages": {"rotations": [0, 90], "rounds": 2, "order": [[0, 1], [1, 0]], "heads": "one"},
    }


def test_blocks_are_dropped_for_all_and_the_parent_stays_to_the_bit(parent: str, tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(tables(parent), out=tmp_path / "run"))
    begun, ended = (read_tensors(RunFolder(path).model).tensors for path in (Path(parent), folder.path))
    assert all(torch.equal(ended[name], tensor) for name, tensor in begun.items())
    model = spikefed.load_model(folder.path)
    whole = networks.build(**{**NETWORK, "input_shape": (1, 8, 8), "classes": 10})
    numbers = sum(t.numel() for t in networks.state_tensors(whole).values())
    for number in (0, 1):
        choices = [t for n, t in ended.items() if n.endswith(f"{number}.proxies.choice")]
        assert sum(bool(t[0] < DROPPED / 2) for t in choices) == 1
        networks.select_task(model.network, number)
        size = networks.task_size(model.network)
        assert size.frozen < numbers and size.macs < 1
    for probe in ("sparsity", "rates"):  # what was dropped is silent for whoever watches layers
        assert probe_run(folder.path, probe)["measurements"][-1]["records"]
    rows = {row.kind: row for row in networks.adapter_rows(model.network)}
    sent = folder.read_lines(folder.metrics)[0]["upstream_bytes"] / 2
    own = rows["proxy1x1"].bytes + rows["head"].bytes
    assert own < sent < own + 1200  # a task's parts, and names


def test_parts_of_absent_tasks_stay_and_those_of_a_task_are_merged(parent: str) -> None:
    told = tables(parent, server="adam")
    federation = build(configs.from_tree(told))
    steps = method("adapters")
    state, _ = steps.init_server(federation.context(0))
    uplink: Any = steps.client_round({}, None, federation.client_context(0, 1))[1]
    after, _, _ = steps.server_round(state, {0: uplink}, federation.context(1))
    roles = federation.networks.roles
    moved = {n for n, t in after["weights"].items() if not torch.equal(t, state["weights"][n])}
    assert {roles[name] for name in moved} == {task(0)}
    assert any(".proxies.proxies." in name for name in moved) and any(name.endswith("choice") for name in moved)
    means = [n for n in moved if n.endswith("running_mean")]
    assert means and all(torch.equal(after["weights"][n], torch.from_numpy(uplink.tensors[n].copy())) for n in means)


@pytest.mark.slow
@pytest.mark.parametrize("personal", [[], ["proxy1x1"]])
def test_killed_and_resumed_it_is_identical_also_over_processes(
    personal: list[str], parent: str, tmp_path: Path
) -> None:
    told = tables(parent, server="yogi", personal=personal)
    whole = fingerprint(spikefed.run(told, out=tmp_path / "whole"))
    for workers in (1, 2):
        own = {**told, "run": {"threads": 1, "workers": workers}}
        out = tmp_path / f"parts{workers}"
        for rounds in (1, 2):
            with pytest.raises(Interrupted):
                spikefed.run(own, out=out, resume=out.exists(), progress=Stops(rounds))
        assert fingerprint(spikefed.run(own, out=out, resume=True)) == whole


def test_the_teacher_is_kept_through_the_stage_and_another_task_has_another(parent: str) -> None:
    federation = build(configs.from_tree(tables(parent, {**TAILOR, "imitation": 1.0})))
    steps = method("adapters")
    states = [{}]
    for round in (1, 2, 3):
        states.append(steps.client_round(states[-1], None, federation.client_context(0, round))[0])
    first, second, third = (state["teacher"] for state in states[1:])
    assert [kept["task"] for kept in (first, second, third)] == [0, 0, 1]
    assert all(torch.equal(second["weights"][name], t) for name, t in first["weights"].items())
    assert any(not torch.equal(third["weights"][name], t) for name, t in first["weights"].items())


REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "no proxies": ({"complexity": 1.0}, ["head"], "the tasks have none; add 'proxy1x1'"),
    "no round": ({"drop_blocks": 1}, ["proxy1x1"], "says what is dropped and not when; set"),
    "too late": ({"drop_after": 2}, ["proxy1x1"], "leaves no round to train what is left, as a stage has 2"),
    "too many": ({"drop_after": 1, "drop_blocks": 3}, ["proxy1x1"], "has 2 blocks that proxies go around"),
    "unknown": ({"gamma": 1.0}, ["proxy1x1"], "gamma"),
    "large": ({"drop_after": 1, "drop_below": 0.9}, ["proxy1x1"], "less than or equal to 0.5|at most 0.5"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_do_not_fit_are_one_sentence(what: str, parent: str, tmp_path: Path) -> None:
    tailor, kinds, sentence = REFUSED[what]
    told = tables(parent, tailor)
    told["network"]["adapters"] = {"kinds": kinds}
    with pytest.raises(ConfigError, match=sentence):
        spikefed.run(told, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [[[0, 1], [2, 3]], [[0, 1, 2, 3, 4, 5], [6, 7]]])
def test_a_plan_knows_the_parts_of_tasks_that_it_did_not_try(
    classes: list[list[int]], parent: str, tmp_path: Path
) -> None:
    told = tables(parent)
    told["rounds"] = 8
    told["stages"] = {"classes": classes, "rounds": 4, "heads": "task"}
    file = tmp_path / "tiny.toml"
    file.write_text(tomli_w.dumps(told))
    planned = plan(file)
    result = json.loads((spikefed.run(file, out=tmp_path / "run") / "result.json").read_text())
    assert planned.exact == (len(classes[0]) == len(classes[1]))
    exact = (result["upstream_bytes"], result["downstream_bytes"])
    wanted = exact if planned.exact else pytest.approx(exact, rel=0.01)
    assert (planned.upstream_bytes, planned.downstream_bytes) == wanted


@pytest.mark.parametrize("key", ["drop_after", "tasks"])
def test_without_stages_there_is_one_task_of_all_rounds(key: str, parent: str, tmp_path: Path) -> None:
    told = tables(parent, {"drop_after": 4 if key == "drop_after" else 1})
    del told["stages"]
    told["rounds"] = 4
    if key == "tasks":
        told["network"]["adapters"]["tasks"] = 2
    sentence = {"drop_after": "leaves no round .* the run has 4", "tasks": "a run without .stages. trains one task"}
    with pytest.raises(ConfigError, match=sentence[key]):
        spikefed.run(told, out=tmp_path / "run")


def test_where_rounds_are_not_known_none_is_too_late() -> None:
    hyper = Adapters.hyperparameters.model_validate({"tailor": {"drop_after": 3}})
    Adapters().check(hyper, Setup())
    Adapters().check(hyper, Setup(rounds=4))
    with pytest.raises(ConfigError, match="as the run has 3"):
        Adapters().check(hyper, Setup(rounds=3))
