"""A small network and something to show it."""

from __future__ import annotations

import torch

from spikefed.networks import SpikingNetwork, build
from spikefed.probes import Subject
from spikefed.training import Preprocess

CLASSES = 4


def network(seed: int = 0, **changes) -> SpikingNetwork:
    """Three layers with neurons, one of them pooled, four steps; its norms have seen the images, so that it fires."""
    given = {"input_shape": (1, 8, 8), "classes": CLASSES, "steps": 4, "seed": seed} | changes
    net = build(given.pop("name", "4C3-AP2-12FC"), **given)
    with torch.no_grad():
        for _ in range(60):
            net(Preprocess()(subject(shape=net.input_shape).images))
    return net.eval()


def subject(images: int = 24, shape: tuple[int, ...] = (1, 8, 8), draw: int = 7) -> Subject:
    draws = torch.Generator().manual_seed(draw)
    pixels = torch.randint(0, 256, (images, *shape), generator=draws, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (images,), generator=draws)
    return Subject(pixels, labels, Preprocess(), ("ant", "bee", "cat", "dog"))
