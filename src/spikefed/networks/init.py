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
        weight, bias = layer.weight, layer.bias
        window = weight[0, 0].numel()
        fan_in, fan_out = weight.shape[1] * window, weight.shape[0] * window
        bound = 1 / math.sqrt(fan_in) if xavier_gain is None else xavier_gain * math.sqrt(6 / (fan_in + fan_out))
        weight.uniform_(-bound, bound, generator=generator)
        if bias is not None:
            bias.uniform_(-bound, bound, generator=generator) if xavier_gain is None else bias.zero_()
