"""Corruptions stay in the range, grow with their strength, and spoil nothing at strength 0."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from probes.subjects import network, subject
from spikefed.errors import ConfigError
from spikefed.probes import run_probe
from spikefed.probes.corruption import STRENGTHS, Name, corrupted

NAMES = get_args(Name)


def numbers(shape: torch.Size) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_a_stronger_one_is_further_from_the_image_and_in_the_range(name):
    images = subject(6, (3, 16, 16)).images.float()
    away = []
    for size in STRENGTHS[name]:
        found = corrupted(images, name, size, numbers(images.shape))
        assert found.shape == images.shape and found.min() >= 0 and found.max() <= 255
        away.append(float((found - images).abs().mean()))
    assert away == sorted(away) and away[0] > 0


def test_blur_and_contrast_keep_a_flat_image_and_the_mean():
    flat = torch.full((2, 1, 8, 8), 90.0)
    for name in ("blur", "contrast"):
        assert torch.allclose(corrupted(flat, name, 0.5, numbers(flat.shape)), flat)
    images = subject(4).images.float()
    faint = corrupted(images, "contrast", 0.3, numbers(images.shape))
    assert torch.allclose(faint.mean((2, 3)), images.mean((2, 3)), atol=1e-3)


def test_noise_has_the_deviation_that_it_says():
    grey = torch.full((1, 1, 100, 100), 127.5)
    found = corrupted(grey, "noise", 0.08, numbers(grey.shape))
    assert float(found.std()) == pytest.approx(0.08 * 255, rel=0.03)


@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_rows_and_headline(coding):
    found = run_probe(network(coding=coding), subject(), "corruption", hyper={"judged": 2}, seed=1)
    assert len(found.records) == 1 + 5 * len(NAMES) and found.records[0]["strength"] == 0
    assert found.headline["least_accuracy"] <= found.headline["corrupted_accuracy"]
    assert found.headline["clean_accuracy"] == found.records[0]["accuracy"]


def test_an_unknown_corruption_is_refused():
    with pytest.raises(ConfigError, match="corruptions"):
        run_probe(network(), subject(), "corruption", hyper={"corruptions": ("rain",)})
