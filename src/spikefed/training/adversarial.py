"""Adversarial training: every local step sees its batch as an attack left it (Madry et al., ICLR 2018, eq. 2.1).

The attack works on the network's input, in the mode that training is in, straight through a coder that draws, and with
draws of its own. It costs a forward and a backward pass a step of the attack.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.neurons import Bernoulli, Latency, SignedPoisson
from spikefed.training.hooks import Loss, StepHook


@dataclass(frozen=True, eq=False)
class AdversarialInputs(StepHook):
    """Moves a step's inputs up the loss, within eps and the range.

    Attributes:
        eps: largest change of an input, broadcast against ``[B, C, H, W]``.
        size: of a step, in parts of eps.
        steps: gradients.
        start: from a random place within eps, instead of the clean image.
        draws: of the coder for one gradient.
        low, high: range of the input, broadcast likewise.
    """

    eps: Tensor
    size: float
    steps: int
    start: bool
    draws: int
    low: Tensor
    high: Tensor

    def inputs(self, net: nn.Module, x: Tensor, targets: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
        """The adversarial batch, shaped like ``x``; the network is as it was.

        Args:
            net: the network in training.
            x: clean batch ``[B, C, H, W]``.
            targets: labels ``[B]``.
            loss: what is to grow.
            generator: draws of start and encoding.
        """
        eps, low, high = (t.to(x.device) for t in (self.eps, self.low, self.high))
        low, high = torch.maximum(x - eps, low.minimum(x)), torch.minimum(x + eps, high.maximum(x))
        found = x
        if self.start:
            noise = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device, x.dtype)
            found = (x + (2 * noise - 1) * eps).clamp(low, high)
        wanted = targets.repeat(self.draws, *[1] * (targets.dim() - 1))
        with _for_an_attack(net):
            for _ in range(self.steps):
                leaf = found.detach().requires_grad_()
                wide = leaf if self.draws == 1 else leaf.repeat(self.draws, *[1] * (x.dim() - 1))
                value = loss(net(wide, generator=generator), wanted)
                (gradient,) = torch.autograd.grad(value, leaf)
                found = (found + self.size * eps * gradient.sign()).clamp(low, high)
        return found.detach()


@contextmanager
def _for_an_attack(net: nn.Module) -> Iterator[None]:
    """Straight through the coder, no gradient of a weight; statistics of norms are put back."""
    anything: Any = net
    coder = getattr(net, "encoder", None)
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    if isinstance(coder, Bernoulli | SignedPoisson | Latency):
        anything.encoder = replace(coder, gradient="straight")
    try:
        yield
    finally:
        if coder is not None:
            anything.encoder = coder
        for parameter in wanted:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
