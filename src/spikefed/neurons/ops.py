"""Convolution and linear layers whose input is (mostly) spikes; the fastest path is chosen inside, the result is
torch's."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


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
    return F.linear(x.flatten(1), weight, bias)
