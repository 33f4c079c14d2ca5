"""A first layer on binary spikes in one pass: the bits of product and `norm_lif`, and the sum of their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikefed.neurons import (
    ATan,
    ChainLayer,
    Firing,
    LIFParameters,
    NormState,
    Rectangle,
    Triangle,
    fused,
    norm_lif,
    pattern_gradient,
    pattern_spikes,
    patterns_suit,
    table_of_patches,
    use_kernels,
)

pytestmark = pytest.mark.skipif(fused.library() is None, reason="no native library")
IMAGES, DRAWS, STEPS = 3, 2, 5
HARD = LIFParameters(decay=0.5, v_threshold=0.7, surrogate=ATan(2.0))
NEURONS = {
    "hard": HARD,
    "soft": replace(HARD, kind="soft", surrogate=Triangle()),
    "detached": replace(HARD, detach_reset=True, surrogate=Rectangle(1.0, 1.0)),
    "with gain": replace(HARD, gain=0.5, strict=False),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def layer(neuron: LIFParameters = HARD, norm: str = "bn", channels: int = 20, pool: bool = True) -> ChainLayer:
    weight = random(channels, 1, 3, 3) - 0.3
    firing = Firing(neuron, STEPS, norm, training=False, pool=pool)
    if norm == "none":
        return ChainLayer(weight, random(channels) * 0.1, "conv", firing)
    learnt = random(4, channels, seed=1) + 0.5
    return ChainLayer(weight, None, "conv", firing, NormState(learnt[0], learnt[1] - 1, learnt[2], learnt[3]))


def given(height: int = 7, width: int = 10) -> tuple[Tensor, Tensor]:
    return random(IMAGES, 1, height, width, seed=2), random(IMAGES, DRAWS, STEPS, 1, height, width, seed=3)


def both_ways(taken: ChainLayer, pixels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    spikes, traced = pattern_spikes(pixels, uniform, taken, table_of_patches(taken.weight, taken.bias))
    return spikes, pattern_gradient(traced, _upstream(spikes))


def _upstream(spikes: Tensor) -> Tensor:
    return torch.cos(torch.arange(spikes.numel()).float()).reshape(spikes.shape)


def separately(taken: ChainLayer, pixels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes of the looked-up currents through `norm_lif`, and the gradient of the currents, summed by torch."""
    fired = (pixels[:, None, None] > uniform).movedim((2, 1), (0, 1)).flatten(0, 2).float()  # [T * D * B, 1, H, W]
    table = table_of_patches(taken.weight, taken.bias)
    patches = functional.unfold(fired, 3, padding=1).long()  # [N, 9, H * W]
    number = (patches << torch.arange(9)[:, None]).sum(dim=1)
    currents = table[number].mT.unflatten(2, pixels.shape[-2:]).contiguous().requires_grad_()
    assert taken.firing is not None
    spikes = norm_lif(currents, **taken.firing._asdict(), **taken.state._asdict())
    (each,) = torch.autograd.grad(spikes, currents, _upstream(spikes))
    return spikes, each.unflatten(0, (STEPS * DRAWS, IMAGES)).sum(dim=0)


@pytest.fixture
def instruction_sets() -> Iterator[list[int]]:
    lib = fused.library()
    assert lib is not None
    best = lib.spikefed_best_level()
    yield list(range(best + 1))
    lib.spikefed_set_level(best)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn"])
@pytest.mark.parametrize("pool", [True, False])
def test_it_is_product_and_neurons(neuron, norm, pool):
    taken = layer(NEURONS[neuron], norm, pool=pool)
    spikes, found = both_ways(taken, *given())
    wanted, summed = separately(taken, *given())
    assert torch.equal(spikes, wanted) and 0 < float(spikes.mean()) < 1
    assert spikes._spikefed_nonzero == int(spikes.count_nonzero())  # type: ignore[attr-defined]
    assert torch.allclose(found, summed, atol=1e-5 * float(summed.abs().max())) and summed.any()


def test_a_table_holds_the_products():
    taken = layer(channels=3)
    fired = (random(6, 1, 8, 9, seed=5) < 0.4).float()
    number = (functional.unfold(fired, 3, padding=1).long() << torch.arange(9)[:, None]).sum(dim=1)
    found = table_of_patches(taken.weight, None)[number].mT.unflatten(2, (8, 9))
    assert torch.allclose(found, functional.conv2d(fired, taken.weight, padding=1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 5, 16, 40])
@pytest.mark.parametrize("sides", [(2, 2), (3, 17), (28, 28)])
def test_every_size_of_map(channels, sides):
    taken = layer(channels=channels)
    spikes, found = both_ways(taken, *given(*sides))
    wanted, summed = separately(taken, *given(*sides))
    assert torch.equal(spikes, wanted) and torch.allclose(found, summed, atol=1e-5 * float(summed.abs().max()))


def test_bits_depend_on_no_thread_and_no_instruction_set(instruction_sets):
    lib, threads = fused.library(), torch.get_num_threads()
    assert lib is not None
    results = []
    try:
        for level in instruction_sets:
            for count in (1, 2):
                lib.spikefed_set_level(level)
                torch.set_num_threads(count)
                results.append(both_ways(layer(), *given()))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for found in results for a, b in zip(found, results[0], strict=True))


def test_draws_add_up():
    taken, (pixels, uniform) = layer(), given()
    once = [both_ways(taken, pixels, uniform[:, draw : draw + 1])[0] for draw in range(DRAWS)]
    together = both_ways(taken, pixels, uniform)[0].unflatten(0, (STEPS, DRAWS, IMAGES))
    assert all(torch.equal(together[:, d].flatten(0, 1), each) for d, each in enumerate(once))


def test_what_it_does_not_take():
    taken = layer()
    assert patterns_suit(taken) and taken.firing is not None

    class Own(Rectangle):
        code = -1

    for other in (
        taken._replace(weight=torch.zeros(4, 2, 3, 3)),
        taken._replace(weight=torch.zeros(4, 1, 5, 5)),
        taken._replace(firing=None),
        taken._replace(firing=taken.firing._replace(training=True)),
        taken._replace(firing=taken.firing._replace(norm="bntt")),
        taken._replace(firing=taken.firing._replace(p=replace(HARD, surrogate=Own(1.0)))),
        taken._replace(weight=taken.weight.double()),
    ):
        assert not patterns_suit(other)
    with use_kernels("reference"):
        assert not patterns_suit(taken)
