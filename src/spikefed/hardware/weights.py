"""Weights of a layer, whichever class holds them: their sizes, and how many of them an input value touches."""

from __future__ import annotations

from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.networks.layers import WeightedLayer
from spikefed.neurons import pair


def events(module: nn.Module, active: Tensor) -> float:
    """Weights touched by the active inputs: every output position that lies within reach, times the output channels.

    ``active`` is bool ``[B, C, H, W]`` or ``[B, F]``.
    """
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, nn.Linear) or (isinstance(module, WeightedLayer) and module.plan.kind == "linear"):
        return float(active.sum()) * weight.shape[0]
    if isinstance(module, WeightedLayer):
        counts = active.sum(dim=1, keepdim=True).float()
        ones = counts.new_ones(1, 1, *weight.shape[2:])
        reached = F.conv2d(counts, ones, stride=module.plan.strides, padding=module.plan.padding)
        return float(reached.sum(dtype=torch.float64)) * weight.shape[0]
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ones = torch.ones(module.groups, *weight.shape[1:], device=weight.device)
    reached = module._conv_forward(active.float(), ones, None)  # one output channel per group; strides, pads as built
    return float(reached.sum(dtype=torch.float64)) * (weight.shape[0] // module.groups)


def sizes(module: nn.Module) -> tuple[Literal["conv", "linear"], int, int, tuple[int, ...], tuple[int, ...]]:
    """Kind, input channels, groups, kernel and stride."""
    if isinstance(module, WeightedLayer):
        if module.plan.kind == "linear":
            return "linear", prod(module.plan.in_shape), 1, (), ()
        return "conv", module.plan.in_shape[0], 1, module.plan.kernel_size, pair(module.plan.strides)
    if isinstance(module, nn.Linear):
        return "linear", module.in_features, 1, (), ()
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return "conv", module.in_channels, module.groups, tuple(module.kernel_size), tuple(module.stride)
