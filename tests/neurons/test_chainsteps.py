"""Steps of a chain that keep their memory: the outputs, statistics and gradients of `run_chain`, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikefed.neurons import (
    ATan,
    ChainLayer,
    ChainSteps,
    Firing,
    LIFParameters,
    NormState,
    chain,
    chain_steps,
    run_chain,
)

pytestmark = pytest.mark.skipif(not chain.available(), reason="no native kernels for chains on this processor")
STEPS, BATCH = 4, 3
NEURON = LIFParameters(decay=0.5, v_threshold=0.7, surrogate=ATan())


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layers() -> list[ChainLayer]:
    """A convolution with everything, a linear layer with a bias and no norm, sums alone; fresh tensors each time."""
    state = NormState(torch.ones(6).requires_grad_(), torch.zeros(6).requires_grad_(), torch.zeros(6), torch.ones(6))
    conv = draw(6, 2, 3, 3, seed=3).mul(0.5).requires_grad_()
    dense = draw(12, 6 * 9, seed=4).mul(0.5).requires_grad_()
    last = draw(5, 12, seed=5).requires_grad_()
    return [
        ChainLayer(conv, None, "conv", Firing(NEURON, STEPS, "bn", pool=True, repeat=True), state, lambda: 0.1),
        ChainLayer(dense, draw(12, seed=6).requires_grad_(), "linear", Firing(NEURON, STEPS)),
        ChainLayer(last, None, "linear", None),
    ]


def learnt(chain: list[ChainLayer]) -> list[Tensor]:
    return [t for a in chain for t in (a.weight, a.bias, a.state.weight, a.state.bias) if t is not None]


def steps_of(x: Tensor, chain: list[ChainLayer]) -> tuple[ChainSteps, dict[Tensor, Tensor]]:
    gradients = {t: torch.full_like(t, torch.nan) for t in learnt(chain)}
    found = chain_steps(x, chain, gradients)
    assert found is not None
    return found, gradients


def test_every_step_has_the_bits_of_a_chain_through_autograd() -> None:
    ours, theirs = layers(), layers()
    steps, gradients = steps_of(draw(BATCH, 2, 6, 6), ours)
    for seed in range(3):
        x, upstream = draw(BATCH, 2, 6, 6, seed=seed), draw(STEPS * BATCH, 5, seed=seed + 10)
        got, wanted = steps.forward(x), run_chain(x, theirs)
        assert wanted is not None and torch.equal(got, wanted)
        steps.backward(upstream)
        for mine, other in zip(gradients.values(), torch.autograd.grad(wanted, learnt(theirs), upstream), strict=True):
            assert torch.equal(mine, other)
        for mine, other in zip(ours[0].state[2:], theirs[0].state[2:], strict=True):
            assert mine is not None and other is not None and torch.equal(mine, other)
        with torch.no_grad():
            for t in (*learnt(ours), *learnt(theirs)):
                t.mul_(0.9)


def test_what_came_out_stays_when_the_next_step_is_made() -> None:
    steps, _ = steps_of(draw(BATCH, 2, 6, 6), layers())
    first = steps.forward(draw(BATCH, 2, 6, 6))
    kept = first.clone()
    steps.forward(draw(BATCH, 2, 6, 6, seed=1))
    assert torch.equal(first, kept)


def test_a_tensor_without_a_place_gets_no_gradient() -> None:
    ours = layers()
    whole, gradients = steps_of(draw(BATCH, 2, 6, 6), ours)
    part = {ours[0].weight: torch.full_like(ours[0].weight, torch.nan)}
    some = chain_steps(draw(BATCH, 2, 6, 6), ours, part)
    assert some is not None
    for steps in (whole, some):
        steps.forward(draw(BATCH, 2, 6, 6))
        steps.backward(draw(STEPS * BATCH, 5))
    assert torch.equal(part[ours[0].weight], gradients[ours[0].weight])


def test_memory_given_to_a_tensor_between_the_two_ways_is_found() -> None:
    results = []
    for moves in (False, True):
        ours = layers()
        steps, gradients = steps_of(draw(BATCH, 2, 6, 6), ours)
        steps.forward(draw(BATCH, 2, 6, 6))
        if moves:
            for t in learnt(ours):
                t.data = t.detach().clone()
        steps.backward(draw(STEPS * BATCH, 5))
        results.append([g.clone() for g in gradients.values()])
    assert all(map(torch.equal, *results))


def test_the_way_back_needs_a_way_there_and_one_shape() -> None:
    steps, _ = steps_of(draw(BATCH, 2, 6, 6), layers())
    with pytest.raises(AssertionError, match="no forward before"):
        steps.backward(draw(STEPS * BATCH, 5))
    with pytest.raises(AssertionError, match="shape"):
        steps.forward(draw(BATCH + 1, 2, 6, 6))


def test_what_a_chain_does_not_take_has_no_steps() -> None:
    assert chain_steps(draw(BATCH, 2, 6, 6).double(), layers(), {}) is None
