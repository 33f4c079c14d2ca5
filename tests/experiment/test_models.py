"""Networks that come back: the run's own outputs to the bit in a fresh process, from files, checkpoints and clients."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import spikefed
from spikefed import data, networks
from spikefed.errors import CheckpointError, ConfigError, SpikefedError
from spikefed.experiment import RunFolder
from spikefed.experiment.federation import Federation
from spikefed.federated.randomness import EVALUATE, generator, shared
from spikefed.models import read_model
from spikefed.training import outputs

FRESH = """
import hashlib, json, sys
import torch
torch.set_num_threads(1)
import spikefed
found = {}
for name, (run, images) in json.loads(sys.argv[1]).items():
    model = spikefed.load_model(run)
    values = model.outputs(torch.load(images, weights_only=True))
    found[name] = hashlib.sha256(values.numpy().tobytes()).hexdigest()
print(json.dumps(found))
"""


def in_a_fresh_process(runs: dict[str, tuple[str, str]], cwd: Path, path: Path | None = None) -> dict[str, str]:
    """SHA-256 of the outputs of each run's model on images of a file, without any data set at hand."""
    places = os.pathsep.join(filter(None, [str(path) if path else "", os.environ.get("PYTHONPATH", "")]))
    env = os.environ | {"PYTHONPATH": places, "SPIKEFED_DATA": str(cwd / "nothing")}
    done = subprocess.run(
        [sys.executable, "-c", FRESH, json.dumps(runs)], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Test images and outputs of every measurement that a run makes of its server's network."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    evaluate = Federation.evaluate

    def spy(self: Federation, net: torch.nn.Module, round: int) -> Any:
        draws = generator(self.config.seed, EVALUATE, round)
        kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        train_bn = getattr(self.config.hyper(), "train_bn_at_eval", False)
        with shared(draws):
            values = outputs(net, self.test.images, preprocess=self.preprocess, generator=draws, train_bn=train_bn)
        net.load_state_dict(kept)
        seen.append((self.test.images, values))
        return evaluate(self, net, round)

    monkeypatch.setattr(Federation, "evaluate", spy)
    return seen


def digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


ZOO = {info.name: info for info in networks.networks()}


def source(name: str, folder: Path) -> str:
    """Noise of the smallest size that a network of the zoo takes."""
    build = networks.ann_twin if ZOO[name].ann else partial(networks.build, steps=2)
    for height, width in ((8, 8), (16, 16), (32, 32), (1, 16)):
        with suppress(ConfigError):
            build(name, input_shape=(1, height, width), classes=3)
            break
    path = folder / f"noise{height}x{width}.npz"
    if not path.is_file():
        drawn = np.random.default_rng(0)
        images = drawn.integers(0, 255, (60, height, width), dtype=np.uint8)
        np.savez(path, images=images, labels=np.arange(60) % 3)
    return f"npz:{path}"


VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"network": {"name": name}} for name in ZOO},
    "layout": {"network": {"name": "4C3-AP2-8FC", "norm": "tdbn", "neuron": {"kind": "soft", "decay": 0.7}}},
    "ann": {"network": {"name": "4C3-AP2", "twin": "ann"}},
    "current": {"network": {"name": "4C3-AP2", "readout": "current", "coding": "poisson"}},
    "bernoulli": {"network": {"name": "4C3-AP2", "coding": "bernoulli", "precision": "bfloat16"}},
    "standard": {"network": {"name": "4C3-AP2"}, "data": {"pixels": "standard"}},
    "batch": {"network": {"name": "4C3-AP2"}, "training": {"train_bn_at_eval": True}},
}


