"""Series and frames through whole runs: their steps are the network's, for FSD's public set too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import spikefed
from spikefed.errors import ConfigError, DataError
from spikefed.experiment import RunFolder, build
from spikefed.experiment import config as configs
from spikefed.neurons import LIF


def waves(count: int = 240, length: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that differ in order only: early, middle and late bumps on two channels, much noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    series = rng.normal(0, 0.4, (count, length, 2)).astype(np.float32)
    for one, label in zip(series, labels, strict=True):
        one[label * 8 : label * 8 + 8, 0] += 2
    return series, labels


@pytest.fixture
def own(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["data"] |= {"public": 40, "private_per_client": 70, "kind": "series"}
    tiny["network"] = {"name": "small-1d", "steps": 6}
    tiny["training"] |= {"local_epochs": 8, "lr": 0.01}
    tiny["method"] |= {"distil_epochs": 4, "server_epochs": 8}
    del tiny["data"]["test_limit"]
    return tiny


@pytest.mark.parametrize("changes", [
    {}, {"data.resample": "window"}, {"network.coding": "delta", "data.resample": "window"}, {"data.pixels": "raw"}
])  # fmt: skip
def test_a_series_is_learnt_from_its_order(own: dict[str, Any], changes: dict[str, str], tmp_path: Path) -> None:
    words = [f"{key}={value}" for key, value in changes.items()]
    folder = spikefed.run(own, dataset=waves(), overrides=words, out=tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    assert result["accuracy"] > 0.6
    width = 4 if "window" in changes.values() else 1
    assert result["public_set_bytes"] == 40 * 6 * 2 * width * 4


def test_frames_of_events_run_with_counts_as_they_are(own: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    events = rng.poisson(0.2, (200, 6, 2, 8, 8))
    events[labels == 1, :3, 0] += rng.poisson(1, (100, 3, 8, 8))
    events[labels == 0, 3:, 0] += rng.poisson(1, (100, 3, 8, 8))
    del own["data"]["kind"]
    own["network"]["name"] = "4C3-AP2-16FC"
    own["data"]["private_per_client"] = 60
    federation = build(configs.from_tree(own), (events, labels))
    assert federation.preprocess.mode == "raw" and federation.test.values == "counts"
    folder = spikefed.run(own, dataset=(events, labels), out=tmp_path / "run")
    assert json.loads((folder / "result.json").read_text())["accuracy"] > 0.7


class Net(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.hidden, self.first = nn.Linear(input_shape[0], 32), LIF(decay=0.9, v_threshold=0.5)
        self.out, self.last = nn.Linear(32, classes), LIF(decay=0.9, v_threshold=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.out(self.first(self.hidden(x))))


def test_own_network_on_own_series(own: dict[str, Any], tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(own, dataset=waves(), network=Net, out=tmp_path / "run"))
    assert folder.read_lines(folder.metrics)[-1]["server_accuracy"] > 0.5


def test_the_public_set_may_be_a_series_of_its_own(own: dict[str, Any], tmp_path: Path) -> None:
    series, labels = waves()
    parts = {"train": (series, labels), "public": waves(60, 24)[0] + 0.1}
    federation = build(configs.from_tree(own), parts)
    assert federation.split.public_images.shape == (40, 6, 2, 1, 1)
    assert federation.split.public_images.dtype == torch.float32
    with pytest.raises(DataError, match="bring them to one size"):
        build(configs.from_tree(own), {"train": (series, labels), "public": waves(60, 20)[0][:, :, :1]})


def test_settings_that_need_time_are_refused(own: dict[str, Any], tmp_path: Path) -> None:
    tree = {**own, "method": {"name": "fedavg"}}
    with pytest.raises(ConfigError, match="network.twin = 'ann' has one step"):
        spikefed.run(tree, dataset=waves(), overrides=["network.twin=ann"], out=tmp_path / "r")
    images = np.zeros((240, 8, 8), np.uint8), np.arange(240) % 2
    del own["data"]["kind"]
    own["network"]["coding"] = "delta"
    with pytest.raises(ConfigError, match="coding = 'delta' spikes at changes in time, and the data have no time axis"):
        spikefed.run(own, dataset=images, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_lengths_other_than_the_networks_are_resampled_and_workers_agree(own: dict[str, Any], tmp_path: Path) -> None:
    own["rounds"] = 1
    one = RunFolder(spikefed.run(own, dataset=waves, out=tmp_path / "one"))
    two = RunFolder(spikefed.run(own, dataset=waves, overrides=["run.workers=2"], out=tmp_path / "two"))
    assert one.model.read_bytes() == two.model.read_bytes()


@pytest.mark.parametrize("name", ["conv-1d", "resnet-1d"])
def test_1d_convolutions_learn_the_windows_of_a_step_and_come_back(
    name: str, own: dict[str, Any], tmp_path: Path
) -> None:
    own["network"] |= {"name": name, "steps": 4}
    own["data"]["resample"] = "window"
    own["method"] = {"name": "fedavg"}
    own["rounds"] = 2
    folder = spikefed.run(own, dataset=waves(), out=tmp_path / "run")
    assert json.loads((folder / "result.json").read_text())["accuracy"] > 0.6
    model = spikefed.load_model(folder)
    assert model.network.input_shape == (2, 1, 6)
    series, labels = waves(300)
    found = model.predict(series[240:]).labels.numpy()
    assert np.mean(found == labels[240:]) > 0.6
    laid = series[240:].reshape(60, 4, 6, 2).transpose(0, 1, 3, 2)  # [N, T, C, L], as the windows are
    assert np.array_equal(model.predict(laid).labels.numpy(), found)
    tree = {**own, "network": {**own["network"], "steps": 24}}
    with pytest.raises(ConfigError, match=r"convolves along the samples of a time step, and here a step has one"):
        spikefed.run(tree, dataset=waves(), out=tmp_path / "short")
    assert not (tmp_path / "short").exists()


def test_steps_of_several_samples_are_series_too(own: dict[str, Any], tmp_path: Path) -> None:
    series, labels = waves()
    laid = series.reshape(240, 6, 4, 2).transpose(0, 1, 3, 2)
    own["network"] = {"name": "8C1x3-AP1x2-16FC", "steps": 6}
    federation = build(configs.from_tree(own), (laid, labels))
    assert federation.split.public_images.shape == (40, 6, 2, 1, 4)
    own["rounds"] = 1
    folder = spikefed.run(own, dataset=(laid, labels), out=tmp_path / "run")
    assert spikefed.load_model(folder).predict(laid[:5]).labels.shape == (5,)
