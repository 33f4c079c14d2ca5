"""The three products of a convolution on one batch of channels-last maps, each called by itself.

For code that keeps its own record of the way back (a loop's steps): no autograd, no event lists.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.neurons import paths, products, winograd
from spikefed.neurons.sides import Sides, same_padding


class Products:
    """Products with one weight ``[Cout, Cin, Kh, Kw]``, padding half of that; every result is channels-last.

    Args:
        stride: of the convolution.
    """

    def __init__(self, stride: Sides) -> None:
        self.stride = stride

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution of ``x`` ``[B, Cin, H, W]``, in its precision."""
        if self._pointwise(weight):
            return _maps(_linear(_rows(x), weight.flatten(1), bias), x)
        if paths.by_winograd(weight, self.stride, same_padding(weight), x.dtype):
            return winograd.convolve(x, weight, bias)
        out = products.convolve(x, weight, bias, self.stride, same_padding(weight), x.dtype)
        return out.contiguous(memory_format=torch.channels_last)

    def input_gradient(self, upstream: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """Gradient of the input, which has this shape."""
        if self._pointwise(weight):
            return _maps(_linear(_rows(upstream), weight.flatten(1).t(), None), upstream)
        if paths.by_winograd(weight, self.stride, same_padding(weight), upstream.dtype):
            return winograd.input_gradient(upstream, weight)
        out = products.input_gradient(upstream, weight, shape, self.stride, same_padding(weight))
        return out.contiguous(memory_format=torch.channels_last)

    def weight_gradient(self, upstream: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Gradient of the weight ``[Cout, Cin, Kh, Kw]``, float32."""
        if paths.by_winograd(weight, self.stride, same_padding(weight), x.dtype):
            return winograd.weight_gradient(upstream, x, weight)
        return products.weight_gradient(upstream, x, weight, self.stride, same_padding(weight))

    def _pointwise(self, weight: Tensor) -> bool:
        return weight.shape[2:] == (1, 1) and self.stride == 1


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.dtype == torch.float32 or products.emulated(x.dtype):
        return products.linear(x, weight, bias, x.dtype)
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def _rows(x: Tensor) -> Tensor:
    """``[B * H * W, C]``, the same memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The way back from `_rows`."""
    return rows.view(len(like), *like.shape[2:], rows.shape[1]).permute(0, 3, 1, 2)
