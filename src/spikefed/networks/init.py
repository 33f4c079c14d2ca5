"""Initial weights drawn from a generator of their own; torch's global generator is never touched."""

from __future__ import annotations

import math

import torch

from spikefed.networks.network import LayeredNetwork


@torch.no_grad()
def initialise(net: LayeredNetwork, generator: torch.Generator, xavier_gain: float | None = None) -> None:
    """Draw all weights and biases in layer order, in place.

    Args:
        xavier_gain: uniform in +-gain * sqrt(6 / (fan_in + fan_out)), biases 0 (V-SNN: 2); None for torch's usual
            +-1 / sqrt(fan_in), biases included (the public STBP code trains from it).
    """
    for layer in net.layers:
        weight = layer.weight
        bias = layer.bias
        window = weight[0, 0].numel()
        fan_in = weight.shape[1] * window
        fan_out = weight.shape[0] * window
        bound = 1 / math.sqrt(fan_in) if xavier_gain is None else xavier_gain * math.sqrt(6 / (fan_in + fan_out))
        weight.uniform_(-bound, bound, generator=generator)
        if bias is not None:
            bias.uniform_(-bound, bound, generator=generator) if xavier_gain is None else bias.zero_()


@torch.no_grad()
def initialise_relu(net: LayeredNetwork, generator: torch.Generator) -> None:
    """Draw all weights in layer order, in place, as V-SNN's public ANN does: normal, biases 0.

    Deviation sqrt(2 / (k^2 C_out)) for convolutions (He et al. 2015, by outputs), 0.01 for linear layers.
    """
    for layer in net.layers:
        weight = layer.weight
        bias = layer.bias
        conv = layer.plan.kind == "conv"
        weight.normal_(
            0, math.sqrt(2 / (weight[0, 0].numel() * weight.shape[0])) if conv else 0.01, generator=generator
        )
        if bias is not None:
            bias.zero_()


@torch.no_grad()
def copy_weights(source: LayeredNetwork, target: LayeredNetwork) -> None:
    """Weights and biases of every layer of ``target`` from the layer of its name."""
    layers = {layer.plan.name: layer for layer in source.layers}
    for layer in target.layers:
        other = layers[layer.plan.name]
        layer.weight.copy_(other.weight)
        if layer.bias is not None and other.bias is not None:
            layer.bias.copy_(other.bias)
