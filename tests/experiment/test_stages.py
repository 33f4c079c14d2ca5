"""Runs of stages: every method, stopped and resumed, over processes; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.runs import fingerprint
from experiment.test_ticket_runs import Interrupted, Stops
from spikefed import data
from spikefed.errors import ConfigError, DataError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.federated import method

FSD = {"name": "fsd", "distil_epochs": 1, "server_epochs": 1, "distil_batch": 8}


def tables(method: dict[str, Any], stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "rounds": 4,
        "data": {"clients": 2, "private_per_client": 80, "public": 20, "test_limit": 60},
        "network": {"name": "4C3-AP2", "steps": 4},
        "training": {"local_epochs": 1, "local_batch": 16},
        "run": {"threads": 1},
        "method": method,
        "stages": {"rounds": 2, **stages},
        **changes,
    }


RUNS: dict[str, dict[str, Any]] = {
    "fedavg": tables({"name": "fedavg"}, {"classes": 2, "order": "latin", "heads": "task"}),
    "fsd": tables(FSD, {"rotations": [0, 90], "order": "random"}),
    "fsd+": tables({**FSD, "name": "fsd+"}, {"ranges": [[0, 255], [255, 0]], "heads": "task"}),
    "fedadam": tables({"name": "fedadam"}, {"permutations": 2, "order": [[0, 1], [1, 0]]}),
    "fd": tables({"name": "fd"}, {"classes": 2, "order": "latin", "heads": "task"}),
    "local": tables({"name": "local"}, {"classes": [[0, 1, 2], [5, 7]]}),
    "central": tables({"name": "central"}, {"classes": 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fedavg", "fsd+"])
def test_killed_in_any_stage_and_resumed_it_is_identical_also_over_processes(name: str, tmp_path: Path) -> None:
    whole = fingerprint(spikefed.run(RUNS[name], out=tmp_path / "whole"))
    for workers in (1, 2):
        told = {**RUNS[name], "run": {"threads": 1, "workers": workers}}
        out = tmp_path / f"parts{workers}"
        for rounds in (1, 2):  # within the first stage, then within the second
            with pytest.raises(Interrupted):
                spikefed.run(told, out=out, resume=out.exists(), progress=Stops(rounds))
        assert fingerprint(spikefed.run(told, out=out, resume=True)) == whole


@pytest.mark.parametrize("name", RUNS)
def test_every_method_runs_under_stages_and_reports_its_matrix(name: str, tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(RUNS[name], out=tmp_path / "run"))
    lines = folder.read_lines(folder.metrics)
    told = folder.read_result()["stages"]
    assert [line["stage"] for line in lines] == [0, 0, 1, 1]
    for key in ("known", "unknown"):
        ends = [line["task_accuracy"][key] for line in lines if line["round"] in (2, 4)]
        if key in told:
            assert told[key]["matrix"] == ends and len(told[key]["start"]) == 2
    assert ("known" in told) == (RUNS[name]["stages"].get("heads") == "task") and "unknown" in told
    assert sum(told["upstream_bytes"]) == lines[-1]["upstream_bytes_total"]


def test_a_client_sees_the_images_of_its_task_and_no_others() -> None:
    federation = build(configs.from_tree(RUNS["fedavg"]))
    calendar = federation.stages.calendar if federation.stages else None
    assert calendar is not None and calendar.orders == ((0, 1), (1, 0))
    for client in (0, 1):
        for round in (1, 2, 3, 4):
            ctx = federation.client_context(client, round)
            task = calendar.task(client, round)
            own = (0, 1, 2, 3, 4) if task == 0 else (5, 6, 7, 8, 9)
            assert ctx.task == task and ctx.outputs == own
            assert len(ctx.train) and set(ctx.train.labels.tolist()) <= set(own)
            assert set(ctx.validation.labels.tolist()) <= set(own)
    rows = [len(federation.client_context(0, r).train) for r in (1, 3)]
    assert sum(rows) == len(federation.split.clients[0].train)


def test_a_head_of_its_own_learns_nothing_for_other_tasks() -> None:
    federation = build(configs.from_tree(RUNS["fedavg"]))
    ctx = federation.client_context(0, 1)

    uplink: Any = method("fedavg").client_round({}, None, ctx)[1]
    last = [n for n in uplink.tensors if n.endswith("weight")][-1]
    before = federation.networks.initial()[last]
    assert torch.equal(torch.from_numpy(uplink.tensors[last].copy())[5:], before[5:])
    assert not torch.equal(torch.from_numpy(uplink.tensors[last].copy())[:5], before[:5])


def test_drift_of_clients_is_told_of_what_they_trained() -> None:
    federation = build(configs.from_tree(RUNS["fedavg"]))
    steps = method("fedavg")
    state, _ = steps.init_server(federation.context(0))
    uplinks: dict[int, Any] = {c: steps.client_round({}, None, federation.client_context(c, 1))[1] for c in (0, 1)}
    _, _, diagnostics = steps.server_round(state, uplinks, federation.context(1))
    moved = [
        {n: torch.from_numpy(a.copy()) - state["weights"][n] for n, a in u.tensors.items()} for u in uplinks.values()
    ]
    named = [n for n in moved[0] if n not in federation.networks.buffers]
    flat = [torch.cat([own[n].double().flatten() for n in named]) for own in moved]
    shares = [diagnostics.weights[c] for c in (0, 1)]
    mean = shares[0] * flat[0] + shares[1] * flat[1]
    apart = [float((own - mean).norm() / mean.norm()) for own in flat]
    assert diagnostics.values["drift_ratio"] == pytest.approx(sum(apart) / 2)


def test_known_tasks_are_easier_than_unknown_ones(tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(RUNS["fedavg"], out=tmp_path / "run"))
    told = folder.read_result()["stages"]
    pairs = zip(told["known"]["matrix"], told["unknown"]["matrix"], strict=True)
    assert all(a >= b for known, unknown in pairs for a, b in zip(known, unknown, strict=True))


def test_a_share_on_a_device_gives_the_same_tasks(tmp_path: Path) -> None:
    from spikefed.deploy.shares import read_share, write_shares

    config = configs.from_tree(RUNS["fsd+"])
    federation = build(config)
    for client, path in enumerate(write_shares(config, tmp_path)[:2]):
        share = read_share(config, client, path)
        for round in (1, 4):
            here, there = (f.client_context(client, round) for f in (federation, share))
            assert torch.equal(here.train.images, there.train.images) and here.task == there.task
            assert torch.equal(here.validation.labels, there.validation.labels) and here.outputs == there.outputs


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no task": ({"order": "latin"}, r"\[stages\] names no tasks; set one of stages\.classes"),
    "two kinds": ({"classes": 2, "rotations": [0, 90]}, "both classes and rotations"),
    "one task": ({"rotations": [90]}, "gives one task, and stages need two"),
    "rounds": ({"classes": 5}, "5 stages of 2 rounds are 10 rounds, but the run has 4; set rounds = 10"),
    "length": ({"classes": 2, "order": [[0, 1]]}, "has 1 order for 2 clients"),
    "no order": ({"classes": 2, "order": [[0, 1], [0, 0]]}, r"client 1 is \[0, 0\], which is no order of the 2 tasks"),
    "twice": ({"classes": [[0, 1], [1, 2]]}, "class 1 twice"),
    "short order": ({"classes": 2, "order": [[0, 1], [0]]}, r"client 1 is \[0\], which is no order of the 2 tasks"),
    "negative": ({"classes": [[0, 1], [-1]]}, "class -1; classes count from 0"),
    "empty": ({"classes": [[0, 1], []]}, r"'stages\.classes\.1' = \[\] .* at least 1 item"),
    "no word": ({"classes": 2, "order": "foo"}, r"'stages\.order' = 'foo' .* 'same', 'random' or 'latin'"),
    "one order": ({"classes": 2, "order": [0, 1]}, r"'stages\.order\.0' = 0 .* valid list"),
    "first set": ({"datasets": ["mnist", "digits"]}, "begins with 'mnist', and data.dataset is 'digits'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_do_not_fit_are_one_sentence(what: str, tmp_path: Path) -> None:
    stages, sentence = REFUSED[what]
    with pytest.raises(ConfigError, match=sentence):
        spikefed.run(tables({"name": "fedavg"}, stages), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_client_without_images_of_a_task_is_named(tmp_path: Path) -> None:
    skewed = tables({"name": "fedavg"}, {"classes": 2})
    skewed["data"] = {**skewed["data"], "clients": 5, "partition": "shards", "shards_per_client": 1}
    with pytest.raises(DataError, match=r"client \d has no training images of task \d"):
        spikefed.run(skewed, out=tmp_path / "run")
    with pytest.raises(DataError, match="names class 12, but digits has classes 0 to 9"):
        spikefed.run(tables({"name": "fedavg"}, {"classes": [[0, 1], [12]]}), out=tmp_path / "run")


def test_a_task_without_images_is_named(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (240, 1, 8, 8), generator=draws, dtype=torch.uint8).numpy()
    labels = (torch.arange(240) % 3).numpy()
    for train, test, part in ((labels.clip(max=1), labels, "training"), (labels, labels.clip(max=1), "test")):
        told = tables({"name": "fedavg"}, {"classes": [[0, 1], [2]]})
        with pytest.raises(DataError, match=f"task 1 has no {part} images"):
            spikefed.run(told, dataset=((images, train), (images, test)), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def bright_rows(name: str, split: str, count: int, seed: int) -> data.ImageSet:
    """A tiny set in the shape of MNIST: each class has bright rows of its own."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 1, 28, 28), generator=draws, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label + seed : 2 * label + seed + 3] = 255
    return data.ImageSet(name, split, images, labels, 10)


