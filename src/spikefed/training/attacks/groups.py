"""How many images go through a network at a time under attack: as many as the processor's cache holds.

The activations of one layer over all draws and steps are what is large. Where they fit the cache, and memory that the
last group left is taken again, a gradient takes about half as long. Images do not see each other: nothing else changes.
"""

from __future__ import annotations

from math import prod

from torch import nn

from spikefed.networks.layers import PlannedLayer
from spikefed.networks.monitor import device_of

ROOM_BYTES = 8 * 1024 * 1024
"""Of a layer's activations, float32. Best of 2 to 80 MB with `small` on Fashion-MNIST (benchmarks/attacks.py)."""


def groups(net: nn.Module, count: int, draws: int, behind_first: bool = False) -> list[slice]:
    """Rows that go through together: all of them where nothing is known of the network, or on another device.

    Args:
        net: under attack; in training mode its images see each other, so they stay together.
        count: images.
        draws: of the coder for each.
        behind_first: whether the first layer's activations are never written.
    """
    layers = [module for module in net.modules() if isinstance(module, PlannedLayer)]
    largest = max((prod(layer.plan.map_shape) for layer in layers[behind_first:]), default=0)
    alone = any(module.training for module in net.modules())
    if not largest or alone or device_of(net).type != "cpu":
        return [slice(0, count)]
    size = max(1, ROOM_BYTES // (4 * largest * draws * int(getattr(net, "steps", 1))))
    return [slice(row, min(row + size, count)) for row in range(0, count, size)]
