"""Encoders: shapes, the firing probability stated, same seed same spikes."""

from __future__ import annotations

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.neurons import Bernoulli, Direct, Latency, SignedPoisson, encoder


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_direct_is_the_image_once() -> None:
    x = torch.rand(3, 1, 4, 4)
    assert torch.equal(Direct().encode(x, 8), x[None])


def test_bernoulli_fires_with_the_pixel_as_probability() -> None:
    x = torch.tensor([0.0, 0.2, 0.7, 1.0]).repeat(500, 1)
    spikes = Bernoulli().encode(x, 20, seeded())
    assert spikes.shape == (20, 500, 4) and set(spikes.unique().tolist()) == {0.0, 1.0}
    rate = spikes.mean((0, 1))  # 10000 draws: standard error <= 0.005
    assert rate[0] == 0 and rate[3] == 1
    assert (rate - x[0]).abs().max() < 0.02


def test_signed_poisson_fires_with_half_the_pixel_and_its_sign() -> None:
    x = torch.tensor([-1.0, -0.4, 0.0, 0.4, 1.0]).repeat(500, 1)
    spikes = SignedPoisson().encode(x, 20, seeded())
    assert set(spikes.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert (spikes.mean((0, 1)) - x[0] / 2).abs().max() < 0.02
    assert (spikes * x >= 0).all()


def test_latency_fires_once_and_the_brighter_pixel_earlier() -> None:
    x = torch.tensor([[0.0, 0.1, 0.5, 0.9, 1.0]])
    spikes = Latency().encode(x, 11)
    assert spikes.sum(0).tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0]], "black never fires, everything else once"
    assert spikes.argmax(0).tolist() == [[0, 9, 5, 1, 0]]
    assert Latency().encode(x, 1)[0].tolist() == [[0.0, 1.0, 1.0, 1.0, 1.0]]


def test_latency_refuses_data_with_times_of_their_own() -> None:
    with pytest.raises(ConfigError, match="time axis"):
        Latency().encode_steps(torch.rand(4, 2, 3))


SLOPES = {"bernoulli": 1.0, "poisson": 0.5}


@pytest.mark.parametrize("name", SLOPES)
def test_straight_through_is_the_gradient_of_the_expected_spikes(name: str) -> None:
    coder = type(encoder(name))(gradient="straight")
    x = torch.rand(2, 3, 5, requires_grad=True)
    weights = torch.rand(4, 2, 3, 5)
    spikes = coder.encode(x, 4, seeded())
    (spikes * weights).sum().backward()
    assert torch.allclose(x.grad, SLOPES[name] * weights.sum(0))
    assert torch.equal(spikes.detach(), encoder(name).encode(x.detach(), 4, seeded())), "the same spikes"


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "latency"])
def test_by_default_nothing_reaches_the_pixels(name: str) -> None:
    x = torch.rand(2, 3, requires_grad=True)
    spikes = encoder(name).encode(x, 4, seeded())
    if spikes.requires_grad:
        (gradient,) = torch.autograd.grad(spikes.sum(), x)
        assert not gradient.any()


@pytest.mark.parametrize("name", SLOPES)
def test_given_random_numbers_are_those_that_are_drawn(name: str) -> None:
    x = torch.rand(2, 3, 5)
    uniform = torch.rand(4, 2, 3, 5, generator=seeded(3))
    assert torch.equal(encoder(name).spikes(x, uniform), encoder(name).encode(x, 4, seeded(3)))


def test_latency_s_gradient_is_that_of_a_tent_around_the_spike() -> None:
    x, steps = torch.tensor([0.33, 0.61], requires_grad=True), 6
    weights = torch.rand(steps, 2)
    (Latency(gradient="straight").encode(x, steps) * weights).sum().backward()

    def tents(x: torch.Tensor) -> torch.Tensor:
        off = torch.arange(steps)[:, None] - (1 - x) * (steps - 1)
        return ((1 - off.abs()).clamp_min(0) * weights).sum(0)

    h = 1e-3
    by_hand = (tents(x.detach() + h) - tents(x.detach() - h)) / (2 * h)
    assert torch.allclose(x.grad, by_hand, atol=1e-2)


def test_a_black_pixel_feels_the_spike_that_it_would_gain() -> None:
    x = torch.zeros(1, 1, requires_grad=True)
    spikes = Latency(gradient="straight").encode(x, 5)
    (gradient,) = torch.autograd.grad(spikes[-1].sum() - spikes[0].sum(), x)
    assert not spikes.any() and float(gradient) > 0


@pytest.mark.parametrize("name", ["direct", "bernoulli", "poisson", "latency"])
def test_same_seed_same_spikes(name: str) -> None:
    x = torch.rand(2, 3, 5)
    assert torch.equal(encoder(name).encode(x, 4, seeded(5)), encoder(name).encode(x, 4, seeded(5)))
    assert encoder(encoder(name)) == encoder(name)
    with pytest.raises(ConfigError):
        encoder(name).encode(x, 0)


def test_unknown_coding() -> None:
    with pytest.raises(ConfigError, match="direct"):
        encoder("rate")
