"""Small networks out of pruned ones: their files load, predict, leave, shrink and train on like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.experiment.test_ticket_runs import config
from tests.interop.nets import module_of
from typer.testing import CliRunner

import spikefed
from spikefed import data, networks
from spikefed.cli.main import whole
from spikefed.errors import ConfigError, SpikefedError
from spikefed.experiment import shrink
from spikefed.models import Model, ModelFacts, model_file, read_model

TEST = data.limited(data.load("digits", "test"), 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spikefed.run(config("channels"), out=tmp_path_factory.mktemp("shrink") / "run")


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(whole(), list(map(str, arguments)), catch_exceptions=True)


def test_a_run_of_pruned_channels_leaves_a_small_file_that_says_the_same(folder: Path) -> None:
    told = json.loads(invoke("shrink", folder, "--json").stdout)
    assert told["path"] == str(folder / "model-small.safetensors") and told["whole"] == "4C3-AP2-12FC"
    model, small = spikefed.load_model(folder), spikefed.load_model(told["path"])
    assert torch.allclose(small.outputs(TEST.images), model.outputs(TEST.images), atol=1e-5)
    assert small.facts.network["name"] == told["network"] == networks.narrowed(model.network).name
    parameters = sum(p.numel() for p in small.network.parameters())
    assert parameters == told["parameters"] < told["whole_parameters"]
    assert model.kept and not small.kept  # nothing of a pruned channel is left, so nothing is masked
    assert (folder / "model.safetensors").read_bytes() == model_file(model.network, model.facts, model.kept)


def test_its_file_is_taken_by_every_command(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    assert f"wrote {path}" in invoke("shrink", f"{folder}@8", "--out", path).stdout
    model = spikefed.load_model(path)
    assert invoke("export", path, "--to", "torch").exit_code == 0
    labels, _ = module_of((tmp_path / "small.py").read_text()).predict(TEST.images)
    assert torch.equal(labels, model.predict(TEST.images).labels)
    name = model.facts.network["name"]
    assert invoke("describe", name, "--input", "1x8x8", "--steps", 4).exit_code == 0
    assert invoke("probe", path, "sparsity", "--set", "data.dataset=digits").exit_code == 0
    on = config("random", network={"name": name, "steps": 4, "norm": "bn", "start": str(path)})
    on |= {"method": {"name": "fedavg"}, "rounds": 1}
    trained = spikefed.load_model(spikefed.run(on, out=tmp_path / "on")).network
    shapes = {n: t.shape for n, t in networks.state_tensors(trained).items()}
    assert shapes == {n: t.shape for n, t in networks.state_tensors(model.network).items()}
    again = shrink(path, tmp_path / "again.safetensors")
    assert again["network"] == name and read_model(tmp_path / "again.safetensors")[1].extra == model.facts.extra


def test_only_files_of_its_own_are_written_over(folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        shrink(folder, tmp_path / "small.safetensors")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(SpikefedError, match="is there already"):
        shrink(folder, folder / "model.safetensors")
    assert (folder / "model.safetensors").read_bytes() == before


def test_masks_of_single_weights_come_along_where_some_are_left(tmp_path: Path) -> None:
    net = networks.build("vgg16:3C3-AP2-5FC", input_shape=(1, 4, 4), classes=3, steps=2)
    row = networks.Row.of(net)
    kept = row.mask([torch.tensor([True, False, True]), torch.tensor([True, True, False, True, True])])
    weight = row.weight(0)
    kept[weight][0, 0, 0] = False  # and of a channel that stays
    net.load_state_dict({n: t * kept[n] if n in kept else t for n, t in net.state_dict().items()})
    table = {"name": net.name, "steps": 2, "norm": "bn", "pooling": "max"}
    small = Model(net, ModelFacts(table, (1, 4, 4), 3), kept=kept).shrunk()
    small.save(tmp_path / "here" / "small.safetensors")
    again = spikefed.load_model(tmp_path / "here" / "small.safetensors")
    assert again.facts.network["name"] == "vgg16:2C3-AP2-4FC" and again.facts.extra == {"shrunk_from": net.name}
    assert again.kept.keys() == {weight} and torch.equal(again.kept[weight], kept[weight][[0, 2]])
    x = torch.rand(2, 1, 4, 4)
    with torch.no_grad():
        assert torch.allclose(again.network(x), net.eval()(x), atol=1e-5)


def test_what_a_search_by_parts_leaves_is_made_small_too(tmp_path: Path) -> None:
    net = networks.build("supernet:12334-13:width=4", input_shape=(1, 8, 8), classes=10, steps=2).eval()
    space = networks.Space.of(net)
    gates = (True, False, True, False, False, False, True)
    tensors = networks.state_tensors(net)
    kept = space.kept(tensors, networks.Choice(gates, (True, True, False, True)))
    networks.load_tensors(net, {name: tensor * kept[name] for name, tensor in tensors.items()})
    facts = ModelFacts({"name": net.name, "steps": 2, "norm": "bn"}, (1, 8, 8), 10)
    Model(net, facts).save(tmp_path / "whole.safetensors")
    told = shrink(tmp_path / "whole.safetensors", tmp_path / "small.safetensors")
    assert told["network"] == networks.slimmed(net).name != net.name
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(spikefed.load_model(told["path"]).network(x), net(x), atol=1e-5)


def test_a_network_that_nothing_can_be_taken_out_of_is_refused() -> None:
    net = networks.build("resnet-small", input_shape=(1, 8, 8), classes=3, steps=2)
    with pytest.raises(ConfigError, match="and taken out, in networks whose layers stand in a row"):
        Model(net, ModelFacts({"name": "resnet-small"}, (1, 8, 8), 3)).shrunk()
    twin = networks.ann_twin("4C3-AP2-6FC", input_shape=(1, 4, 4), classes=3)
    with pytest.raises(ConfigError, match="is an ANN twin; leave network.twin at 'snn'"):
        networks.narrowed(twin)
