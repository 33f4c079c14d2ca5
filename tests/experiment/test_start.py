"""A run that begins from a trained network: everybody holds it, by role, and resumes without the other."""

from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import spikefed
from experiment.runs import Told, fingerprint
from spikefed.cli import app
from spikefed.errors import CheckpointError, ConfigError, SpikefedError
from spikefed.experiment import RunFolder, build, toml
from spikefed.experiment import config as configs
from spikefed.models import read_model
from spikefed.networks import read_tensors, roles

STILL = {"local_epochs": 0, "local_batch": 16}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spikefed.run(tables(name="before", seed=7, rounds=1), out=tmp_path_factory.mktemp("start") / "before")


def tables(**changes: Any) -> dict[str, Any]:
    base = {
        "name": "after",
        "rounds": 2,
        "data": {"clients": 2, "private_per_client": 32, "public": 20, "test_limit": 30},
        "network": {"name": "4C3-AP2-12FC", "steps": 4, "norm": "bn"},
        "training": {"local_epochs": 1, "local_batch": 16},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    return copy.deepcopy(base) | changes


def begun(trained: Path, **network: Any) -> dict[str, Any]:
    return tables()["network"] | {"start": str(trained)} | network


def tensors_of(path: Path) -> dict[str, Tensor]:
    return dict(read_tensors(path / "model.safetensors").tensors)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


DISTIL = {"distil_epochs": 0, "server_epochs": 0}


@pytest.mark.parametrize(
    "method",
    [
        {"name": "fedavg"},
        {"name": "local"},
        {"name": "central"},
        {"name": "fsd", "client_reset": "never", **DISTIL},
        {"name": "fsd", "client_reset": "own", **DISTIL},
        {"name": "fedavg", "payload": "change", "payload_down": "change"},
    ],
    ids=lambda method: "-".join(str(value) for value in method.values()),
)
def test_who_learns_nothing_ends_where_it_began(method: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    config = tables(network=begun(trained), training=STILL, method=method, run={"threads": 1, "take_home": True})
    path = spikefed.run(config, out=tmp_path / "run")
    assert same(tensors_of(path), tensors_of(trained))
    lines = RunFolder(path).read_lines(RunFolder(path).metrics)
    assert all(line["clients_accuracy_least"] == line["server_accuracy"] for line in lines)  # every client holds it too


def test_roles_that_are_not_taken_begin_anew(trained: Path) -> None:
    federation = build(configs.from_tree(tables(network=begun(trained, start_roles=["weight"]))))
    fresh = build(configs.from_tree(tables())).networks.initial()
    found, before = federation.networks.initial(), tensors_of(trained)
    for name, role in roles(federation.networks.network).items():
        assert torch.equal(found[name], before[name] if role == "weight" else fresh[name]), name


def test_one_role_may_stand_without_a_list(trained: Path) -> None:
    states = [
        build(configs.from_tree(tables(network=begun(trained, start_roles=roles)))).networks.initial()
        for roles in ("weight", ["weight"])
    ]
    assert same(*states)


def test_classes_called_by_their_numbers_are_the_same_with_and_without_names(trained: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
    labels = np.array([str(k % 10) for k in range(200)])
    path = spikefed.run(tables(network=begun(trained), training=STILL), dataset=(images, labels), out=tmp_path / "run")
    assert same(tensors_of(path), tensors_of(trained))


@pytest.mark.parametrize(
    "method",
    [
        {"name": "fedavg"},
        {"name": "local"},
        {"name": "tickets", "search": "random", "sparsities": [0.5], "level_rounds": 2},
    ],
    ids=lambda method: method["name"],
)
def test_a_round_of_a_run_is_what_a_run_of_so_many_rounds_ends_with(method: dict[str, Any], tmp_path: Path) -> None:
    longer = spikefed.run(tables(method=method, rounds=2, name="one"), out=tmp_path / "longer")
    shorter = tmp_path / "shorter"
    shutil.copytree(longer, shorter)
    begins = build(configs.from_tree(tables(network=begun(Path(f"{longer}@1"))))).start
    ends = build(configs.from_tree(tables(network=begun(Path(f"{longer}@2"))))).start
    assert begins is not None and ends is not None and begins.facts.round == 1
    assert ends.content == (longer / "model.safetensors").read_bytes()
    assert begins.content != ends.content and bool(begins.pruned) == bool(ends.pruned) == (method["name"] == "tickets")
    (shorter / "model.safetensors").unlink()  # as of a run that has not ended
    again = build(configs.from_tree(tables(network=begun(Path(f"{shorter}@1"))))).start
    assert again is not None and again.content == begins.content


def test_a_run_goes_on_from_a_round_that_is_gone_by_then(tmp_path: Path) -> None:
    before = spikefed.run(tables(rounds=2), out=tmp_path / "before")
    config = tables(network=begun(Path(f"{before}@1")), rounds=3)
    whole = fingerprint(spikefed.run(config, out=tmp_path / "whole"))
    assert whole != fingerprint(spikefed.run(config | {"network": begun(before)}, out=tmp_path / "last"))
    spikefed.run(config | {"rounds": 1}, out=tmp_path / "parts")
    shutil.rmtree(before)
    spikefed.run(config, out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == whole
    told = RunFolder(tmp_path / "parts").read_json(tmp_path / "parts" / "provenance.json")["start"]
    assert told["from"] == f"{before}@1" and told["round"] == 1


def test_a_client_whose_state_holds_its_own_parts_comes_back_on_what_the_run_began_with(
    trained: Path, tmp_path: Path
) -> None:
    network = begun(trained, adapters={"kinds": ["thresholds", "head"]})
    method = {"name": "adapters", "personal": ["head"]}
    config = tables(network=network, method=method, run={"threads": 1, "keep_clients": True})
    path = spikefed.run(config, out=tmp_path / "run")
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for client in (0, 1):
        kept = spikefed.load_model(path, client=client).outputs(images)
        assert torch.equal(spikefed.load_model(f"{path}@2", client=client).outputs(images), kept)


def test_masks_stay_behind_and_the_run_says_so(tmp_path: Path) -> None:
    method = {"name": "tickets", "search": "random", "sparsities": [0.5], "level_rounds": 2}
    pruned = spikefed.run(tables(method=method, rounds=2), out=tmp_path / "pruned")
    masked = read_tensors(pruned / "model.safetensors").kept
    assert masked
    begins = build(configs.from_tree(tables(network=begun(pruned)))).start
    assert begins is not None and begins.pruned == tuple(masked)
    assert [note for note in begins.notes if "is pruned; its weights come along, the masks of" in note]
    assert same(dict(begins.tensors), tensors_of(pruned))


def test_a_head_of_other_classes_begins_anew_and_says_so(trained: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (200, 1, 8, 8), dtype=np.uint8), np.arange(200) % 4
    told = Told()
    config = tables(network=begun(trained), training=STILL)
    path = spikefed.run(config, dataset=(images, labels), out=tmp_path / "run", progress=told)
    found, before = tensors_of(path), tensors_of(trained)
    new = {name for name in found if found[name].shape != before[name].shape}
    assert new and all(torch.equal(found[name], before[name]) for name in found if name not in new)
    assert RunFolder(path).read_json(path / "provenance.json")["start"]["new"] == sorted(new)
    assert any("begins anew, as the classes differ" in message for message in told.said)


def test_a_head_of_classes_with_other_names_begins_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 1, 8, 8), dtype=np.uint8)
    labels = {name: np.array([name[k % 3] for k in range(120)]) for name in (("a", "b", "c"), ("d", "e", "f"))}
    one, other = labels.values()
    before = spikefed.run(tables(rounds=1), dataset=(images, one), out=tmp_path / "before")
    config = tables(network=begun(before), training=STILL)
    same_names = spikefed.run(config, dataset=(images, one), out=tmp_path / "same")
    assert same(tensors_of(same_names), tensors_of(before))
    renamed = tensors_of(spikefed.run(config, dataset=(images, other), out=tmp_path / "renamed"))
    differing = [name for name, tensor in renamed.items() if not torch.equal(tensor, tensors_of(before)[name])]
    assert "fc2.weight" in differing and all(name.startswith("fc2.") for name in differing)


def test_resumed_without_the_first_run_it_ends_where_it_would_have(trained: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(trained, gone)
    method = {
        "name": "fsd",
        "distil_epochs": 1,
        "server_epochs": 1,
        "distil_batch": 8,
    }  # resets its clients every round
    config = tables(network=begun(gone), method=method, rounds=3)
    whole = fingerprint(spikefed.run(config, out=tmp_path / "whole"))
    assert whole != fingerprint(spikefed.run(tables(method=method, rounds=3), out=tmp_path / "fresh"))
    spikefed.run(config | {"rounds": 1}, out=tmp_path / "parts")
    shutil.rmtree(gone)
    spikefed.run(config, out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == whole
    told = RunFolder(tmp_path / "parts").read_json(tmp_path / "parts" / "provenance.json")["start"]
    content = (trained / "model.safetensors").read_bytes()
    assert told["from"] == str(gone) and told["sha256"] == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "parts" / "start.safetensors").read_bytes() == content
    assert spikefed.experiment.probe_run(tmp_path / "parts", "accuracy")["probe"] == "accuracy"
    shutil.copy(tmp_path / "whole" / "model.safetensors", tmp_path / "parts" / "start.safetensors")
    with pytest.raises(CheckpointError, match="is not the model that the run in .* began with"):
        spikefed.run(config | {"rounds": 4}, out=tmp_path / "parts", resume=True)


def test_without_it_an_experiment_keeps_its_hash_and_a_model_what_it_says(trained: Path, tmp_path: Path) -> None:
    plain, begins = configs.from_tree(tables()), configs.from_tree(tables(network=begun(trained)))
    assert plain.hash() != begins.hash()
    path = spikefed.run(tables(network=begun(trained), rounds=1), out=tmp_path / "run")
    facts = [read_model(place / "model.safetensors")[1].network for place in (path, trained)]
    assert facts[0] == facts[1] and "start" not in facts[0]
    assert facts[0]["pooling"] == "average"  # resolved: a later zoo builds the same
    assert spikefed.load_model(path).facts.round == 1


def wrong(trained: Path, tmp_path: Path) -> dict[str, tuple[dict[str, Any], str]]:
    (tmp_path / "empty").mkdir()
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained, unfinished)
    (unfinished / "model.safetensors").unlink()
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes((trained / "model.safetensors").read_bytes()[:-9])
    other = tables()["network"]
    return {
        "a round": (begun(f"{trained}@5"), "has no checkpoint of round 5: only those of rounds 1 are kept"),
        "no round": (begun(f"{trained}@last"), "names round 'last'; write a number behind the @"),
        "a round of a file": (begun(f"{trained}/model.safetensors@1"), "holds one network; leave @1 out"),
        "a round of nothing": (begun(tmp_path / "nowhere@1"), "nowhere@1' does not exist"),
        "a round of no run": (begun(f"{tmp_path / 'empty'}@1"), "is no run folder"),
        "a checkpoint": (begun(trained / "checkpoints" / "round-00001.safetensors"), "is a checkpoint, .*before@1"),
        "empty": (begun(Path()) | {"start": ""}, "'network.start' is empty; name a run"),
        "nothing there": (begun(tmp_path / "nowhere"), "does not exist; give a run's folder"),
        "no run": (begun(tmp_path / "empty"), "is no run folder"),
        "not finished": (begun(unfinished), "has no model file yet; finish it with --resume"),
        "torn": (begun(torn), "torn.safetensors"),
        "another network": (begun(trained, name="4C3-AP2-13FC"), "is another network than .* is \\[12"),
        "deeper": (begun(trained, name="4C3-4C3-AP2-12FC"), "is another network than this .* lacks 'conv2"),
        "another norm": (begun(trained, norm="none"), "it lacks 'conv1.bias'; set network.name, norm and pooling"),
        "roles alone": (other | {"start_roles": ["weight"]}, "'network.start_roles' has no effect without"),
        "no role": (begun(trained, start_roles=["wieght"]), "'wieght' is no role of a tensor"),
        "one word": (begun(trained, start_roles="wieght"), "'network.start_roles': 'wieght' is no role"),
        "absent role": (
            begun(trained, start_roles=["task"]),
            "no tensor of this network has the role 'task'; the roles",
        ),
        "no roles": (begun(trained, start_roles=[]), "'network.start_roles': an empty list names no role"),
    }


@pytest.mark.parametrize(
    "what",
    [
        "a round",
        "no round",
        "a round of a file",
        "a round of nothing",
        "a round of no run",
        "a checkpoint",
        "empty",
        "one word",
        "no roles",
        "nothing there",
        "no run",
        "not finished",
        "torn",
        "another network",
        "deeper",
        "another norm",
        "roles alone",
    ]
    + ["no role", "absent role"],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(what: str, trained: Path, tmp_path: Path) -> None:
    network, text = wrong(trained, tmp_path)[what]
    with pytest.raises(SpikefedError, match=text) as caught:
        spikefed.run(tables(network=network), out=tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_other_inputs_and_other_steps_of_a_norm_are_named(trained: Path, tmp_path: Path) -> None:
    images = np.zeros((120, 1, 12, 12), dtype=np.uint8)
    with pytest.raises(ConfigError, match="takes inputs of 1x8x8, and the data have 1x12x12"):
        spikefed.run(tables(network=begun(trained)), dataset=(images, np.arange(120) % 10), out=tmp_path / "run")
    norms = tables()["network"] | {"norm": "bntt"}
    before = spikefed.run(tables(network=norms, rounds=1), out=tmp_path / "before")
    with pytest.raises(ConfigError, match="by time step needs the same network.steps"):
        spikefed.run(tables(network=norms | {"steps": 5, "start": str(before)}), out=tmp_path / "run")


def test_on_the_command_line(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "after.toml"
    file.write_text(toml.dump(tables(training=STILL)))
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["run", str(file), "--start", str(trained), "--out", str(out), "--quiet"])
    assert result.exit_code == 0, result.output
    assert same(tensors_of(out), tensors_of(trained))