@pytest.mark.parametrize("heads", ["one", "task"])
@pytest.mark.parametrize("names", [["mnist", "fashion-mnist"], ["digits", "mnist"]])
def test_tasks_by_data_set_from_images_to_the_matrix(
    names: list[str], heads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the second pair the other set is brought to 8x8; with heads by task there are 20 outputs."""
    real = data.load_sources

    def sources(name: str, *given: Any, **more: Any) -> data.Sources:
        if name == "digits":
            return real(name, *given, **more)
        seed = ("mnist", "fashion-mnist").index(name)
        return data.Sources(bright_rows(name, "train", 200, seed), bright_rows(name, "test", 60, seed))

    monkeypatch.setattr(data, "load_sources", sources)
    told = tables({"name": "fedavg"}, {"datasets": names, "order": "latin", "heads": heads})
    told["data"] = {"dataset": names[0], "clients": 2, "private_per_client": 60, "public": 20, "test_limit": 40}
    federation = build(configs.from_tree(told))
    side = 28 if names[0] == "mnist" else 8
    assert tuple(federation.train.shape) == (1, side, side)
    assert federation.train.classes == (20 if heads == "task" else 10)
    tasks = federation.train.columns[data.TASK]
    assert {int(federation.train.labels[tasks == 1].min())} == ({10} if heads == "task" else {0})
    folder = RunFolder(spikefed.run(told, out=tmp_path / "run"))
    assert len(folder.read_result()["stages"]["known" if heads == "task" else "unknown"]["matrix"]) == 2


def test_without_stages_nothing_is_said_of_them(tiny: dict[str, Any], tmp_path: Path) -> None:
    assert "stages" not in configs.from_tree(tiny).resolved()
    folder = RunFolder(spikefed.run(tiny, out=tmp_path / "run"))
    assert "stages" not in folder.read_result() and "stage" not in folder.read_lines(folder.metrics)[0]
    assert data.TASK not in build(configs.from_tree(tiny)).train.columns
