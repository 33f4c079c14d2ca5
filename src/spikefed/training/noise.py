"""Hardware-aware training: forward and backward with noisy, rounded weights, steps on the exact ones.

The gradient at the disturbed weights moves the exact ones, straight through rounding and noise: Joshi et al., "Accurate
deep neural network inference using computational phase-change memory", Nature Communications 11 (2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spikefed.networks.roles import WEIGHT, roles
from spikefed.training.hooks import StepHook


class NoisyWeights(StepHook):
    """Around a step, every weight of a product is rounded, then disturbed anew; biases and normalisations are exact.

    Args:
        relative: deviation of the noise, times the weight itself (a cell's read noise).
        absolute: deviation of the noise, times the tensor's largest magnitude (a cell's programming noise).
        bits: levels of a weight, sign included: 2^bits - 1 between minus and plus the largest magnitude; None: exact.
    """

    def __init__(self, relative: float = 0.0, absolute: float = 0.0, bits: int | None = None) -> None:
        self.relative = relative
        self.absolute = absolute
        self.bits = bits

    @contextmanager
    def around(self, net: nn.Module, generator: torch.Generator) -> Iterator[None]:
        """Disturbed inside, to the bit as before outside."""
        parameters = products(net)
        before = [parameter.detach().clone() for parameter in parameters]
        try:
            with torch.no_grad():
                for parameter in parameters:
                    parameter.copy_(self.disturbed(parameter, generator))
            yield
        finally:
            with torch.no_grad():
                for parameter, exact in zip(parameters, before, strict=True):
                    parameter.copy_(exact)

    def disturbed(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """What the step computes with instead of ``weight``."""
        largest = weight.detach().abs().max()
        if self.bits is not None and largest > 0:
            step = largest / (2 ** (self.bits - 1) - 1)
            weight = (weight / step).round() * step
        if self.relative:
            weight = weight * (1 + self.relative * _normal(weight, generator))
        if self.absolute:
            weight = weight + self.absolute * largest * _normal(weight, generator)
        return weight


def products(net: nn.Module) -> list[nn.Parameter]:
    """The parameters of convolutions and linear layers, without biases."""
    weights = {name for name, role in roles(net).items() if role == WEIGHT}
    return [parameter for name, parameter in net.named_parameters() if name in weights and parameter.dim() > 1]


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like.device)
