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
    """A pool over windows of ``[N, C, H, W]``, square or along the width.

    Attributes:
        kind: ``average`` or ``max``; of spikes the first gives fractions, the second spikes again.
        size: side of a window; 0 for the whole map (global pool).
        stride: from window to window; None for ``size``, so that windows touch.
        padding: zeros around the map, counted in means.
        line: windows have one row, and move along the width alone (1-d); without padding.
    """

    kind: Literal["average", "max"] = "average"
    size: int = 2
    stride: int | None = None
    padding: int = 0
    line: bool = False

    def __post_init__(self) -> None:
        if self.line and (self.padding or self.size == 0):
            raise ConfigError(
                f"a pool along the width takes windows of 1 and more without padding, not size {self.size} with "
                f"padding {self.padding}; leave the padding out, or take a square pool"
            )

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of a window; (0, 0) for the whole map."""
        return (1 if self.line else self.size), self.size

    @property
    def strides(self) -> tuple[int, int]:
        """From window to window, in rows and columns."""
        step = self.stride or self.size
        return (1 if self.line else step), step

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """``(C, H, W)`` after pooling; windows that the map does not fill are left out.

        Raises:
            ConfigError: the map is smaller than a window.
        """
        channels, *sides = shape
        if self.size == 0:
            return channels, 1, 1
        rows, columns = self.windows
        around = 2 * self.padding
        if sides[0] + around < rows or sides[1] + around < columns:
            raise ConfigError(
                f"a map of {sides[0]}x{sides[1]} is too small for a pool of {rows}x{columns}; give larger "
                "images, or leave the pool out"
            )
        steps = zip(sides, self.windows, self.strides, strict=True)
        return channels, *((side + around - size) // step + 1 for side, size, step in steps)

    def __call__(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H2 W2"]:
        run = F.avg_pool2d if self.kind == "average" else F.max_pool2d
        if self.size == 0:
            return run(x, x.shape[2:])
        return run(x, self.windows, self.strides, self.padding)

    def __str__(self) -> str:
        name = "AP" if self.kind == "average" else "MP"
        if self.size == 0:
            return f"G{name}"
        name += "1x" if self.line else ""
        return f"{name}{self.size}" + (f"/{self.stride}" if self.stride not in (None, self.size) else "")


TWO_BY_TWO = Pool()
"""The 2x2 average pool, which `spikefed.neurons.norm_lif` does in the same pass as the neurons."""
ALONG = Pool(line=True)
"""The average of two neighbours along the width, where 1-d convolutions pool."""


def check_pooling(pooling: str) -> None:
    """Raise ConfigError unless ``pooling`` is one of `POOLINGS`."""
    if pooling not in POOLINGS:
        raise ConfigError(f"network.pooling '{pooling}' is not known; use one of {', '.join(POOLINGS)}")
