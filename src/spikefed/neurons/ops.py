"""Convolution and linear layers whose input is (mostly) spikes; the fastest path is chosen inside, the result is
torch's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed.neurons import fused
from spikefed.neurons.kernels import kernels


def spike_conv2d(
    x: Float[Tensor, "N Cin H W"],
    weight: Float[Tensor, "Cout Cin K K"],
    bias: Float[Tensor, " Cout"] | None = None,
    *,
    padding: int = 0,
    stride: int = 1,
) -> Float[Tensor, "N Cout H2 W2"]:
    """2-D convolution, as ``torch.nn.functional.conv2d``, for inputs with many zeros (spikes, pooled spikes; images
    work too)."""
    if _fast(x) and x.shape[1] > 1:
        x = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, bias, stride=stride, padding=padding)


def spike_linear(
    x: Float[Tensor, " N *rest"],
    weight: Float[Tensor, "Fout Fin"],
    bias: Float[Tensor, " Fout"] | None = None,
) -> Float[Tensor, "N Fout"]:
    """Linear layer on ``x`` flattened after its first axis in C, H, W order.

    Give the map ``[N, C, H, W]`` as it is: a fast path can then avoid the reordering that a flatten of a
    channels-last map costs.
    """
    if x.dim() == 4 and _fast(x) and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return F.linear(_Flatten.apply(x), weight, bias)  # type: ignore[arg-type]
    return F.linear(x.flatten(1), weight, bias)


def _fast(x: Tensor) -> bool:
    return x.device.type == "cpu" and kernels() == "auto" and fused.suits(x)


class _Flatten(torch.autograd.Function):
    """``flatten(1)`` of a channels-last map, by a native transpose (torch's generic copy is several times slower)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        n, c, h, w = x.shape
        return fused.transpose(x, x.new_empty(n, c * h * w), n, h * w, c)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        n, c, h, w = ctx.shape
        out = torch.empty(ctx.shape, dtype=grads[0].dtype, memory_format=torch.channels_last)
        return fused.transpose(grads[0].contiguous(), out, n, c, h * w)
