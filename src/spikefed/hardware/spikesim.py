"""SpikeSim (Moitra et al. 2022, arXiv 2210.12899): convolutions on 65 nm in-memory crossbars; spikes change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

from spikefed.hardware.counts import LayerCounts

PE_CYCLE_NS = 104.0
"""26 clock cycles at 250 MHz."""


@dataclass(frozen=True)
class SpikeSim:
    """A crossbar chip; the energies are those of the public script, pJ per cycle of a processing element.

    Attributes:
        size: rows and columns of a crossbar, X.
        device: ``rram`` or ``sram``.
        tile: processing elements in a tile.
        positions: ``map`` charges every output position of a convolution, ``pooled`` only as many as are left after
            its pool, as the public script does for VGG9 (a pool does not spare the crossbar any position).
    """

    size: int = 64
    device: Literal["rram", "sram"] = "rram"
    tile: int = 8
    positions: Literal["map", "pooled"] = "map"

    def cycle_pj(self, kernel: Sequence[int]) -> float:
        """One cycle of a processing element that holds k x k crossbars."""
        crossbar = 1.76423 if self.device == "rram" else 671.089
        eighth = self.size / 8  # eight columns share a converter
        shared = 19.64 * 8 + 4.64 + 1.274 * 4 + 397  # H-tree, fetch, neurons, tile buffer
        array = prod(kernel) * crossbar + eighth * (2.03084 + 0.094245)  # crossbars, converters and multiplexers
        return shared + eighth * array + eighth * (16 * 1.15e-6 + 0.2)  # subtractors and buffer

    def elements(self, layer: LayerCounts) -> int:
        """Processing elements of a convolution."""
        return ceil(layer.in_channels / self.size) * ceil(layer.out_channels / self.size)

    def cycles(self, layer: LayerCounts) -> int:
        """Cycles of one time step, all elements together; 0 for a linear layer, which the script leaves out."""
        if layer.kind != "conv":
            return 0
        places = layer.outputs // layer.out_channels
        if self.positions == "pooled" and layer.pooled:
            places //= 4
        return self.elements(layer) * places

    def energy_pj(self, layer: LayerCounts, steps: int) -> float:
        """Energy of a layer per image: every position in each of the T steps, whatever spikes."""
        return self.cycles(layer) * steps * self.cycle_pj(layer.kernel) if layer.kind == "conv" else 0.0
