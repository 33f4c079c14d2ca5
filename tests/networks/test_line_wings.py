"""1-d convolutions in the other wings: conversion, chips, adapters, stacked clients, sparsity."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F

from spikefed.conversion import convert
from spikefed.errors import ConfigError
from spikefed.hardware.crossbar import OnChip, load_profile
from spikefed.networks import adapt, ann_twin, build
from spikefed.training.batched import StackedNetworks

SHAPE = (2, 1, 12)
IDEAL = load_profile("ideal")


def series(count: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pooling", ["average", "stride"])
def test_a_converted_twin_counts_its_logits_and_is_built_from_its_layout(pooling: str) -> None:
    ann = ann_twin("conv-1d", input_shape=SHAPE, classes=4, seed=1, pooling=pooling)  # type: ignore[arg-type]
    with torch.no_grad():
        for step in range(3):
            ann.train()(series(32, step))
    ann.eval()
    net = convert(ann, series(), steps=64).network
    assert net.name == "32C1x5-AP1x2-64C1x3-AP1x2-128FC"
    with torch.no_grad():
        ours, theirs = net(series()).mean(0), ann(series())[0]
    assert float((ours - theirs).abs().mean() / theirs.abs().mean()) < 0.2


def test_a_chip_computes_the_network_and_holds_its_oblong_kernels() -> None:
    """The ideal one to the rounding; of another the weights that it holds, put into the network."""
    net = build("conv-1d", input_shape=SHAPE, classes=4, steps=3, seed=1, readout="current").eval()
    with torch.no_grad():
        plain = net(series())
        with OnChip(net, IDEAL).running():
            torch.testing.assert_close(net(series()), plain, rtol=0, atol=1e-4)
        chip = OnChip(net, load_profile("pcm"), seed=1)
        with chip.running():
            found = net(series())
        for name, product in chip.products.items():
            cast(Any, net.get_submodule(name)).weight.copy_(product.weight)
        assert net.layers[0].weight.shape == (32, 2, 1, 5)
        torch.testing.assert_close(net(series()), found, rtol=0, atol=1e-4)


def test_a_low_rank_addition_begins_as_none_and_learns() -> None:
    net = build("conv-1d", input_shape=SHAPE, classes=4, steps=3, seed=1).eval()
    ours = net(series()).detach()
    adapt(net, ["low-rank"], tasks=1)
    assert torch.equal(net(series()), ours)
    part = net.layers[0].part()
    assert part is not None and part.down is not None
    down = part.down
    assert down.shape == (2, 2, 1, 5)


def test_stacked_training_is_training_one_by_one() -> None:
    """Pools along the width are not of the stacked form; strides are."""
    options: dict[str, Any] = {"input_shape": SHAPE, "classes": 3, "steps": 3}
    with pytest.raises(ConfigError):
        StackedNetworks([build("6C1x3-AP1x2-9FC", seed=seed, **options) for seed in range(2)])
    alone = [build("6C1x3-AP1x2-9FC", seed=seed, pooling="stride", **options).double() for seed in range(3)]
    stacked = StackedNetworks(copy.deepcopy(alone))
    x = torch.randn(3, 5, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(15).reshape(3, 5) % 3
    outs = stacked(x)
    for net, one, labels, out in zip(alone, x, y, outs, strict=True):
        torch.testing.assert_close(net(one), out)
        F.cross_entropy(net(one).mean(0), labels).backward()
