"""``network.name = "nir:FILE"``: a network from elsewhere trains in a federation and comes back from its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.interop.nets import ABOUT, lived_in
from typer.testing import CliRunner

import spikefed
from spikefed import data
from spikefed.cli.main import whole
from spikefed.errors import ConfigError
from spikefed.interop import bones_file, flat, nir_bones, nir_file, read_nir
from spikefed.networks import build

pytest.importorskip("nir")
X = data.load("digits", "test").images[:20]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    net = lived_in(build("4C3-AP2", input_shape=(1, 8, 8), classes=10, steps=4))
    (tmp_path / "body.nir").write_bytes(nir_file(flat(net), ABOUT))
    return tmp_path / "body.nir"


def told(file: Path | str, **network: Any) -> dict[str, Any]:
    return {
        "name": "from-nir",
        "rounds": 1,
        "data": {"clients": 2, "private_per_client": 40, "public": 24, "test_limit": 60},
        "network": {"name": f"nir:{file}", "steps": 4, **network},
        "training": {"local_epochs": 1},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }


def test_it_trains_and_comes_back(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = spikefed.run(told("body.nir"), out=tmp_path / "run")
    monkeypatch.chdir("/")
    file.rename(tmp_path / "moved.nir")  # the model file holds the graph
    model = spikefed.load_model(run)
    before = spikefed.interop.read_nir(tmp_path / "moved.nir", steps=4).get_submodule("conv1").weight
    assert not torch.equal(model.network.get_submodule("conv1").weight, before)
    lone = (run / "model.safetensors").rename(tmp_path / "lone.safetensors")
    assert torch.equal(model.outputs(X), spikefed.load_model(lone).outputs(X)) and model.outputs(X).sum() > 0
    assert len(model.predict(data.load("digits", "test").images[:5])) == 5


def test_bones_are_small_and_equal_and_other_texts_are_refused(file: Path) -> None:
    bones = nir_bones(f"nir:{file}")
    assert bones == nir_bones(f"nir:{file}:dt=0.001") and len(bones) < 8000
    net = read_nir(bones_file(bones), steps=4)
    assert [*net.state_dict()] == [*read_nir(file, steps=4).state_dict()]
    with pytest.raises(ConfigError, match="the NIR graph in the model file cannot be read"):
        bones_file("hello")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"name": "nir:nowhere.nir"}, "there is no NIR file nowhere.nir"),
        ({"readout": "current"}, "gives spikes; set network.readout = 'spike'"),
        ({"norm": "bn"}, "'network.norm' has no effect on your own network"),
    ],
)
def test_what_does_not_fit_is_one_sentence(file: Path, tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    config = told(file)
    config["network"] |= changed
    config["method"] = {"name": "fedavg"}
    with pytest.raises(ConfigError, match=text):
        spikefed.run(config, out=tmp_path / "run")


def test_another_image_size_or_number_of_classes(file: Path, tmp_path: Path) -> None:
    net = lived_in(build("4C3-AP2", input_shape=(1, 6, 6), classes=10, steps=4))
    file.write_bytes(nir_file(flat(net), ABOUT))
    with pytest.raises(ConfigError, match="takes images 1x6x6, the data set gives 1x8x8"):
        spikefed.run(told(file), out=tmp_path / "run")
    net = lived_in(build("4C3-AP2", input_shape=(1, 8, 8), classes=3, steps=4))
    file.write_bytes(nir_file(flat(net), ABOUT))
    with pytest.raises(ConfigError, match="has 3 outputs, the data set 10 classes"):
        spikefed.run(told(file), out=tmp_path / "run")


def test_describe_reads_it_too(file: Path) -> None:
    told = CliRunner().invoke(whole(), ["describe", f"nir:{file}", "--steps", "4"])
    assert told.exit_code == 0 and "conv1" in told.stdout
