"""Synthesis: the network sees what it shall, one image does not depend on the others, spikes lead to pixels too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.data import SynthesisPlan, SyntheticSet, synthesise
from spikefed.data.synthesis import Statistics, normed_layers, total_variation
from spikefed.errors import ConfigError
from spikefed.networks import ANNNetwork, SpikingNetwork, ann_twin, build
from spikefed.networks.network import LayeredNetwork
from spikefed.training import Preprocess

SHAPE = (1, 8, 8)
CLASSES = 12


def learnt(net: LayeredNetwork) -> LayeredNetwork:
    """With statistics of images that have something in them."""
    net.train()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _ in range(30):
            net(torch.rand(40, *SHAPE, generator=draw).square())
    return net.eval()


def ann(norm: str = "bn") -> ANNNetwork:
    net = learnt(ann_twin("6C3-AP2-16FC", input_shape=SHAPE, classes=CLASSES, norm=norm, seed=4))
    assert isinstance(net, ANNNetwork)
    return net


def snn(norm: str = "bn") -> SpikingNetwork:
    net = build("6C3-AP2-16FC", input_shape=SHAPE, classes=CLASSES, steps=4, norm=norm, readout="current", seed=4)
    learnt(net)
    return net


def made(net: nn.Module, plan: SynthesisPlan, seed: int = 0) -> SyntheticSet:
    return synthesise(net, plan, shape=SHAPE, classes=CLASSES, preprocess=Preprocess(), seed=seed)


def gap_of(net: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad(), Statistics(net, True) as statistics:
        net(Preprocess()(images))
        return float(statistics.gap())


IMPRESSIONS = SynthesisPlan("impressions", images=24, steps=60, temperature=1.0, scale=0.01)


@pytest.mark.parametrize("make", [ann, snn])
def test_the_network_says_the_class_that_was_asked_for(make) -> None:
    net = make()
    found = made(net, IMPRESSIONS)
    assert found.images.shape == (24, *SHAPE) and found.images.dtype == torch.uint8
    assert found.agreement > (0.9 if make is ann else 0.5)  # of twelve classes
    with torch.no_grad():
        outputs = net(Preprocess()(found.images)).mean(dim=0)
    assert torch.allclose(outputs, found.outputs, atol=1e-5)


def test_together_is_one_at_a_time() -> None:
    net = ann("none")
    whole = made(net, SynthesisPlan(**{**vars(IMPRESSIONS), "images": 10}))
    alone = made(net, SynthesisPlan(**{**vars(IMPRESSIONS), "images": 10, "batch": 1}))
    assert torch.equal(whole.targets, alone.targets)
    near = (whole.images.int() - alone.images.int()).abs() <= 2
    assert float(near.float().mean()) > 0.98
    assert torch.allclose(whole.outputs, alone.outputs, atol=0.15)


@pytest.mark.parametrize("make", [ann, snn, lambda: snn("bntt"), lambda: snn("tdbn")])
def test_statistics_come_nearer_where_they_are_asked_for(make) -> None:
    net = make()
    plan = {"images": 24, "steps": 40, "temperature": 1.0, "scale": 0.01}
    near = gap_of(net, made(net, SynthesisPlan("statistics", weight=3.0, **plan)).images)
    far = gap_of(net, made(net, SynthesisPlan("impressions", **plan)).images)
    assert near < 0.7 * far


def test_the_network_stays_as_it_is() -> None:
    net = ann()
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    made(net, SynthesisPlan("statistics", images=4, steps=2))
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(layer.product is None for layer in normed_layers(net))


def test_a_seed_is_a_set() -> None:
    plan = SynthesisPlan("statistics", images=6, steps=5, smoothness=0.1)
    first = made(ann(), plan)
    assert torch.equal(first.images, made(ann(), plan).images)
    assert not torch.equal(first.images, made(ann(), plan, seed=1).images)
    assert first.provenance["kind"] == "statistics" and first.provenance["seed"] == 0


def test_total_variation_by_hand() -> None:
    assert float(total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))) == 1.0
    assert float(total_variation(torch.ones(2, 3, 1, 1))) == 0.0


@pytest.mark.parametrize(
    ("net", "plan", "said"),
    [
        (nn.Conv2d(1, 12, 8), IMPRESSIONS, "no linear classifier of 12 rows"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), IMPRESSIONS, "no linear classifier of 12 rows"),
        (ann_twin("8FC", input_shape=SHAPE, classes=12, norm="none"), SynthesisPlan(), "has no batch norm"),
        (ann_twin("8FC", input_shape=SHAPE, classes=12), SynthesisPlan(images=0), "images = 0 makes nothing"),
        (ann_twin("8FC", input_shape=SHAPE, classes=12), SynthesisPlan(lr=0), "use a number above 0"),
        (
            ann_twin("8FC", input_shape=SHAPE, classes=12),
            SynthesisPlan("gan"),
            "use one of impressions, stat",
        ),  # type: ignore[arg-type]
    ],
)
def test_what_no_images_come_from(net: nn.Module, plan: SynthesisPlan, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(net, plan)
