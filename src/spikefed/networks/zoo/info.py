"""What a named network is: its drawing and its defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from spikefed.networks.graph import Graph
from spikefed.networks.network import LayeredNetwork
from spikefed.networks.pools import Pooling
from spikefed.neurons import LIFParameters


@dataclass(frozen=True)
class Wanted:
    """What a graph is drawn for.

    Attributes:
        input_shape: ``(C, H, W)``.
        classes: number of outputs.
        spiking: the outputs are spikes; else the currents of each step.
        pooling: what makes maps smaller.
        normed_readout: spiking outputs have a norm before their neurons.
    """

    input_shape: tuple[int, ...]
    classes: int
    spiking: bool
    pooling: Pooling
    normed_readout: bool

    @property
    def side(self) -> int:
        """The shorter side of an image."""
        return min(self.input_shape[1:])


@dataclass(frozen=True)
class NetworkInfo:
    """A network's defaults.

    Attributes:
        name: what a config says.
        summary: one line.
        source: paper.
        layout: layout text for an input shape; None for a network that branches.
        neuron: LIF of every layer, the readout included.
        norm: normalisation of the hidden layers.
        coding: input coding.
        bias: ``all`` layers, ``none``, or ``auto``: those that no norm follows.
        readout_norm: a spiking readout is normalised like the hidden layers.
        xavier_gain: gain of the Xavier uniform initial weights; None for +-1 / sqrt(fan_in).
        pixels: range of input pixels that the paper's coding expects: ``unit`` [0, 1], ``signed`` [-1, 1], or
            ``standard`` (mean 0, deviation 1).
        ann: `ann_twin` builds it; there is no spiking form.
        dropout: of that ANN, after convolutions without a pool and after hidden linear layers.
        pooling: what makes maps smaller.
        graph: draws a network that branches.
        initial: draws the initial weights, in place of the Xavier gain.
        gains: Xavier gains of input codings that have one of their own.
    """

    name: str
    summary: str
    source: str
    layout: Callable[[tuple[int, ...]], str] | None
    neuron: LIFParameters
    norm: str
    coding: str
    bias: Literal["all", "none", "auto"]
    readout_norm: bool
    xavier_gain: float | None
    pixels: str
    ann: bool = False
    dropout: tuple[float, float] = (0.0, 0.0)
    pooling: Pooling = "average"
    graph: Callable[[Wanted], Graph] | None = None
    initial: Callable[[LayeredNetwork, torch.Generator], None] | None = None
    gains: Mapping[str, float] = field(default_factory=dict)


def own_info(name: str, summary: str, neuron: LIFParameters, **drawing: Any) -> NetworkInfo:
    """What this project's own networks, sized for two CPU cores, have in common.

    Args:
        name: what a config says.
        summary: one line.
        neuron: LIF of every layer, the readout included.
        **drawing: ``layout`` or ``graph``.
    """
    return NetworkInfo(
        name=name,
        summary=summary,
        source="this project",
        neuron=neuron,
        norm="bn",
        coding="direct",
        bias="auto",
        readout_norm=True,
        xavier_gain=None,
        pixels="unit",
        **{"layout": None, **drawing},
    )
