"""bfloat16 rounds a bias as it rounds inputs and weights, whichever kernel computes the layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.neurons import ChainLayer, chain, events, fused, processor, products, run_chain, winograd

needs_native = pytest.mark.skipif(fused.library() is None, reason="no native library")
IMAGES, INPUTS, OUTPUTS, SIDE = 3, 32, 48, 12
"""Of a convolution; a linear layer takes one image's inputs a row."""


def spikes(*shape: int) -> Tensor:
    drawn = (torch.rand(*shape, generator=torch.Generator().manual_seed(0)) < 0.2).bfloat16()
    return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_winograd(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return winograd.convolve(x, weight, bias)


def by_lists(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.dim() == 2:
        return events.rows_product(events.listed_rows(x), weight, bias, x.dtype)
    return events.convolve(events.listed(x), weight, bias, x.dtype)


def by_float_products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.dim() == 2:
        return products.linear(x, weight, bias, x.dtype)
    return products.convolve(x, weight, bias, 1, 1, x.dtype)


def by_torch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.linear(x, weight, bias) if x.dim() == 2 else F.conv2d(x, weight, bias, padding=1)


def by_chain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if processor.has_amx() or not chain.available():
        pytest.skip("no chains in bfloat16 on this processor")
    out = run_chain(x, [ChainLayer(weight, bias, "linear" if x.dim() == 2 else "conv", None)])
    assert out is not None
    return out


LAYERS = [
    (by_chain, (OUTPUTS, INPUTS, 3, 3)),
    (by_chain, (OUTPUTS, INPUTS)),
    (by_winograd, (OUTPUTS, INPUTS, 3, 3)),
    (by_lists, (OUTPUTS, INPUTS, 3, 3)),
    (by_lists, (OUTPUTS, INPUTS)),
    (by_float_products, (OUTPUTS, INPUTS, 3, 3)),
    (by_float_products, (OUTPUTS, INPUTS)),
    (by_torch, (OUTPUTS, INPUTS, 3, 3)),
    (by_torch, (OUTPUTS, INPUTS)),
]


@needs_native
@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_every_path_rounds_the_bias(layer: Callable[[Tensor, Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
    x = spikes(60, INPUTS) if len(shape) == 2 else spikes(IMAGES, INPUTS, SIDE, SIDE)
    weight, bias = draw(*shape, seed=1) / 8, draw(OUTPUTS, seed=2)
    out = layer(x, weight, bias)
    assert out.dtype == torch.bfloat16
    assert differ(out, x, weight, bias.bfloat16()) < 0.01  # another order of sums
    assert differ(out, x, weight, bias) > 0.1  # the test can tell the two


def differ(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> float:
    """Part of the outputs that are not the sums of rounded inputs and weights in double precision, rounded once."""
    x, weight, bias = x.double(), weight.bfloat16().double(), bias.double()
    exact = F.linear(x, weight, bias) if x.dim() == 2 else F.conv2d(x, weight, bias, padding=1)
    return float((out != exact.bfloat16()).double().mean())
