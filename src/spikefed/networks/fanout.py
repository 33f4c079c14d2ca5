"""Weights that an input meets: of the convolutions and linear layers of any network, and how many a place has ahead."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikefed.networks.layers import SpikingLayer
from spikefed.networks.layers.planned import WeightedLayer


def weighted(module: nn.Module) -> bool:
    """Whether it is a layer whose operations are counted: one of ours, or a plain one."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and isinstance(module, SpikingLayer | nn.Conv2d | nn.Linear)


def weight_of(module: nn.Module) -> Tensor:
    """The weights of a convolution or linear layer, ``[Cout, Cin / groups, k, k]`` or ``[out, in]``."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def geometry(module: nn.Module) -> dict[str, Any]:
    """Stride, padding and dilation of a convolution, as ``conv2d`` takes them."""
    if isinstance(module, WeightedLayer):  # of an ANN twin too
        return {"stride": module.plan.strides, "padding": module.plan.padding}
    return {"stride": module.stride, "padding": module.padding, "dilation": module.dilation}


def by_input(module: nn.Module, weights: Tensor) -> Tensor:
    """Of what there is a weight ``[Cout, Cin / groups, k, k]`` or ``[out, in]``: sums by input ``[1, Cin, k, k]`` or
    ``[1, in]``, over the outputs that its group has.
    """
    groups = getattr(module, "groups", 1)
    return weights.unflatten(0, (groups, -1)).sum(1).flatten(0, 1).unsqueeze(0) if groups > 1 else weights.sum(0, True)


def as_input(weight: Tensor, x: Tensor) -> Tensor:
    """What enters a layer, maps flattened where it is a linear one: ``[N, Cin, H, W]`` or ``[N, in]``."""
    if weight.dim() != 2:
        return x
    return x.flatten(1) if x.dim() > 2 and x[0].numel() == weight.shape[1] else x.flatten(0, -2)


def fan_out(module: nn.Module, x: Tensor, every: bool = False) -> Tensor:
    """Non-zero weights that an input at each place meets, borders counted exactly: ``[1, Cin, H, W]`` or ``[1, in]``.

    Args:
        module: a `weighted` layer.
        x: what enters it, from `as_input`.
        every: count weights that are 0 too.
    """
    weight = weight_of(module).detach()
    kept = (torch.ones_like(weight) if every else weight != 0).to(torch.float32)
    kept = by_input(module, kept)
    if kept.dim() == 2:
        return kept
    place = torch.zeros(1, *x.shape[1:], device=x.device, requires_grad=True)
    with torch.enable_grad():
        met = nn.functional.conv2d(place, kept, **geometry(module)).sum()
        return torch.autograd.grad(met, place)[0]
