"""Small layers in a row as one call, where nobody looks between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spikefed.networks.layers.spiking import SpikingLayer
from spikefed.neurons import ChainLayer, recording, run_chain, run_pruned


def chained(layers: Sequence[nn.Module], x: Tensor, steps: int, repeat: bool, large: bool = False) -> Tensor | None:
    """The layers in a row as one call, where all are small and nobody looks between them; else None.

    Args:
        layers: in the order of the data.
        x: input ``[T, B, ...]``, or ``[B, ...]`` with ``repeat``.
        steps: T.
        repeat: whether every step sees the same input.
        large: take layers that are not small too (`run_chain`).
    """
    links = links_of(layers, steps, repeat)
    if links is None:
        return None
    out = run_pruned(x, links)
    if out is not None or any(layer.pruned() for layer in layers if isinstance(layer, SpikingLayer)):
        return out
    return run_chain(x, links, large=large)


def links_of(layers: Sequence[nn.Module], steps: int, repeat: bool) -> list[ChainLayer] | None:
    """The layers as those of a chain; None where one has no place there, or somebody looks between them.

    Args:
        layers: in the order of the data.
        steps: T.
        repeat: whether every step sees the same input.
    """
    if recording():
        return None
    links = []
    for i, layer in enumerate(layers):
        link = None
        if type(layer) is SpikingLayer and not watched(layer):
            link = layer.link(steps, repeat and i == 0)
        if link is None:
            return None
        links.append(link)
    return links


def watched(module: nn.Module) -> bool:
    """Whether somebody asked to be told of this module's calls, so that it must be called as a module."""
    everywhere = torch.nn.modules.module
    own = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    own = own or getattr(module, "tap", None) or getattr(module, "parts", None)
    return bool(own or everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)
