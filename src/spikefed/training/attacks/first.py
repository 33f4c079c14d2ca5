"""The first layer of a rate-coded network under attack: its input's gradient, computed once for all draws and steps.

Straight through, a spike passes on its gradient times a slope that is the same in every draw and step, and a product
with weights is linear. So the gradients of all currents of an image are added up first, and go back through the weights
once, instead of T times the number of draws: the same sum in another order. Forward, a kernel on the spikes of one
channel has few sums that it can give: they are looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikefed.networks import SpikingNetwork
from spikefed.networks.layers import WeightedLayer
from spikefed.neurons import table_of_patches


class _Carry(torch.autograd.Function):
    """Currents ``[K * B, ...]`` forward; backward the sum over K to ``carrier [B, ...]``."""

    @staticmethod
    def forward(ctx: Any, carrier: Tensor, currents: Tensor) -> Tensor:
        ctx.images = len(carrier)
        return currents.view_as(currents)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _sum_over(grads[0], ctx.images), None


def _sum_over(grads: Tensor, images: int) -> Tensor:
    """``[K * B, ...]`` summed over K, as a product with ones: in the order of memory, which `Tensor.sum` leaves."""
    last = grads.dim() == 4
    flat = grads.permute(0, 2, 3, 1) if last else grads
    shape = (images, *flat.shape[1:])
    rows = flat.reshape(len(grads) // images, -1)  # no copy of what is channels-last
    found = (torch.ones(1, len(rows), dtype=rows.dtype, device=rows.device) @ rows).view(shape)
    return found.permute(0, 3, 1, 2) if last else found


class Carried:
    """A layer's product whose gradient goes to the image behind the spikes.

    Args:
        layer: the first layer of a network.
        expected: what the spikes are on average, times a constant or not: ``[B, ...]``, with the image's graph.
        binary: spikes are 0 or 1, never -1.
    """

    def __init__(self, layer: WeightedLayer, expected: Tensor, binary: bool = False) -> None:
        self._layer = layer
        self._expected = expected
        self._binary = binary

    def __call__(self, x: Tensor) -> Tensor:
        """Weighted sums of the spikes ``x [K * B, ...]``."""
        with torch.no_grad():
            looked_up = self._binary and by_table(self._layer)
            currents = tabled(self._layer, x) if looked_up else _product(self._layer, _channels_last(x))
        return cast(Tensor, _Carry.apply(_product(self._layer, self._expected), currents))

    def plain(self) -> None:
        """No weight gives the same gradient."""


def _product(layer: WeightedLayer, x: Tensor) -> Tensor:
    if layer.plan.kind == "conv":
        return functional.conv2d(x, layer.weight, layer.bias, stride=layer.plan.strides, padding=layer.plan.padding)
    return functional.linear(x.flatten(1), layer.weight, layer.bias)


def by_table(layer: WeightedLayer) -> bool:
    """Whether a layer looks at 3x3 pixels of one channel, which spikes fill in 512 ways."""
    plan = layer.plan
    return plan.kind == "conv" and layer.weight.shape[1:] == (1, 3, 3) and plan.stride == 1 and not plan.line


def tabled(layer: WeightedLayer, spikes: Tensor) -> Tensor:
    """The currents of spikes ``[N, 1, H, W]``, each 0 or 1, out of a table of all patches; channels-last."""
    table = table_of_patches(layer.weight, layer.bias)
    fired = functional.pad(spikes[:, 0].to(torch.int16), (1, 1, 1, 1))
    along = fired[..., :-2] + 2 * fired[..., 1:-1] + 4 * fired[..., 2:]
    number = along[:, :-2] + 8 * along[:, 1:-1] + 64 * along[:, 2:]  # of the patch around each pixel
    found = table.index_select(0, number.flatten().to(torch.int32))
    return found.view(*number.shape, -1).permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    """Maps of one channel told to be channels-last, which they are as well: so their products are, without a copy."""
    if x.dim() != 4:
        return x
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    x = x.contiguous()
    _, _, height, width = x.shape
    return x.as_strided(x.shape, (height * width, 1, width, 1))


def first_layer(net: nn.Module) -> WeightedLayer | None:
    """The layer that alone sees the coder's spikes; None where a network branches, or its product is another."""
    if type(net) is not SpikingNetwork:
        return None
    layer = net.places[0]
    return layer if isinstance(layer, WeightedLayer) and layer.product is None else None


@contextmanager
def carried(layer: WeightedLayer, expected: Tensor, binary: bool = False) -> Iterator[None]:
    """The layer's gradients go to ``expected`` ``[B, ...]`` inside; its spikes are ``binary`` or not."""
    layer.product = Carried(layer, expected, binary)
    try:
        yield
    finally:
        layer.product = None