@pytest.mark.slow
def test_every_network_comes_back_to_the_bit(
    tiny: dict[str, Any], tmp_path: Path, measured: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    wanted, runs = {}, {}
    for name, changes in VARIANTS.items():
        tree = {
            key: {**tiny[key], **changes.get(key, {})} if isinstance(tiny[key], dict) else tiny[key] for key in tiny
        }
        tree["network"] = {"steps": 3, **changes["network"]}
        tree["data"] |= {"private_per_client": 12, "test_limit": 12, "public": 4}
        if name in ZOO:
            tree["data"]["dataset"] = source(name, tmp_path)
            tree["network"]["twin"] = "ann" if ZOO[name].ann else "snn"
        tree |= {"rounds": 1, "method": {"name": "fedavg"}}
        run = spikefed.run(tree, out=tmp_path / name)
        images, values = measured[-1]
        assert values.std() > 0 or name in ZOO, f"{name} says nothing that could differ"
        torch.save(images, tmp_path / f"{name}.pt")
        wanted[name], runs[name] = digest(values), (str(run), str(tmp_path / f"{name}.pt"))
    assert in_a_fresh_process(runs, tmp_path) == wanted


OWN = """
import torch
from torch import nn

from spikefed.neurons import LIF


class Net(nn.Module):
    def __init__(self, classes, steps, seed):
        super().__init__()
        self.hidden, self.first = nn.Linear(64, 24), LIF(decay=0.5, v_threshold=0.2)
        self.again = self.hidden  # one tensor under two names
        self.out, self.last = nn.Linear(24, classes), LIF(decay=0.5, v_threshold=0.2)
        self.steps = steps
        self.wiring = torch.randperm(24)  # drawn when it is made, and in no state dict

    def forward(self, x, generator=None):
        noise = torch.rand(x.flatten(1).shape, generator=generator) * 0.1
        current = self.again(x.flatten(1) + noise).expand(self.steps, -1, -1)
        return self.last(self.out(self.first(current)[..., self.wiring]))
"""


def test_an_own_network_comes_back_to_the_bit(
    tiny: dict[str, Any], tmp_path: Path, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "ownback.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(code))
    tiny["network"] = {"steps": 4, "name": "ownback:Net"}
    run = spikefed.run(tiny, out=tmp_path / "run")
    images, values = measured[-1]
    torch.save(images, tmp_path / "images.pt")
    found = in_a_fresh_process({"own": (str(run), str(tmp_path / "images.pt"))}, tmp_path, code)
    assert found == {"own": digest(values)} and values.std() > 0
    sys.modules.pop("ownback")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(code)])
    with pytest.raises(ConfigError, match="'ownback:Net' names module 'ownback', which Python does not find"):
        spikefed.load_model(run)


def test_a_live_object_comes_back_with_the_object(tiny: dict[str, Any], tmp_path: Path) -> None:
    net = networks.build("4C3-AP2", input_shape=(1, 8, 8), classes=10, steps=4)
    run = spikefed.run(tiny, network=net, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="was an object of the Python program that started the run"):
        spikefed.load_model(run)
    model = spikefed.load_model(run, network=net)
    tensors = read_model(run / "model.safetensors")[0].tensors
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.network.state_dict().items())


