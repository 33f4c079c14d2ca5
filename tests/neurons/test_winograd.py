"""The Winograd convolution against torch's own: values, edges, layouts, instruction sets, threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from spikefed.neurons import fused, paths, spike_conv2d, winograd

pytestmark = pytest.mark.skipif(winograd.library() is None, reason="no Winograd kernel on this processor")
SHAPES = [(64, 64, 9, 7), (16, 40, 4, 4), (33, 20, 5, 11), (130, 48, 1, 1), (3, 17, 2, 3), (24, 70, 14, 14)]
SHAPES += [(24, 20, 4, 8), (256, 40, 8, 16), (20, 33, 13, 18), (17, 40, 30, 5), (256, 24, 14, 14), (64, 18, 14, 22)]
SHAPES += [(300, 300, 6, 5)]  # weights larger than a last-level cache
"""In channels, out channels, height, width: whole and ragged tiles of every kind, vectors and panels."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def error(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("inputs", "outputs", "height", "width"), SHAPES)
def test_forward_and_input_gradient_equal_the_direct_sums(inputs, outputs, height, width) -> None:
    x, weight = normal(7, inputs, height, width), torch.randn(outputs, inputs, 3, 3)
    bias = torch.randn(outputs)
    wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert error(winograd.convolve(x, weight, bias), wanted) < 3e-6
    upstream = normal(7, outputs, height, width, seed=1)
    wanted = F.conv_transpose2d(upstream.double(), weight.double(), padding=1)
    assert error(winograd.input_gradient(upstream, weight), wanted) < 3e-6


@pytest.mark.parametrize(("inputs", "outputs", "height", "width"), SHAPES)
def test_bfloat16_rounds_inputs_weights_and_results_and_nothing_else(inputs, outputs, height, width) -> None:
    x, weight = normal(7, inputs, height, width).bfloat16(), normal(outputs, inputs, 3, 3, seed=1)
    got = winograd.convolve(x, weight, None)
    wanted = F.conv2d(x.float(), weight.bfloat16().float(), padding=1).bfloat16()
    assert got.dtype == torch.bfloat16
    assert (got != wanted).float().mean() < 0.01  # sums in another order may round to the neighbour
    assert error(got, wanted.double()) < 2**-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("height", "width"), [(14, 14), (8, 16), (13, 5), (30, 18)])
def test_each_weight_meets_each_input_once(height, width, dtype) -> None:
    """One 1 in the input, powers of two as weights: outputs are the weights turned round, exact but for rounding."""
    weight = torch.zeros(16, 16, 3, 3)
    weight[3, 5] = 2.0 ** torch.arange(9).reshape(3, 3)
    for row in range(height):
        for column in range(width):
            x = torch.zeros(1, 16, height, width).to(dtype).contiguous(memory_format=torch.channels_last)
            x[0, 5, row, column] = 1
            wanted = F.conv2d(x.float(), weight, padding=1)
            got = winograd.convolve(x, weight, None).float()
            assert (got - wanted).abs().max() < 1e-5 * 256  # of the largest; the least is 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (20, 3, 9, 5), (1, 2, 1, 3), (17, 4, 4, 4)])
@pytest.mark.parametrize("outputs", [1, 8, 37])
def test_the_weight_gradient_of_images_equals_the_direct_sums(shape, outputs, dtype) -> None:
    x = normal(*shape).to(dtype).contiguous(memory_format=torch.channels_last)
    upstream = normal(shape[0], outputs, *shape[2:], seed=1).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(outputs, shape[1], 3, 3)
    got = winograd.weight_gradient(upstream, x, weight, direct=True)
    assert got.dtype == torch.float32
    wanted = conv2d_weight(x.double(), weight.shape, upstream.double(), padding=1)
    assert error(got, wanted) < 1e-6


