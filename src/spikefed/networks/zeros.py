"""How many activations of an ANN twin are 0, for every image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from spikefed.networks.monitor import device_of, in_eval_mode


@torch.no_grad()
def zero_shares(net: nn.Module, x: Tensor) -> Float64[Tensor, " N"]:
    """Share of every image's hidden activations that are 0, before pools.

    Args:
        net: an ANN twin.
        x: network input ``[N, ...]``.
    """
    zeros = torch.zeros(len(x), dtype=torch.float64)
    total = 0
    with in_eval_mode(net), _seen(net) as seen:
        net(x.to(device_of(net)))
    for y in seen:
        zeros += (y == 0).flatten(1).sum(1).double().cpu()
        total += y[0].numel()
    return zeros / max(total, 1)


@contextmanager
def _seen(net: nn.Module) -> Iterator[list[Tensor]]:
    """Every activation that the network computes while this is open."""
    seen: list[Tensor] = []

    def look(layer: Any, y: Tensor) -> Tensor:
        out = type(layer).rectified(layer, y)
        seen.append(out)
        return out

    rectifying: list[Any] = [module for module in net.modules() if getattr(module, "rectify", False)]
    for layer in rectifying:
        layer.rectified = partial(look, layer)
    try:
        yield seen
    finally:
        for layer in rectifying:
            del layer.rectified
