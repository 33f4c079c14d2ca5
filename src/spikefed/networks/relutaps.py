"""Taps for ANN twins: weighted sums keep what entered and what comes back, for gradients of single samples.

Weights take no part in the graph meanwhile, so the pass back costs no products for them: `sampleforms` makes those from
what the taps kept.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.networks.layers import ReLULayer
from spikefed.networks.network import ANNNetwork
from spikefed.networks.taps import Call


class ReLUTap:
    """Stands in for the product of one layer, while it is set as ``layer.product``.

    Args:
        name: of the layer.
        layer: without a normalisation.
    """

    def __init__(self, name: str, layer: ReLULayer) -> None:
        self.name = name
        self.layer = layer
        self.before: Any = layer.product
        self.calls: list[Call] = []

    def forget(self) -> None:
        """What belongs to the forward pass before."""
        self.calls.clear()

    def plain(self) -> None:
        """There is no weight that a kernel could take in its place."""
        return

    def __call__(self, x: Tensor) -> Tensor:
        """Weighted sums ``[B, ...]`` of what enters, ``[B, ...]``."""
        layer = self.layer
        bias = None if layer.bias is None else layer.bias.detach()
        if layer.plan.kind == "conv":
            y = F.conv2d(x, layer.weight.detach(), bias, layer.plan.strides, layer.plan.padding)
        else:
            y = F.linear(x.flatten(1), layer.weight.detach(), bias)
        if not y.requires_grad:
            y.requires_grad_()
        call = Call(0, 1, still=False, fires=False, x=x.detach(), y=y.detach())
        self.calls.append(call)
        y.register_hook(lambda gradient: setattr(call, "gradient", gradient))
        return y


def rectified(net: nn.Module) -> list[tuple[str, ReLULayer]]:
    """The weighted layers of an ANN twin by name, if they hold all that trains in it and drop nothing; else none."""
    if not isinstance(net, ANNNetwork):
        return []
    layers = [(name, module) for name, module in net.named_modules() if type(module) is ReLULayer]
    known = {id(p) for _, layer in layers for p in (layer.weight, layer.bias) if p is not None}
    whole = all(id(p) in known for p in net.parameters() if p.requires_grad)
    plain = all(layer.norm is None and not layer.dropout and layer.parts is None for _, layer in layers)
    return layers if whole and plain else []


def tap_all(layers: list[tuple[str, ReLULayer]]) -> list[ReLUTap]:
    """A tap in every layer; `untap` takes them out."""
    taps = [ReLUTap(name, layer) for name, layer in layers]
    for tap in taps:
        tap.layer.product = tap
    return taps


def untap(taps: list[ReLUTap]) -> None:
    """The layers' own products again."""
    for tap in taps:
        tap.layer.product = tap.before
