"""Weight gradients of single samples against those of torch in float64, one sample at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from spikefed.neurons import SampleSums, conv2d_sample_sums, samples, use_kernels

pytestmark = pytest.mark.skipif(samples.library() is None, reason="no native library")
SHAPES = [(1, 3, 16, 32, 14, 14), (3, 5, 5, 7, 6, 6), (2, 3, 1, 16, 9, 28), (1, 2, 3, 20, 5, 5), (2, 2, 33, 40, 13, 10)]
SHAPES += [(8, 1, 32, 32, 28, 28), (2, 2, 17, 16, 4, 3), (1, 1, 6, 3, 1, 1), (5, 2, 130, 18, 16, 15)]
"""Steps, samples, channels in and out, height, width: tiles of 4 and of 5, whole and ragged, one block and several."""


def draw(steps: int, batch: int, inputs: int, outputs: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the result, pooled spikes (of one channel: pixels), weights."""
    draws = torch.Generator().manual_seed(0)
    shape = (steps * batch, inputs, height, width)
    x = torch.rand(shape, generator=draws) if inputs == 1 else torch.randint(0, 5, shape, generator=draws) / 4
    upstream = torch.randn(steps * batch, outputs, height, width, generator=draws)
    return upstream, x, torch.randn(outputs, inputs, 3, 3, generator=draws)


def wanted(upstream: Tensor, x: Tensor, weight: Tensor, batch: int) -> SampleSums:
    each = []
    for b in range(batch):
        go = upstream[b::batch].double()
        gradient = conv2d_weight(x[b::batch].double(), weight.shape, go, padding=1)
        met = (gradient * weight.double()).sum((1, 2, 3))
        each.append((gradient.square().sum(), met, go.sum((0, 2, 3))))
    return SampleSums(*(torch.stack(rows) for rows in zip(*each, strict=True)))


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_each_sample_are_those_of_its_own_gradient(shape: tuple[int, ...], level: int) -> None:
    upstream, x, weight = draw(*shape)
    got = conv2d_sample_sums(upstream, x, weight, shape[1], padding=1)
    expected = wanted(upstream, x, weight, shape[1])
    assert got is not None
    assert torch.allclose(got.squares, expected.squares, rtol=1e-6)
    for ours, theirs in zip(got[1:], expected[1:], strict=True):
        assert ours.dtype == torch.float64 and ours.shape == theirs.shape
        assert float((ours - theirs).norm() / theirs.norm()) < 3e-6


def test_a_sum_by_hand() -> None:
    """One pixel: its weight gradient is x g at the middle tap alone."""
    x, upstream = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1), torch.tensor([5.0, -1.0]).view(1, 2, 1, 1)
    weight = torch.ones(2, 2, 3, 3)
    got = conv2d_sample_sums(upstream, x, weight, 1, padding=1)
    assert got is not None
    assert got.squares.tolist() == [(4 + 9) * (25 + 1)]
    assert got.met.tolist() == [[25.0, -5.0]] and got.come.tolist() == [[5.0, -1.0]]


def test_a_sample_is_what_it_is_alone_and_on_any_number_of_threads() -> None:
    upstream, x, weight = draw(3, 5, 16, 20, 14, 9)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = conv2d_sample_sums(upstream, x, weight, 5, padding=1)
        torch.set_num_threads(3)
        shared = conv2d_sample_sums(upstream, x, weight, 5, padding=1)
    finally:
        torch.set_num_threads(before)
    assert together is not None and shared is not None
    for ours, theirs in zip(together, shared, strict=True):
        assert torch.equal(ours, theirs)
    for b in range(5):
        alone = conv2d_sample_sums(upstream[b::5], x[b::5], weight, 1, padding=1)
        assert alone is not None
        assert all(torch.equal(own[0], of_all[b]) for own, of_all in zip(alone, together, strict=True))


def test_rows_of_later_steps_are_not_read() -> None:
    upstream, x, weight = draw(3, 2, 8, 8, 7, 7)
    x[4:] = torch.nan
    got = conv2d_sample_sums(upstream[:4], x, weight, 2, padding=1)
    expected = wanted(upstream[:4], x[:4], weight, 2)
    assert got is not None and torch.allclose(got.squares, expected.squares, rtol=1e-6)


def test_other_convolutions_and_kernels_are_not_taken() -> None:
    upstream, x, weight = draw(1, 2, 8, 8, 7, 7)
    assert conv2d_sample_sums(upstream[..., 1:-1, 1:-1], x, weight, 2) is None  # no padding
    assert conv2d_sample_sums(upstream[..., ::2, ::2], x, weight, 2, padding=1, stride=2) is None
    assert conv2d_sample_sums(upstream, x, weight[..., 1:, 1:], 2, padding=1) is None
    assert conv2d_sample_sums(upstream.double(), x.double(), weight.double(), 2, padding=1) is None
    with use_kernels("reference"):
        assert conv2d_sample_sums(upstream, x, weight, 2, padding=1) is None
