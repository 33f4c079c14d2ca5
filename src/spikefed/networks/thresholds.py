"""Firing thresholds that training learns, one a layer or one a channel, while the fused kernels stay as they are.

A LIF neuron of threshold theta fires exactly when one of threshold theta_0 fires on theta_0 / theta times its current:
the equations are linear in current, potential and threshold, hard and soft reset alike. So a learnt threshold is a
gain on the affine map of the normalisation before the neurons (on the current where there is none), and autograd takes
the kernels' gradients of scale and shift to the threshold.

What is learnt is s = ln(theta / theta_0), 0 at first: thresholds stay positive whatever the optimiser does, weight
decay draws them to the neuron's own, and a server's mean of them is a geometric one.

The surrogate's width is in units of the threshold: at theta it is theta / theta_0 times the width that the network
was given, for both resets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.roles import NEURON, Role

Sharing = Literal["layer", "channel"]
"""Who shares a threshold: all neurons of a layer, or those of a channel (of a linear layer each neuron has its own)."""


Net = TypeVar("Net", bound=nn.Module)


class Thresholds(nn.Module):
    """The learnt thresholds of one layer's neurons.

    Args:
        count: C for one a channel, 1 for one of the layer.

    Attributes:
        log_threshold: ``[count]``, ln(theta / theta_0), theta_0 being the neuron's ``v_threshold``.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.log_threshold = nn.Parameter(torch.zeros(count))

    def tensor_roles(self) -> dict[str, Role]:
        """See `spikefed.networks.roles`."""
        return {"log_threshold": NEURON} if self.log_threshold.requires_grad else {}

    def gain(self) -> Float[Tensor, " count"]:
        """theta_0 / theta, ``[count]``: what currents are multiplied by before neurons of threshold theta_0."""
        return torch.exp(-self.log_threshold)

    def values(self, own: float) -> Float[Tensor, " count"]:
        """theta, ``[count]``, of neurons whose ``v_threshold`` is ``own``; in the units of their current."""
        return own * self.log_threshold.detach().exp()

    def applied(
        self, currents: Float[Tensor, "N C ..."], options: Mapping[str, Any]
    ) -> tuple[Float[Tensor, "N C ..."], dict[str, Any]]:
        """Currents ``[N, C, ...]`` and a normalisation's arguments with the gain in them: in one or the other."""
        if options:
            return currents, {**options, **self.affine(options["weight"], options["bias"])}
        gain = self.gain().to(currents.dtype)
        return currents * gain.reshape(-1, *[1] * (currents.dim() - 2)), {}

    def affine(self, weight: Tensor, bias: Tensor | None) -> dict[str, Tensor | None]:
        """Scale and shift of a normalisation, ``[C]`` or ``[T, C]``, with the gain in them."""
        gain = self.gain()
        return {"weight": weight * gain, "bias": None if bias is None else bias * gain}

    def extra_repr(self) -> str:
        """Their number, for ``print(net)``."""
        return str(len(self.log_threshold))


def learn_thresholds(net: Net, sharing: str) -> Net:
    """Give every layer of neurons thresholds that training learns, in place; they begin as the neurons' own.

    The network computes what it did before, bit for bit, until they are trained. Their tensors are called
    ``LAYER.thresholds.log_threshold`` and have role ``neuron``.

    Args:
        net: a spiking network of this package.
        sharing: ``layer`` or ``channel``.

    Raises:
        ConfigError: another word, or a network without spiking layers of this package.
    """
    if sharing not in get_args(Sharing):
        raise ConfigError(f"network.thresholds '{sharing}' is not known; use 'layer' or 'channel'")
    firing = [m for m in net.modules() if getattr(m, "neuron", None) is not None and hasattr(m, "thresholds")]
    if not firing:
        raise ConfigError(
            "network.thresholds makes the thresholds of spiking layers learnable, and this network has none; leave it "
            "out, or name a spiking network of the zoo"
        )
    for layer in firing:
        channels: int = layer.plan.map_shape[0]  # pyright: ignore
        layer.thresholds = Thresholds(channels if sharing == "channel" else 1)
    return net


def learns_thresholds(net: nn.Module) -> bool:
    """Whether a network has thresholds of its own among its tensors, trained or frozen."""
    return any(isinstance(module, Thresholds) for module in net.modules())
