"""DP-SGD (Abadi et al. 2016): every sample's gradient clipped, noise on their sum, for spiking networks too.

Norms come from closed forms over the time steps, and so do the sums of clipped gradients: no gradient of a single
sample is ever made. Other networks take one sample at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import ANNNetwork, SpikingNetwork, unknown_parameters
from spikefed.networks.persample import tapped
from spikefed.networks.relutaps import rectified
from spikefed.training.hooks import Loss, StepHook

MIXING = ("running_mean", "running_var")
"""Buffers of a normalisation that looks at several samples at once."""


class PrivateSteps(StepHook):
    """Replaces the gradient of each step by (sum of clipped gradients + noise) / expected batch.

    The loss must be a mean over the samples of the batch. What reaches the parameters otherwise, such as a pull towards
    other weights, stays as it is: it says nothing of the samples.

    Args:
        clip: C, largest norm of a sample's gradient over all trainable parameters.
        noise: deviation of the noise in units of C, for each entry of the sum.
        batch: expected number of samples in a batch.
    """

    def __init__(self, clip: float, noise: float, batch: float) -> None:
        self.clip = clip
        self.noise = noise
        self.batch = batch
        self._step: tuple[Tensor, Tensor, Loss] | None = None

    def inputs(self, net: nn.Module, x: Tensor, targets: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
        """Remembers the step's samples.

        Args:
            net: the network.
            x: its input ``[B, ...]``, given back.
            targets: labels ``[B]``.
            loss: of this training.
            generator: not drawn from.
        """
        self._step = (x, targets, loss)
        return x

    @contextmanager
    def around(self, net: nn.Module, generator: torch.Generator) -> Iterator[None]:
        """See the class.

        Raises:
            ConfigError: a normalisation or a second forward pass mixes samples.
        """
        refuse_mixing(net)
        assert self._step is not None, "a step has samples"
        x, targets, loss = self._step
        if by_closed_forms(net):
            with tapped(net) as taps:
                taps.follow(int(getattr(net, "steps", 1)))
                yield
                clipped = taps.clipped(len(x), self.clip)
        else:
            yield
            clipped = _one_by_one(net, x, targets, loss, generator, self.clip)
            net.zero_grad(set_to_none=True)
        for name, parameter in net.named_parameters():
            if name in clipped:
                self._put(parameter, clipped[name], generator)

    def _put(self, parameter: nn.Parameter, total: Tensor, generator: torch.Generator) -> None:
        drawn = torch.randn(total.shape, generator=generator).to(total)
        gradient = (total + self.noise * self.clip * drawn) / self.batch
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def by_closed_forms(net: nn.Module) -> bool:
    """Whether no sample needs a pass of its own: networks of this package, and ANN twins without a normalisation."""
    if isinstance(net, ANNNetwork):
        return bool(rectified(net))
    return isinstance(net, SpikingNetwork) and not unknown_parameters(net) and not any(_drops(m) for m in net.modules())


def refuse_mixing(net: nn.Module) -> None:
    """Raise ConfigError where a sample's gradient depends on the others of its batch."""
    mixing = [name for name, module in net.named_modules() if all(hasattr(module, key) for key in MIXING)]
    if mixing:
        cure = "set network.norm = 'none'" if isinstance(net, SpikingNetwork | ANNNetwork) else "take GroupNorm"
        raise ConfigError(
            f"training.privacy needs gradients of single samples, and batch statistics of '{mixing[0]}' mix them; "
            f"{cure}"
        )


def _drops(module: nn.Module) -> bool:
    return bool(getattr(module, "dropout", 0.0)) or isinstance(module, nn.Dropout)


def _one_by_one(
    net: nn.Module, x: Tensor, targets: Tensor, loss: Loss, generator: torch.Generator, clip: float
) -> dict[str, Tensor]:
    """Sum of clipped gradients by parameter name, a forward and a backward pass a sample."""
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    for n in range(len(x)):
        value = loss(net(x[n : n + 1], generator=generator), targets[n : n + 1])
        grads = torch.autograd.grad(value, list(named.values()), allow_unused=True)
        found = {name: g for name, g in zip(named, grads, strict=True) if g is not None}
        norm = torch.stack([g.square().sum() for g in found.values()]).sum().sqrt()
        for name, gradient in found.items():
            total[name] += gradient * (clip / norm.clamp_min(clip))
    return total
