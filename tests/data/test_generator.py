"""A generator: deterministic, pixels in range, classes in turn, and an ensemble sees in them what was asked for."""

from __future__ import annotations

import pytest
import torch
from tests.data.test_synthesis import CLASSES, SHAPE, ann, gap_of, snn

from spikefed.data import Ensemble, SynthesisPlan, SyntheticSet, synthesise
from spikefed.data.generator import LATENT, Generator
from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, build
from spikefed.training import Preprocess

PLAN = SynthesisPlan("generator", images=36, steps=40, temperature=1.0, batch=18, lr=0.05)

SHORT = SynthesisPlan("generator", images=24, steps=3, temperature=1.0)


def three() -> Ensemble:
    """Networks of different weights and kinds."""
    return Ensemble([ann(), snn(), ann_twin("6C3-AP2-16FC", input_shape=SHAPE, classes=CLASSES, seed=9).eval()])


def made(plan: SynthesisPlan = PLAN, seed: int = 0, net: torch.nn.Module | None = None) -> SyntheticSet:
    net = three() if net is None else net
    return synthesise(net, plan, shape=SHAPE, classes=CLASSES, preprocess=Preprocess(), seed=seed)


def test_an_ensemble_says_the_mean_of_its_networks() -> None:
    x = torch.rand(5, *SHAPE)
    nets = [ann(), snn()]
    with torch.no_grad():
        told = Ensemble(nets)(x)
        assert told.shape == (1, 5, CLASSES)
        assert torch.allclose(told[0], (nets[0](x).mean(0) + nets[1](x).mean(0)) / 2, atol=1e-6)


def test_the_ensemble_recognises_what_was_asked_for_and_classes_are_balanced() -> None:
    found = made()
    assert found.images.shape == (36, *SHAPE) and found.images.dtype == torch.uint8
    assert found.targets.argmax(dim=1).bincount(minlength=CLASSES).tolist() == [3] * CLASSES
    assert torch.equal(found.targets.sum(dim=1), torch.ones(36))
    assert found.agreement > 0.4  # a guess has one in twelve
    with torch.no_grad():
        assert torch.allclose(found.outputs, three()(Preprocess()(found.images))[0], atol=1e-5)


def test_the_seed_decides_it_and_global_draws_do_not() -> None:
    torch.manual_seed(1)
    first = made(SHORT, seed=3)
    torch.manual_seed(2)
    again = made(SHORT, seed=3)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, made(SHORT, seed=4).images)


def test_more_steps_come_nearer_and_images_of_a_class_differ() -> None:
    fresh = made(SynthesisPlan("generator", images=24, steps=1, temperature=1.0))
    found = made(SynthesisPlan("generator", images=24, steps=40, temperature=1.0))
    assert found.agreement > fresh.agreement
    assert gap_of(three(), found.images) < gap_of(three(), fresh.images)
    assert all(not torch.equal(found.images[k], found.images[k + CLASSES]) for k in range(CLASSES))


def test_the_networks_stay_as_they_are() -> None:
    net = three()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    made(SHORT, net=net)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (1, 28, 28), (2, 2, 9)])
def test_every_size_of_image_has_pixels_between_0_and_1(shape: tuple[int, int, int]) -> None:
    generator = Generator(shape, classes=4, seed=0)
    with torch.no_grad():
        x = generator(torch.randn(3, LATENT), torch.tensor([0, 3, 1]))
    assert x.shape == (3, *shape)
    assert float(x.min()) >= 0 and float(x.max()) <= 1


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    generator = Generator(SHAPE, classes=4, seed=0)
    z = torch.randn(6, LATENT)
    labels = torch.arange(6) % 4
    with torch.no_grad():
        together = generator(z, labels)
        assert torch.allclose(generator(z[2:3], labels[2:3]), together[2:3], atol=1e-6)


def test_networks_without_batch_norm_have_a_generator_too() -> None:
    net = build("6C3-AP2-16FC", input_shape=SHAPE, classes=CLASSES, steps=2, norm="none", readout="current").eval()
    assert len(made(SHORT, net=net)) == 24


@pytest.mark.parametrize(
    ("change", "told"),
    [({"steps": 0}, "steps = 0 makes nothing"), ({"images": 0}, "images = 0"), ({"temperature": 0.0}, "above 0")],
)
def test_numbers_that_are_none(change: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        made(SynthesisPlan("generator", **change))  # type: ignore[arg-type]
