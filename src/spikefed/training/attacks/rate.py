"""The gradient of rate-coded images of one channel, the first layer in one native pass for all draws and steps.

Straight through, a spike passes on its gradient as it is, whatever was drawn. So the gradients of the first layer's
currents are added up over draws and steps, and the sum goes back through the weights once: the same sum as in
`first.carried`, in another order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from spikefed.networks import SpikingNetwork
from spikefed.networks.layers import SpikingLayer, chained, tailored, watched
from spikefed.neurons import ChainLayer, pattern_gradient, pattern_spikes, patterns_suit, table_of_patches


def rate_layer(net: nn.Module) -> ChainLayer | None:
    """A network's first layer, if the native pass takes it and nobody looks at it; None elsewhere."""
    if type(net) is not SpikingNetwork or watched(net) or net.training:
        return None
    if net.precision != "float32" or torch.is_autocast_enabled("cpu"):
        return None
    layers = net.places
    first = layers[0]
    if len(layers) < 2 or type(first) is not SpikingLayer or watched(first) or tailored(layers):
        return None
    link = first.link(net.steps)
    return link if link is not None and patterns_suit(link) else None


class RateGradient:
    """The gradient of images, collected a few images at a time.

    Args:
        net: under attack, in eval mode.
        first: its first layer (`rate_layer`).
        images: in pixels, ``[B, 1, H, W]``.
        preprocess: pixels to probabilities.

    Raises:
        ConfigError: images of another shape than the network's.
    """

    def __init__(
        self, net: SpikingNetwork, first: ChainLayer, images: Tensor, preprocess: Callable[[Tensor], Tensor]
    ) -> None:
        self._first = first
        self._layers = net.places[1:]
        self._steps = net.steps
        self._images = images.detach().clone().requires_grad_()
        with torch.enable_grad():
            self._pixels = preprocess(self._images)
        net.check_input(self._pixels)
        self._table = table_of_patches(first.weight.detach(), None if first.bias is None else first.bias.detach())
        self._gradients: list[Tensor] = []

    def ascent(self, rows: slice, uniform: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Loss ``[b]`` and scores ``[D, b, classes]`` of the next images; their gradient is kept.

        Args:
            rows: which images.
            uniform: their random numbers ``[b, D, T, 1, H, W]``.
            loss: of scores, ``[D, b, classes]`` to ``[b]``.
        """
        spikes, traced = pattern_spikes(self._pixels.detach()[rows], uniform, self._first, self._table)
        spikes.requires_grad_()
        with torch.enable_grad():
            scores = self._behind(spikes).unflatten(0, (uniform.shape[1], -1))
            each = loss(scores)
            (upstream,) = torch.autograd.grad(each.sum(), spikes)
        self._gradients.append(pattern_gradient(traced, upstream))
        return each.detach(), scores.detach()

    def gradient(self) -> Tensor:
        """Of all images, in pixels; ``[B, 1, H, W]``. Call once, after the last of them."""
        currents = torch.cat(self._gradients)
        upstream = conv2d_input(self._pixels.shape, self._first.weight.detach(), currents, padding=1)
        return torch.autograd.grad(self._pixels, self._images, upstream)[0]

    def _behind(self, spikes: Tensor) -> Tensor:
        """Mean outputs over time of the layers behind the first, ``[R, classes]`` of ``[T * R, ...]``."""
        found = chained(self._layers, spikes, self._steps, False, large=True)
        if found is None:
            found = spikes
            for layer in self._layers:
                found = layer(found, self._steps)
        return found.unflatten(0, (self._steps, -1)).mean(dim=0)
