"""From weights to cells: rounding, slices, pairs or an offset. Conductances are relative to the largest, in [g_min, 1].

A weight matrix has a row an input and a column an output (a convolution is unrolled, C_in k k rows). With w_max its
largest magnitude, L = 2^(bits-1) - 1 and q = round(w L / w_max), slice s holds digit d_s of |q| to the base 2^cell_bits
as g_min + d_s (1 - g_min) / (2^cell_bits - 1); the sums of the slices are shifted and added, by `Cells.factors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.hardware.crossbar.profile import ChipProfile


@dataclass(frozen=True)
class Cells:
    """A weight matrix as it is meant to be programmed.

    Attributes:
        targets: relative conductances ``[signs, slices, rows, columns]``; two signs for pairs, one with an offset.
        factors: weight that a relative conductance of 1 stands for, by slice.
        base: weight that is subtracted digitally from every entry: the smallest conductance's, and the offset.
    """

    targets: Float[Tensor, "signs S R C"]
    factors: tuple[float, ...]
    base: float

    def weights(self, conductances: Float[Tensor, "signs S R C"]) -> Float[Tensor, "R C"]:
        """The weights that such conductances compute."""
        found = self.by_slice(conductances).sum(dim=0)
        return found - self.base if self.base else found

    def by_slice(self, conductances: Float[Tensor, "signs S R C"]) -> Float[Tensor, "S R C"]:
        """What each slice adds to a weight, before the base is subtracted."""
        signed = conductances[0] if len(conductances) == 1 else conductances[0] - conductances[1]
        return signed * signed.new_tensor(self.factors)[:, None, None]


def as_cells(weights: Float[Tensor, "R C"], profile: ChipProfile) -> Cells:
    """The cells that are to hold a weight matrix; all weights 0 are held exactly too."""
    bits = profile.weights.bits
    cell_bits = profile.cell.bits
    least = profile.g_min
    largest = float(weights.abs().max()) if weights.numel() else 0.0
    largest = largest or 1.0
    pairs = profile.weights.signs == "pairs"
    shares = weights / largest
    if bits is not None:
        levels = 2 ** (bits - 1) - 1
        shares = (shares * levels).round() / levels
    held = torch.stack([shares.clamp_min(0), (-shares).clamp_min(0)]) if pairs else (shares[None] + 1) / 2
    span = largest if pairs else 2 * largest
    if bits is None or cell_bits is None:
        return Cells(least + held[:, None] * (1 - least), (span / (1 - least),), _base(pairs, largest, [span], least))
    top = 2 ** (bits - 1) - 1 if pairs else 2 * (2 ** (bits - 1) - 1)
    count = ceil((bits - 1 if pairs else bits) / cell_bits)
    whole = (held * top).round().long()
    digits = torch.stack([(whole >> (cell_bits * s)) & (2**cell_bits - 1) for s in range(count)], dim=1)
    full = 2**cell_bits - 1
    spans = [span / top * 2 ** (cell_bits * s) * full for s in range(count)]
    factors = tuple(each / (1 - least) for each in spans)
    return Cells(least + digits.to(weights.dtype) * ((1 - least) / full), factors, _base(pairs, largest, spans, least))


def _base(pairs: bool, largest: float, spans: list[float], least: float) -> float:
    """Of pairs the smallest conductances cancel."""
    return 0.0 if pairs else largest + sum(spans) * least / (1 - least)
