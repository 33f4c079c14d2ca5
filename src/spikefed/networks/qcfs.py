"""The activation of an ANN twin that will be converted: quantised, clipped, shifted by half a step (QCFS).

    h(z) = lambda * clip(floor(z L / lambda + 1/2) / L, 0, 1)      [Bu et al., ICLR 2022, eq. 13, with phi = 1/2]

It is what an integrate-and-fire neuron of threshold lambda counts in L steps of the same current, begun at half its
threshold and reset by subtraction. So training meets the errors of a conversion to L steps before it happens.

The gradient goes through the floor as if it were not there, to z and to lambda. What is learnt is ln(lambda), so that
it stays positive; the source learns lambda.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.roles import NEURON, Role

FIRST = 3.0
"""Lambda before training: of currents that a batch norm made, with mean 0 and deviation 1, one in 700 is larger."""
MOST_LEVELS = 64

Net = TypeVar("Net", bound=nn.Module)


class QCFS(nn.Module):
    """Quantisation, clip, floor and shift.

    Args:
        levels: L, steps from 0 to lambda.

    Attributes:
        log_threshold: ln(lambda), a scalar.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.log_threshold = nn.Parameter(torch.tensor(math.log(FIRST)))

    def tensor_roles(self) -> dict[str, Role]:
        """See `spikefed.networks.roles`."""
        return {"log_threshold": NEURON} if self.log_threshold.requires_grad else {}

    @property
    def threshold(self) -> Float[Tensor, ""]:
        """Lambda, in units of the current."""
        return self.log_threshold.exp()

    def forward(self, z: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """One of L + 1 values from 0 to lambda for each current."""
        threshold = self.threshold.to(z.dtype)
        shifted = z * (self.levels / threshold) + 0.5
        counts = shifted + (shifted.floor() - shifted).detach()
        return counts.clamp(0, self.levels) * (threshold / self.levels)

    def extra_repr(self) -> str:
        """L, for ``print(net)``."""
        return f"levels={self.levels}"


def quantise(net: Net, levels: int) -> Net:
    """Give every ReLU of an ANN twin this activation in its place, in place.

    Args:
        net: an ANN twin whose layers stand in a row.
        levels: L, 1 to 64; as many as the steps that it will be converted to, or a few more.

    Raises:
        ConfigError: another number, or a network without ReLU layers in a row.
    """
    if not 1 <= levels <= MOST_LEVELS:
        raise ConfigError(f"network.qcfs has 1 to {MOST_LEVELS} levels and not {levels}; 4 or 8 is a good start")
    rows = getattr(net, "layers", [])
    hidden = [layer for layer in rows if getattr(layer, "rectify", False)]
    if not hidden or hasattr(net, "graph"):
        raise ConfigError(
            "network.qcfs prepares an ANN twin for its conversion, and this network is none whose layers stand in a "
            "row; leave it out, or take one such as small, vgg-small or vgg5 with network.twin = 'ann'"
        )
    for layer in hidden:
        layer.qcfs = QCFS(levels)
    return net
