"""Which kernel each layer would take, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from spikefed import native
from spikefed.networks.layers import SpikingLayer
from spikefed.networks.network import SpikingNetwork
from spikefed.networks.roles import is_neuron
from spikefed.neurons import LIF, Direct, fused, kernels


@dataclass(frozen=True)
class LayerPath:
    """How one layer runs.

    Attributes:
        layer: its name.
        weights: how the convolution or linear product runs.
        neurons: how normalisation, LIF and pool run.
        why: the reason, one phrase.
    """

    layer: str
    weights: str
    neurons: str
    why: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.weights}; {self.neurons} ({self.why})"


def explain(net: nn.Module, dtype: torch.dtype = torch.float32) -> list[LayerPath]:
    """The path of every layer for activations of ``dtype`` on the device where the network's weights are.

    Layers that are not from this package run as their authors wrote them, at eager speed.
    """
    paths = []
    direct = isinstance(net, SpikingNetwork) and isinstance(net.encoder, Direct)
    for name, module in net.named_modules():
        if isinstance(module, SpikingLayer):
            once = direct and not paths
            weights = f"{module.plan.kind} by torch, " + ("once per image" if once else "all time steps in one batch")
            paths.append(LayerPath(name, weights, *_norm_lif(module, dtype)))
        elif isinstance(module, LIF) or is_neuron(module):
            paths.append(
                LayerPath(name, "as its author wrote it", "eager loop over time", "not a layer of a network here")
            )
    return paths


def _norm_lif(layer: SpikingLayer, dtype: torch.dtype) -> tuple[str, str]:
    """Path and reason of the fused operation, asked from the dispatcher with tensors as the forward would pass them."""
    if layer.neuron is None:
        return "none", "the readout gives currents"
    norm = layer.norm
    state = () if norm is None else (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    sample = torch.zeros(1, layer.plan.map_shape[0], dtype=dtype, device=layer.weight.device)
    reference = "norm, LIF and pool as torch operations"
    if kernels() == "reference":
        return reference, "kernels are switched to the reference"
    if fused.suits(sample, *state):
        return "norm, LIF and pool in one native kernel", "native library loaded"
    if fused.library() is None:
        return reference, native.why_not() or "the native library is of another version; install spikefed again"
    return reference, f"no native kernel for {str(dtype).removeprefix('torch.')} on {sample.device.type}"