def test_a_first_layer_learns_by_the_direct_sums_and_its_forward_pass_is_torchs() -> None:
    x = normal(8, 1, 28, 28)
    weight = normal(32, 1, 3, 3, seed=1).requires_grad_()
    assert paths.convolution(x, weight, 1, 1, torch.float32).weight == "direct"
    out = spike_conv2d(x, weight, padding=1)
    assert torch.equal(out, F.conv2d(x, weight, padding=1))
    assert out.is_contiguous(memory_format=torch.channels_last)
    upstream = normal(*out.shape, seed=2)
    out.backward(upstream)
    assert weight.grad is not None
    wanted = conv2d_weight(x.double(), weight.shape, upstream.double(), padding=1)
    assert error(weight.grad, wanted) < 1e-6


def test_every_instruction_set_with_fused_products_gives_the_same_bits() -> None:
    lib = fused.library()
    assert lib is not None
    best = lib.spikefed_best_level()
    if best < 2:
        pytest.skip("this processor has one of them only")
    x, weight = normal(5, 40, 10, 6), torch.randn(50, 40, 3, 3)
    ragged, wide = normal(5, 40, 14, 17), normal(5, 40, 8, 16).bfloat16()
    image, upstream, first = normal(5, 3, 10, 6), normal(5, 21, 10, 6), torch.zeros(21, 3, 3, 3)
    try:
        results = []
        for level in (1, 2):
            lib.spikefed_set_level(level)
            direct = winograd.weight_gradient(upstream, image, first, direct=True)
            made = [winograd.convolve(maps, weight, None).float().flatten() for maps in (x, ragged, wide)]
            results.append(torch.cat([*made, direct.flatten()]))
    finally:
        lib.spikefed_set_level(best)
    assert torch.equal(*results)


def test_without_the_kernel_the_convolution_is_dense() -> None:
    lib = fused.library()
    assert lib is not None
    lib.spikefed_set_level(0)
    try:
        assert winograd.library() is None and not winograd.suits(torch.randn(32, 32, 3, 3), 1, 1)
        x, weight = normal(2, 32, 6, 6), torch.randn(32, 32, 3, 3)
        assert torch.equal(spike_conv2d(x, weight, padding=1), F.conv2d(x, weight, padding=1))
    finally:
        lib.spikefed_set_level(lib.spikefed_best_level())


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_repeats_bit_for_bit_on_any_number_of_threads() -> None:
    x, weight = normal(40, 32, 10, 10), torch.randn(48, 32, 3, 3)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(winograd.input_gradient(normal(40, 48, 10, 10), weight))
        results.append(winograd.convolve(x, weight, None))
        results.append(
            winograd.weight_gradient(normal(40, 48, 10, 10), normal(40, 3, 10, 10), weight[:, :3], direct=True)
        )
    assert all(torch.equal(a, b) for a, b in zip(results, results[3:], strict=False))


def test_nan_and_infinity_are_not_hidden() -> None:
    x, weight = normal(1, 16, 8, 8), torch.randn(16, 16, 3, 3)
    x[0, 3, 2, 2] = float("nan")
    assert winograd.convolve(x, weight, None)[0, :, 2, 2].isnan().all()


@pytest.mark.parametrize(("stride", "padding", "kernel"), [(2, 1, 3), (1, 0, 3), (1, 2, 5), (1, 0, 1)])
def test_other_convolutions_are_not_taken(stride, padding, kernel) -> None:
    assert not winograd.suits(torch.randn(32, 32, kernel, kernel), stride, padding)


def test_a_layer_learns_the_same_as_in_torch() -> None:
    x = normal(4, 32, 9, 9).requires_grad_()
    weight, bias = torch.randn(24, 32, 3, 3, requires_grad=True), torch.randn(24, requires_grad=True)
    upstream = normal(4, 24, 9, 9, seed=2)
    got = torch.autograd.grad(spike_conv2d(x, weight, bias, padding=1), (x, weight, bias), upstream)
    wanted = torch.autograd.grad(F.conv2d(x, weight, bias, padding=1), (x, weight, bias), upstream)
    for ours, theirs in zip(got, wanted, strict=True):
        assert error(ours, theirs.double()) < 3e-6