def test_what_a_run_said_of_itself_is_what_predict_says(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["network"]["coding"] = "poisson"
    run = spikefed.run(tiny, out=tmp_path / "run")
    model = spikefed.load_model(run)
    test = data.limited(data.load("digits", "test"), 60)
    found = model.predict(test)
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert found.accuracy == line["server_accuracy"] == RunFolder(run).read_result()["accuracy"]
    assert torch.equal(found.scores, model.outputs(test.images).mean(dim=2))
    assert not torch.equal(found.scores, model.predict(test, seed=5).scores)
    assert torch.equal(model.predict(test, seed=5).scores, model.predict(test, seed=5).scores)
    assert model.class_names == tuple("0123456789") and model.input_shape == (1, 8, 8) and model.steps == 4


def test_a_checkpoint_and_a_client_come_back(tiny: dict[str, Any], tmp_path: Path, measured: Any) -> None:
    tiny["method"] = {"name": "local"}
    run = spikefed.run(tiny, out=tmp_path / "run")
    images = measured[-1][0]
    both = [spikefed.load_model(run, client=client) for client in (0, 1)]
    for client, model in enumerate(both):
        assert digest(model.outputs(images)) == digest(measured[-2 + client][1])
    assert digest(spikefed.load_model(run).outputs(images)) == digest(measured[-2][1])
    before = spikefed.load_model(f"{run}@2", client=1)
    assert before.facts.round == 2 and digest(before.outputs(images)) == digest(measured[-3][1])
    with pytest.raises(CheckpointError, match="has nothing of client 7; it has clients 0, 1"):
        spikefed.load_model(run, client=7)
    with pytest.raises(CheckpointError, match=r"no checkpoint of round 1: only those of rounds 2, 3 are kept"):
        spikefed.load_model(f"{run}@1")


def test_a_run_in_progress_gives_its_newest_checkpoint_without_the_data(
    tiny: dict[str, Any], tmp_path: Path, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = spikefed.run(tiny, out=tmp_path / "run")
    for name in ("result.json", "model.safetensors"):
        (run / name).unlink()
    monkeypatch.setattr("spikefed.experiment.models.build", None)  # no data set is asked for
    model = spikefed.load_model(run)
    assert model.facts.round == 3 and digest(model.outputs(measured[-1][0])) == digest(measured[-1][1])
    with pytest.raises(CheckpointError, match="method fsd keeps no network of client 0 between rounds"):
        spikefed.load_model(spikefed.run(tiny | {"method": {"name": "fsd"}}, out=tmp_path / "reset"), client=0)


def test_a_file_of_version_1_still_loads(tiny: dict[str, Any], tmp_path: Path, measured: Any) -> None:
    tiny["network"] |= {"coding": "bernoulli", "neuron": {"decay": 0.8}}
    run = spikefed.run(tiny, out=tmp_path / "run")
    facts = {
        "network": configs_network(run),
        "input_shape": [1, 8, 8],
        "classes": 10,
        "pixels": {"mode": "unit", "mean": [], "std": []},
    }
    tensors = load_file(run / "model.safetensors")
    save_file(tensors, run / "model.safetensors", {"spikefed": json.dumps(facts)})
    model = spikefed.load_model(run)
    assert digest(model.outputs(measured[-1][0])) == digest(measured[-1][1])
    assert (model.facts.round, model.facts.method) == (3, "fsd")
    (tmp_path / "alone.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert spikefed.load_model(tmp_path / "alone.safetensors").facts.round == 0


def configs_network(run: Path) -> dict[str, Any]:
    """The table ``[network]`` as 0.1 wrote it: what the network's own defaults say is not filled in."""
    return spikefed.load_experiment(run / "config.toml").resolved()["network"]


def _rewritten(path: Path, **facts: Any) -> None:
    found, _ = read_model(path)
    save_file(found.tensors, path, {"spikefed": json.dumps({**found.facts, **facts})})


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("truncated", "model.safetensors cannot be read as a model file"),
        ("empty", "cannot be read as a model file"),
        ("pickle", "cannot be read as a model file"),
        ("foreign", "says nothing of a spikefed network .* lacks network, input_shape, classes, pixels"),
        ("newer", "has model format 99, this spikefed reads formats up to 2"),
        ("setting", "written by another spikefed: this one cannot read its 'network.wings'"),
        ("shape", "these weights do not fit network 4C3-AP2"),
        ("nonsense", "cannot be read .*; take a whole copy"),
        ("missing", "there is no run folder or model file"),
        ("no run", "is no run folder"),
    ],
)
def test_files_that_are_no_models_are_one_sentence(tiny: dict[str, Any], tmp_path: Path, how: str, text: str) -> None:
    run = spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "run")
    path = run / "model.safetensors"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pickle":
        torch.save({"a": torch.zeros(2)}, path)
    elif how == "foreign":
        save_file({"a": torch.zeros(2)}, path)
    elif how == "newer":
        _rewritten(path, format=99)
    elif how == "setting":
        _rewritten(path, network={"name": "small", "wings": 2})
    elif how == "shape":
        _rewritten(path, classes=7)
    elif how == "nonsense":
        _rewritten(path, pixels=[1, 2])
    elif how == "missing":
        run = tmp_path / "nowhere"
    else:
        run = tmp_path
    with pytest.raises((CheckpointError, ConfigError), match=text) as caught:
        spikefed.load_model(run)
    assert "\n" not in str(caught.value)


def test_the_neuron_comes_back_with_its_numbers(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["network"]["neuron"] = {"kind": "soft", "decay": 0.31, "threshold": 0.6, "surrogate": "atan:alpha=3"}
    run = spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "run")
    table = spikefed.load_model(run).facts.network
    assert table["norm"] == "bn" and table["coding"] == "direct"
    assert table["neuron"]["decay"] == 0.31 and table["neuron"]["surrogate"] == "atan:alpha=3.0"
    net = spikefed.load_model(run).network
    neuron = net.layers[0].neuron  # type: ignore[union-attr]
    assert (neuron.kind, neuron.decay, neuron.v_threshold) == ("soft", 0.31, 0.6)


def test_class_names_come_back(tiny: dict[str, Any], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (240, 8, 8), dtype=np.uint8)
    labels = np.array(["ant", "bee", "cow"])[np.arange(240) % 3]
    np.savez(tmp_path / "beasts.npz", images=images, labels=labels)
    tiny["data"] = {"dataset": f"npz:{tmp_path / 'beasts.npz'}", "clients": 2, "public": 20}
    run = spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "run")
    (tmp_path / "beasts.npz").unlink()
    found = spikefed.load_model(run).predict((images[:9], labels[:9]))
    assert set(found.names) <= {"ant", "bee", "cow"} and found.truth is not None
    assert found.truth.tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, {}), "load_model takes a path, not NoneType"),
        ((["runs/a"], {}), "load_model takes a path, not list"),
        (("here", {"client": "0"}), "a client is named by its number, not '0'"),
        (("here", {"device": "tpu"}), "device = 'tpu' is no device"),
    ],
)
def test_what_is_no_path_client_or_device_is_one_sentence(given: tuple[Any, dict[str, Any]], said: str) -> None:
    with pytest.raises(SpikefedError, match=said):
        spikefed.load_model(given[0], **given[1])
