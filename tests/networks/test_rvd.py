"""The networks of the study of rate and direct coding: counts, gains and neuron of Kim et al., ICASSP 2022."""

from __future__ import annotations

import math

import pytest
import torch

from spikefed.networks import build, network_info

CIFAR, GREY = (3, 32, 32), (1, 28, 28)
FULL = ("mlp", "vgg5-rvd", "vgg9-rvd")
SIBLINGS = {"vgg5-rvd-half": 2_200_000, "vgg5-rvd-small": 560_000, "vgg9-rvd-small": 400_000}


def weights(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("mlp", GREY, 10, 635_200),
        ("mlp", CIFAR, 10, 2_465_600),
        ("vgg5-rvd", CIFAR, 10, 8_621_760),
        ("vgg5-rvd", CIFAR, 100, 8_713_920),
        ("vgg9-rvd", CIFAR, 10, 5_938_880),
        ("vgg9-rvd", CIFAR, 100, 6_031_040),
    ],
)
def test_the_paper_s_counts(name, shape, classes, count):
    assert weights(build(name, input_shape=shape, classes=classes, steps=5, readout="current")) == count


@pytest.mark.parametrize(
    ("name", "coding", "gain"),
    [("mlp", "direct", 2), ("mlp", "poisson", 2), ("vgg5-rvd", "direct", 3), ("vgg5-rvd", "poisson", 4)]
    + [("vgg9-rvd", "direct", 5), ("vgg9-rvd", "poisson", 5)],
)
def test_initial_weights_have_the_gain_of_their_coding(name, coding, gain):
    net = build(name, input_shape=GREY, classes=10, steps=5, coding=coding)
    for layer in net.layers:
        window = layer.weight[0, 0].numel()
        bound = gain * math.sqrt(6 / (window * sum(layer.weight.shape[:2])))
        largest = float(layer.weight.detach().abs().max())
        assert 0.95 * bound < largest <= bound, layer.plan.name


@pytest.mark.parametrize("name", FULL)
def test_neuron_of_the_paper(name):
    neuron = network_info(name).neuron
    assert (neuron.kind, neuron.decay, neuron.gain, neuron.v_threshold) == ("soft", 0.5, 0.5, 1.0)


@pytest.mark.parametrize("name", SIBLINGS)
@pytest.mark.parametrize("coding", ["direct", "poisson", "bernoulli", "latency"])
def test_siblings_for_a_cpu_run_under_every_coding(name, coding):
    net = build(name, input_shape=CIFAR, classes=10, steps=5, coding=coding, readout="current")
    assert weights(net) <= SIBLINGS[name]
    out = net(torch.rand(2, *CIFAR), generator=torch.Generator().manual_seed(0))
    assert out.shape == (5, 2, 10)
