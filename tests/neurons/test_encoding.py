"""Encoders: shapes, the firing probability stated, same seed same spikes."""

from __future__ import annotations

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.neurons import Bernoulli, Direct, SignedPoisson, encoder


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


@pytest.mark.parametrize("name", ["direct", "bernoulli", "poisson"])
def test_same_seed_same_spikes(name: str) -> None:
    x = torch.rand(2, 3, 5)
    assert torch.equal(encoder(name).encode(x, 4, seeded(5)), encoder(name).encode(x, 4, seeded(5)))
    assert encoder(encoder(name)) == encoder(name)
    with pytest.raises(ConfigError):
        encoder(name).encode(x, 0)


def test_unknown_coding() -> None:
    with pytest.raises(ConfigError, match="direct"):
        encoder("rate")
