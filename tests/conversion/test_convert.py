"""Conversion: the spiking network counts what the ANN says; recipes in their order; what cannot be converted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.conversion import RECIPES, Recipe, convert, thresholds
from spikefed.conversion.thresholds import counted
from spikefed.errors import ConfigError, DataError
from spikefed.networks import ANNNetwork, SpikingNetwork, ann_twin, build
from spikefed.networks.layers import ReLULayer, SpikingLayer
from spikefed.networks.layout import parse_layout

SHAPE = (1, 8, 8)


def twin(name: str = "6C3-8C3-AP2-12FC", **options: object) -> ANNNetwork:
    """An ANN whose statistics are not those of a fresh one."""
    net = ann_twin(name, input_shape=SHAPE, classes=4, seed=1, **options)  # type: ignore[arg-type]
    net.train()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(32, *SHAPE, generator=draw))
    return net.eval()


def images(count: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def logits(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(x).mean(dim=0)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("options", [{}, {"norm": "none"}, {"pooling": "stride"}])
def test_with_many_steps_the_outputs_are_the_logits(recipe: Recipe, options: dict[str, str]) -> None:
    ann = twin(**options)
    x = images()
    done = convert(ann, x, steps=64, recipe=recipe)
    gap = (logits(done.network, x) - logits(ann, x)).abs().mean() / logits(ann, x).abs().mean()
    assert float(gap) < 0.12
    assert all(bool((theta > 0).all()) for theta in done.thresholds.values())


def test_hidden_layers_give_spikes_of_one_neuron_with_threshold_one() -> None:
    net = convert(twin(), images(), steps=4).network
    assert isinstance(net, SpikingNetwork)
    hidden = [layer.neuron for layer in net.layers[:-1] if isinstance(layer, SpikingLayer)]
    assert {(n.kind, n.decay, n.v_threshold, n.start) for n in hidden if n} == {("soft", 1.0, 1.0, 0.5)}
    assert net.readout == "current"


def test_errors_shrink_with_steps() -> None:
    ann = twin()
    x = images()
    errors = [convert(ann, x, steps=steps, recipe="max").errors["fc2"] for steps in (2, 8, 32)]
    assert errors == sorted(errors, reverse=True)


def test_local_is_nearer_than_max_in_few_steps_on_unseen_images() -> None:
    ann = twin()
    unseen = images(seed=9)
    gaps = {}
    for recipe in ("max", "local"):
        net = convert(ann, images(), steps=4, recipe=recipe).network
        gaps[recipe] = float((logits(net, unseen) - logits(ann, unseen)).square().mean())
    assert gaps["local"] < gaps["max"]


def test_the_ann_is_left_alone_and_the_result_is_repeatable() -> None:
    ann = twin()
    before = {name: tensor.clone() for name, tensor in ann.state_dict().items()}
    first = convert(ann, images(), steps=4).network.state_dict()
    again = convert(ann, images(), steps=4).network.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in ann.state_dict().items())
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_compensation_takes_the_mean_error_of_the_readout_away() -> None:
    ann = twin()
    x = images()
    for recipe in RECIPES:
        plain = convert(ann, x, steps=4, recipe=recipe, compensate=False).network
        mended = convert(ann, x, steps=4, recipe=recipe).network
        assert float((logits(mended, x) - logits(ann, x)).mean(dim=0).abs().max()) < 1e-4
        assert float((logits(plain, x) - logits(ann, x)).mean(dim=0).abs().max()) > 1e-3


def test_counted_is_what_neurons_do() -> None:
    draw = torch.Generator().manual_seed(4)
    ann = ann_twin("12FC", input_shape=SHAPE, classes=3, norm="none", seed=3)
    net = convert(ann, images(), steps=5, recipe="channel").network
    layer = net.layers[0]
    x = torch.rand(20, *SHAPE, generator=draw)
    with torch.no_grad():
        spikes = layer(x, 5, True).unflatten(0, (5, -1)).mean(dim=0)
        wanted = counted(layer.currents(x).T, torch.ones(12), 5, 0.5)
    assert torch.allclose(spikes.T, wanted, atol=1e-6)


def test_thresholds_by_hand() -> None:
    a = torch.tensor([[0.0, 2.0], [1.0, 3.0], [1.0, 1.0]])
    assert thresholds(a, a, "max", 4, 0.5).tolist() == [3.0, 3.0]
    assert thresholds(a, a, "percentile", 4, 0.5).tolist() == [3.0, 3.0]
    assert thresholds(a, a, "channel", 4, 0.5).tolist() == [1.0, 3.0]
    # One step, begun at half: 0 or theta. Of two values 0 and 1, theta = 1 hits both.
    near = thresholds(a[:, :1], a[:, :1], "local", 1, 0.5)
    assert abs(float(near[0]) - 1.0) < 0.06


def test_a_silent_channel_keeps_a_threshold() -> None:
    a = torch.zeros(5, 2)
    a[:, 1] = 1.0
    for recipe in RECIPES:
        assert float(thresholds(a, a, recipe, 4, 0.5).min()) > 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: twin(pooling="max"), "network.pooling = 'average' or 'stride'"),
        (lambda: build("small", input_shape=SHAPE, classes=4, steps=2), "spikes already"),
        (lambda: nn.Linear(3, 3), "not a module of your own"),
        (lambda: ann_twin("resnet19", input_shape=(3, 16, 16), classes=4), "branches"),
    ],
)
def test_networks_that_cannot_be_converted(wrong, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        convert(wrong(), images(), steps=4)


def test_a_network_without_a_classifier() -> None:
    plans = parse_layout("4C3-4FC", SHAPE, 4)
    layers = [ReLULayer(plan, bias=True, norm=None, rectify=True) for plan in plans]
    with pytest.raises(ConfigError, match="linear classifier"):
        convert(ANNNetwork("headless", SHAPE, layers), images(), steps=4)
    only = [ReLULayer(plan, bias=True, norm=None, rectify=False) for plan in parse_layout("4FC", SHAPE, 4)[-1:]]
    only[0].plan = parse_layout("64FC", SHAPE, 4)[-1]
    with pytest.raises(ConfigError, match="no hidden layer"):
        convert(ANNNetwork("headless", SHAPE, only), images(), steps=4)


@pytest.mark.parametrize("steps", [0, -1, 65])
def test_steps_that_are_none(steps: int) -> None:
    with pytest.raises(ConfigError, match="1 to 64 time steps"):
        convert(twin(), images(), steps=steps)


def test_an_empty_calibration_set() -> None:
    with pytest.raises(DataError, match="at least one image"):
        convert(twin(), images(0), steps=4)


def test_an_unknown_recipe() -> None:
    with pytest.raises(ConfigError, match="use one of max, percentile, channel, local"):
        convert(twin(), images(), steps=4, recipe="best")  # type: ignore[arg-type]
