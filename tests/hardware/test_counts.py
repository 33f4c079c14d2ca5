"""Counts on networks small enough to count by hand, and laws that hold for any."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware import count_operations
from spikefed.networks import ann_twin, build, describe, wrap
from spikefed.neurons import IF, LIF


class Frames(nn.Module):
    """Convolution then IF, on images that are spikes already."""

    def __init__(self, **conv) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, **conv)
        self.neurons = IF()
        nn.init.constant_(self.conv.weight, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [T, B, 1, H, W]
        y = self.conv(x.flatten(0, 1))
        return self.neurons(y.unflatten(0, x.shape[:2])).flatten(2)


def spike_at(*places: tuple[int, int]) -> torch.Tensor:
    image = torch.zeros(1, 1, 4, 4)
    for row, column in places:
        image[0, 0, row, column] = 1.0
    return image


@pytest.mark.parametrize(
    ("place", "conv", "events"),
    [
        ((1, 1), {"padding": 1}, 9 * 2),  # the whole window
        ((0, 0), {"padding": 1}, 4 * 2),  # a corner lies in four windows
        ((0, 1), {"padding": 1}, 6 * 2),
        ((0, 0), {}, 1 * 2),  # without padding in one
        ((2, 2), {"padding": 1, "stride": 2}, 1 * 2),  # outputs at rows and columns 0 and 2; only (2, 2) reaches it
        ((1, 1), {"padding": 1, "stride": 2}, 4 * 2),
    ],
)
def test_a_single_spike_touches_as_many_weights_as_windows_hold_it(place, conv, events):
    net = Frames(bias=False, **conv)
    (layer,) = count_operations(net, spike_at(place).unsqueeze(0))
    assert (layer.input, layer.active, layer.events) == ("spikes", 1.0, float(events))
    assert layer.input_rate == 1 / 16
    assert layer.spikes == events  # all weights are 2, the threshold is 1: every output touched fires


def test_time_and_batch_are_told_apart():
    net = wrap(Frames(bias=True, padding=1), steps=3, classes=32, input_shape=(1, 4, 4), mode="sequence")
    images = torch.cat([spike_at((1, 1)), spike_at((1, 1), (2, 2))])
    (layer,) = count_operations(net, images)
    # Direct coding: the first layer sees an image, binary or not, and sees it three times.
    assert (layer.input, layer.constant, layer.passes) == ("real", True, 3.0)
    assert layer.active == 3 * (1 + 2) / 2 and layer.events == 3 * (18 + 36) / 2
    assert (layer.neurons, layer.updates, layer.leaky) == (32, 96, False)
    assert layer.macs == 16 * 2 * 9 and layer.parameters == 18 + 2 and layer.bias


def test_one_step_at_a_time_counts_like_the_whole_sequence():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8, bias=False), _Fire(), nn.Linear(8, 3, bias=False), _Fire())
    net = wrap(body, steps=4, classes=3, input_shape=(1, 4, 4), mode="step")
    first, second = count_operations(net, torch.rand(5, 1, 4, 4))
    assert (first.passes, second.passes) == (4.0, 4.0)
    assert (first.input, second.input) == ("real", "spikes")
    assert (first.neurons, first.updates, second.neurons) == (8, 32, 3)
    assert second.active == pytest.approx(first.spikes)  # what one layer sends the next receives
    assert second.events == pytest.approx(3 * first.spikes)


class _Fire(nn.Module):
    """A neuron without memory, known by its threshold."""

    v_threshold = 0.1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > self.v_threshold).float()


@pytest.mark.parametrize("name", ["vgg9-bntt", "small", "8C3-AP2-12FC"])
def test_networks_of_the_package_agree_with_their_description(name):
    net = build(name, input_shape=(1, 8, 8), classes=5, steps=3)
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    layers = count_operations(net, images, torch.Generator().manual_seed(1))
    rows = describe(net).rows
    assert [layer.name for layer in layers] == [row.name for row in rows]
    assert [layer.macs for layer in layers] == [row.macs for row in rows]
    assert [layer.passes for layer in layers] == [row.times for row in rows]
    assert [layer.parameters for layer in layers] == [row.weights for row in rows]


def test_spikes_of_a_layer_are_the_next_layers_input_when_nothing_is_pooled():
    net = build("6C3-4C3-12FC", input_shape=(1, 6, 6), classes=3, steps=4)
    net.train()
    for _ in range(20):
        net(torch.rand(32, 1, 6, 6))  # statistics, so that eval mode spikes
    layers = count_operations(net, torch.rand(8, 1, 6, 6))
    assert layers[0].spikes > 0
    for before, after in zip(layers, layers[1:], strict=False):
        assert after.active == pytest.approx(before.spikes)
    assert all(0 <= layer.spike_rate <= 1 for layer in layers)


def test_ternary_input_spikes_count_once_each():
    net = build("vgg9-bntt", input_shape=(3, 8, 8), classes=4, steps=50)
    images = torch.full((6, 3, 8, 8), -0.5)
    first = count_operations(net, images, torch.Generator().manual_seed(0))[0]
    # |x| / 2 = 0.25 a step: binomial with 6 * 192 * 50 draws
    assert first.input == "spikes"
    assert first.input_rate == pytest.approx(50 * 0.25, abs=4 * 50 * (0.25 * 0.75 / (6 * 192 * 50)) ** 0.5)


def test_the_ann_multiplies_everywhere():
    layers = count_operations(ann_twin("small", input_shape=(1, 8, 8), classes=5), torch.zeros(2, 1, 8, 8))
    assert {layer.input for layer in layers} == {"real"} and {layer.updates for layer in layers} == {0.0}


def test_leak_is_read_from_the_neuron_and_counting_leaves_the_mode_alone():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Unflatten(0, (1, -1)), LIF(decay=0.5)).train()
    assert count_operations(net, torch.rand(3, 1, 2, 2))[0].leaky
    assert net.training and not net[1]._forward_hooks


def test_nothing_to_count_is_said():
    with pytest.raises(ConfigError, match="no convolution or linear layer"):
        count_operations(nn.Flatten(), torch.zeros(1, 4))
    with pytest.raises(ConfigError, match="at least one image"):
        count_operations(nn.Linear(2, 2), torch.zeros(0, 2))
