"""Conversion of quantised ANN twins: at T = L neurons count exactly what the activation says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.conversion.test_convert import SHAPE, images, logits, twin

import spikefed
from spikefed.conversion import convert
from spikefed.errors import ConfigError
from spikefed.experiment.conversion import ConversionPlan, convert_run
from spikefed.networks import QCFS, ANNNetwork, ann_twin, quantise
from spikefed.networks.layers import ReLULayer

LEVELS = 8


def dyadic(name: str) -> ANNNetwork:
    """Weights in 1/8, biases in 1/64, threshold 2: with pixels in 1/8 every current is exact, ties included."""
    net = quantise(ann_twin(name, input_shape=SHAPE, classes=4, norm="none", seed=1), LEVELS).eval()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in net.layers:
            layer.weight.copy_(torch.randint(-4, 5, layer.weight.shape, generator=draw) / 8)
            assert layer.bias is not None
            layer.bias.copy_(torch.randint(-9, 10, layer.bias.shape, generator=draw) / 64)
            if isinstance(layer, ReLULayer) and layer.qcfs is not None:
                layer.qcfs.log_threshold.fill_(math.log(2.0))
    return net


def pixels() -> torch.Tensor:
    return torch.randint(0, 9, (64, *SHAPE), generator=torch.Generator().manual_seed(6)) / 8


@pytest.mark.parametrize("name", ["6C3-12FC", "6C3-AP2-12FC", "20FC"])
def test_the_first_layer_counts_exactly_what_the_activation_says(name: str) -> None:
    ann = dyadic(name)
    x = pixels()
    done = convert(ann, x, steps=LEVELS, recipe="qcfs")
    layer = done.network.layers[0]
    theta = done.thresholds[layer.plan.name]
    with torch.no_grad():
        counted = layer(x, LEVELS, True).unflatten(0, (LEVELS, -1)).mean(dim=0)
        wanted = ann.layers[0](x)
    assert torch.equal(counted * theta.reshape(1, -1, *[1] * (counted.dim() - 2)), wanted)
    assert len(wanted.unique()) > LEVELS  # not all silent, nor all at the ceiling
    assert done.errors[layer.plan.name] == 0


def test_one_hidden_layer_gives_the_very_logits() -> None:
    ann = dyadic("20FC")
    x = pixels()
    done = convert(ann, x, steps=LEVELS, recipe="qcfs")
    assert torch.allclose(logits(done.network, x), logits(ann, x), atol=1e-5)


def test_thresholds_are_the_learnt_ones_for_every_channel() -> None:
    ann = quantise(twin(), 4)
    layer = ann.layers[0]
    assert isinstance(layer, ReLULayer)
    assert isinstance(layer.qcfs, QCFS)
    torch.nn.init.constant_(layer.qcfs.log_threshold, 0.5)
    done = convert(ann, images(), steps=4, recipe="qcfs")
    assert torch.equal(done.thresholds["conv1"], layer.qcfs.threshold.detach().expand(6))


def test_other_recipes_see_the_quantised_activations() -> None:
    """The largest of them is a step of the activation, and at most its ceiling."""
    ann = quantise(twin(), LEVELS)
    layer = ann.layers[0]
    assert isinstance(layer, ReLULayer)
    assert layer.qcfs is not None
    step = float(layer.qcfs.threshold.detach()) / LEVELS
    largest = float(convert(ann, images(), steps=LEVELS, recipe="max").thresholds["conv1"][0])
    assert largest / step == pytest.approx(round(largest / step), abs=1e-4)
    assert step <= largest <= LEVELS * step + 1e-4


def test_a_relu_network_has_no_learnt_thresholds() -> None:
    with pytest.raises(ConfigError, match="train it with network.qcfs = 8"):
        convert(twin(), images(), steps=4, recipe="qcfs")


def test_from_a_file_to_a_spiking_network(tmp_path: Path) -> None:
    tree = {
        "name": "q",
        "rounds": 2,
        "data": {"dataset": "digits", "pooled": True, "public": 100, "test_limit": 100},
        "network": {"twin": "ann", "qcfs": 4},
        "training": {"local_epochs": 2},
        "method": {"name": "fedavg"},
    }
    run = spikefed.run(tree, out=tmp_path / "run")
    model = spikefed.load_model(run)
    assert isinstance(model.network, ANNNetwork)
    assert [getattr(layer, "qcfs").levels for layer in model.network.layers[:-1]] == [4, 4, 4]  # noqa: B009
    done = convert_run(run, ConversionPlan(steps=4, recipe="qcfs", images=50))
    assert done["snn_accuracy"] > done["ann_accuracy"] - 0.1
    again = spikefed.load_model(done["path"])
    assert again.facts.network["neuron"]["start"] == 0.5
