"""A row of layers where proxies of a task go around some (`spikefed.networks.proxies`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from spikefed.networks.layers.planned import PlannedLayer
from spikefed.networks.proxies import Proxies


def is_block(layer: PlannedLayer, place: int) -> bool:
    """Whether a layer is one that proxies can go around: a convolution with neurons, from the second layer on."""
    neurons = getattr(layer, "neuron", None) is not None or getattr(layer, "rectify", False)
    return place > 0 and layer.plan.kind == "conv" and neurons


def proxies_of(layer: PlannedLayer) -> Proxies | None:
    """The choices of the task that is on, at one layer."""
    part = layer.part()
    return None if part is None else part.proxies


def idle_places(layers: Sequence[PlannedLayer]) -> set[int]:
    """Places of the layers whose output nobody takes any more; empty where no layer has proxies."""
    blocks = {place: own for place, layer in enumerate(layers) if (own := proxies_of(layer)) is not None}
    if not blocks:
        return set()
    needed = {max(blocks)}
    for place in sorted(blocks, reverse=True):
        if place in needed:
            needed |= blocks[place].needs()
    return {place for place in blocks if place not in needed}


def tailored(layers: Sequence[PlannedLayer]) -> bool:
    """Whether the task that is on has proxies in some layer."""
    return any(proxies_of(layer) is not None for layer in layers)


def through(
    layers: Sequence[PlannedLayer], x: Tensor, call: Callable[[PlannedLayer, Tensor, int, list[Tensor]], Tensor]
) -> Tensor:
    """A row of layers with proxies, one after the other; those whose output nobody takes any more are left out.

    Args:
        layers: of the network.
        x: what enters the first, ``[N, ...]``.
        call: ``(layer, its input, its place, outputs of the layers before)``.
    """
    idle = idle_places(layers)
    outs: list[Tensor] = []
    for place, layer in enumerate(layers):
        own = proxies_of(layer)
        if own is not None and not (own.kept()[0] and place not in idle):
            x = x.new_zeros(len(x), *layer.plan.in_shape)  # nobody reads it; whoever watches sees a silent layer
        x = x.new_zeros(len(x), *layer.plan.out_shape) if place in idle else call(layer, x, place, outs)
        outs.append(x)
    return x
