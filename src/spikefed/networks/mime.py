"""Masked activations of ANN twins: a value passes where it reaches its task's threshold, and is 0 elsewhere.

MIME (Bhattacharjee, Venkatesha, Moitra, Panda, DAC 2022) as far as its abstract says it; the surrogate is that of
Dynamic Sparse Training (Liu et al., ICLR 2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def step_slope(distance: Tensor) -> Tensor:
    """What stands for the derivative of the step: 2 - 4|u| up to 0.4, 0.4 up to 1, then 0. Shape stays that of u."""
    size = distance.abs()
    return torch.where(size <= 0.4, 2 - 4 * size, torch.where(size <= 1, 0.4, 0.0)).to(distance.dtype)


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(y, threshold)
        return torch.where(y >= threshold, y, y.new_zeros(()))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        y, threshold = ctx.saved_tensors
        distance = y - threshold
        through = y * step_slope(distance) * upstream[0]  # y h'(y - tau) dL/da
        passed = torch.where(distance >= 0, upstream[0], upstream[0].new_zeros(()))
        return passed + through, -through.sum_to_size(threshold.shape)


def masked(y: Tensor, threshold: Tensor) -> Tensor:
    """y 1[y >= tau], with dL/dtau = -sum y h'(y - tau) dL/da and dL/dy = (1[y >= tau] + y h'(y - tau)) dL/da.

    At tau = 0 this is ReLU, but for the gradient near 0.

    Args:
        y: ``[N, C, ...]``.
        threshold: tau, of a shape that goes with one item of ``y``.
    """
    out: Tensor = _Masked.apply(y, threshold)  # pyright: ignore[reportAssignmentType]
    return out
