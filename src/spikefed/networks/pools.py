"""Pools: means or largest values over windows of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from spikefed.errors import ConfigError

Pooling = Literal["average", "max", "stride"]
"""What makes maps smaller: a mean of spikes, their largest, or a stride of 2 in the convolution before."""
POOLINGS = ("average", "max", "stride")


@dataclass(frozen=True)
class Pool:
    """A pool over square windows of ``[N, C, H, W]``.

    Attributes:
        kind: ``average`` or ``max``; of spikes the first gives fractions, the second spikes again.
        size: side of a window; 0 for the whole map (global pool).
        stride: from window to window; None for ``size``, so that windows touch.
        padding: zeros around the map, counted in means.
    """

    kind: Literal["average", "max"] = "average"
    size: int = 2
    stride: int | None = None
    padding: int = 0

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """``(C, H, W)`` after pooling; windows that the map does not fill are left out.

        Raises:
            ConfigError: the map is smaller than a window.
        """
        channels, *sides = shape
        if self.size == 0:
            return channels, 1, 1
        if min(sides) + 2 * self.padding < self.size:
            raise ConfigError(
                f"a map of {sides[0]}x{sides[1]} is too small for a pool of {self.size}x{self.size}; give larger "
                "images, or leave the pool out"
            )
        step = self.stride or self.size
        return channels, *((side + 2 * self.padding - self.size) // step + 1 for side in sides)

    def __call__(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H2 W2"]:
        run = F.avg_pool2d if self.kind == "average" else F.max_pool2d
        if self.size == 0:
            return run(x, x.shape[2:])
        return run(x, self.size, self.stride, self.padding)

    def __str__(self) -> str:
        name = "AP" if self.kind == "average" else "MP"
        if self.size == 0:
            return f"G{name}"
        return f"{name}{self.size}" + (f"/{self.stride}" if self.stride not in (None, self.size) else "")


TWO_BY_TWO = Pool()
"""The 2x2 average pool, which `spikefed.neurons.norm_lif` does in the same pass as the neurons."""


def check_pooling(pooling: str) -> None:
    """Raise ConfigError unless ``pooling`` is one of `POOLINGS`."""
    if pooling not in POOLINGS:
        raise ConfigError(f"network.pooling '{pooling}' is not known; use one of {', '.join(POOLINGS)}")
