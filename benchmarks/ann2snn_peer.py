"""SpikingJelly's converter on the same network and images as ours, for the study and for a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.interop import flat
from spikefed.networks import ANNNetwork

PEER_RECIPES = ("max", "percentile", "channel", "max-half", "channel-half", "ltb")
"""Of `spikingjelly.activation_based.ann2snn` 2.0; ``half``: with its switch for membranes at half threshold."""


def plain(ann: ANNNetwork) -> nn.Sequential:
    """The ANN twin, batch norm folded, as a module of torch alone."""
    parts: list[nn.Module] = []
    for node in flat(ann).nodes:
        assert node.weight is not None
        weight = torch.from_numpy(node.weight)
        if node.kind == "conv":
            made: Any = nn.Conv2d(*weight.shape[1::-1], weight.shape[2], node.stride, weight.shape[2] // 2)
        else:
            made = nn.Linear(*weight.shape[::-1])
            parts += [nn.Flatten()] if len(node.in_shape) == 3 else []
        made.weight.data = weight
        made.bias.data = torch.zeros(len(weight)) if node.shift is None else torch.from_numpy(node.shift)
        parts.append(made)
        parts += [nn.ReLU()] if node.rectify else []
        parts += [nn.AvgPool2d(2)] if node.pool is not None else []
    return nn.Sequential(*parts).eval()


def peer(ann: ANNNetwork, images: Tensor, recipe: str) -> nn.Module:
    """Their converted network. ``images`` are network input ``[N, C, H, W]``."""
    from spikingjelly.activation_based import ann2snn

    loader = [(part, torch.zeros(len(part))) for part in images.split(128)]
    if recipe == "ltb":
        chosen: Any = ann2snn.LocalThresholdBalancingRecipe(loader)
    else:
        kind, _, half = recipe.partition("-")
        mode = "max" if kind == "max" else "99.9%"
        chosen = ann2snn.RateCodingRecipe(
            loader, mode=mode, channel_wise=kind == "channel", half_threshold=bool(half), fuse_flag=False
        )
    return ann2snn.Converter(recipe=chosen).convert(plain(ann)).eval()


@torch.no_grad()
def peer_outputs(net: nn.Module, x: Tensor, steps: Sequence[int]) -> dict[int, Tensor]:
    """Mean outputs ``[N, C]`` after each of the numbers of steps, of network input ``[N, C, H, W]``."""
    from spikingjelly.activation_based import functional

    functional.reset_net(net)
    total: Any = 0
    found = {}
    for step in range(1, max(steps) + 1):
        total = total + net(x)
        if step in steps:
            found[step] = total / step
    functional.reset_net(net)
    return found
