"""A weight matrix on one chip: programmed once, then read at any age.

The order is that of the device: target, programming noise, faults, drift, read noise, wires. What is drawn for a cell
is fixed by the chip's seed, the layer and the purpose alone, so a chip errs alike in every process and after a restart,
and a matrix that is programmed again meets the same deviates.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.hardware.crossbar.cells import Cells, as_cells
from spikefed.hardware.crossbar.circuit import Wires, effective
from spikefed.hardware.crossbar.profile import ChipProfile, Noise

PROGRAMMING, STUCK, DRIFT, READ = range(4)
"""Purposes of a chip's random numbers; part of what makes a chip reproducible, never changed."""

TINY = 1e-7
"""Relative conductance below which logarithms and powers of it are cut."""


@dataclass(frozen=True)
class Reading:
    """What a programmed matrix computes at one age.

    Attributes:
        slices: weight that each slice adds ``[slices, rows, columns]``, wires and frozen noise included.
        variances: of what a fresh read adds to them, or None where reads are exact or frozen.
        base: subtracted digitally.
    """

    slices: Float[Tensor, "S R C"]
    variances: Float[Tensor, "S R C"] | None
    base: float

    @property
    def weights(self) -> Float[Tensor, "R C"]:
        """Of all slices together."""
        return self.slices.sum(dim=0) - self.base

    @property
    def variance(self) -> Float[Tensor, "R C"] | None:
        """Of all slices together."""
        return None if self.variances is None else self.variances.sum(dim=0)


class Programmed:
    """A weight matrix in the cells of one chip.

    Args:
        weights: ``[rows, columns]``, a row an input.
        profile: of the chip.
        seed: of the chip.
        layer: number of the layer, which sets its cells apart from other layers'.
    """

    def __init__(self, weights: Float[Tensor, "R C"], profile: ChipProfile, seed: int, layer: int) -> None:
        self.profile = profile
        self._seed = seed
        self._layer = layer
        self.cells: Cells = as_cells(weights.detach().float().cpu(), profile)
        targets = self.cells.targets
        self._nu = self._exponents(targets)
        self.conductances: Float[Tensor, "signs S R C"] = self._with_faults(self._programmed(targets))

    def read(self, age_s: float = 0.0) -> Reading:
        """What the matrix computes so many seconds after it was programmed."""
        profile = self.profile
        now = through_wires(self.held(age_s), profile)
        deviation = self._deviation(age_s)
        variances = None
        if deviation is not None and profile.noise.read_when == "each":
            factors = now.new_tensor(self.cells.factors)[:, None, None]
            variances = ((now * deviation).square().sum(dim=0)) * factors.square()
        return Reading(self.cells.by_slice(now), variances, self.cells.base)

    def held(self, age_s: float) -> Float[Tensor, "signs S R C"]:
        """Relative conductances at an age: programmed, with faults, drifted, frozen read noise included."""
        now = self._aged(age_s)
        deviation = self._deviation(age_s)
        if deviation is None or self.profile.noise.read_when == "each":
            return now
        return (now * (1 + deviation * self._normal(READ, int(age_s * 1000)))).clamp_min_(0)

    def _deviation(self, age_s: float) -> Tensor | None:
        return read_deviation(self.profile.noise, self.conductances, max(age_s, 0.0) + self.profile.drift.t0_s)

    def _aged(self, age_s: float) -> Tensor:
        if self._nu is None or age_s <= 0:
            return self.conductances
        t0 = self.profile.drift.t0_s
        return self.conductances * torch.exp(-self._nu * log((age_s + t0) / t0))

    def _programmed(self, targets: Tensor) -> Tensor:
        found = self.profile.noise.programming
        if not found:
            return targets
        deviation = torch.zeros_like(targets)
        for coefficient in reversed(found):  # Horner
            deviation = deviation * targets + coefficient
        return (targets + deviation * self._normal(PROGRAMMING)).clamp_min_(0)

    def _with_faults(self, conductances: Tensor) -> Tensor:
        faults = self.profile.faults
        if not faults.stuck_low and not faults.stuck_high:
            return conductances
        drawn = torch.rand(conductances.shape, generator=self._draws(STUCK))
        low = drawn < faults.stuck_low
        high = drawn > 1 - faults.stuck_high
        if self._nu is not None:
            self._nu = self._nu.masked_fill(low | high, 0.0)
        return conductances.masked_fill(low, self.profile.g_min).masked_fill(high, 1.0)

    def _exponents(self, targets: Tensor) -> Tensor | None:
        drift = self.profile.drift
        if not drift.nu and not drift.nu_deviation:
            return None
        logs = targets.clamp_min(TINY).log()
        return (_fitted(drift.nu, logs) + _fitted(drift.nu_deviation, logs) * self._normal(DRIFT)).abs_()

    def _normal(self, purpose: int, *numbers: int) -> Tensor:
        return torch.randn(self.cells.targets.shape, generator=self._draws(purpose, *numbers))

    def _draws(self, purpose: int, *numbers: int) -> torch.Generator:
        entropy = np.random.SeedSequence([self._seed, self._layer, purpose, *numbers])
        return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))


def read_deviation(noise: Noise, conductances: Tensor, since_s: float) -> Tensor | None:
    """Relative deviation of a read, white and 1/f together; None where reads are exact.

    It has the shape of ``conductances``.

    Args:
        noise: of the profile.
        conductances: relative, as programmed.
        since_s: seconds since programming began, the wait for the first read included.
    """
    if not noise.flicker:
        return torch.full_like(conductances, noise.read) if noise.read else None
    a, b, most, t_read = noise.flicker
    grown = sqrt(log(max((since_s + t_read) / (2 * t_read), 1.0)))
    flicker = (a / conductances.pow(b).clamp_min(1e-3)).clamp_max(most) * grown
    return (flicker.square() + noise.read**2).sqrt()


def through_wires(conductances: Float[Tensor, "*n R C"], profile: ChipProfile) -> Float[Tensor, "*n R C"]:
    """Relative conductances as the wires of their tiles let them act; every slice and sign has tiles of its own."""
    wires = profile.wires.wires
    if wires.ideal:
        return conductances
    found = torch.empty_like(conductances)
    rows, columns = conductances.shape[-2:]
    for top in range(0, rows, profile.tile):
        for left in range(0, columns, profile.tile):
            block = (..., slice(top, top + profile.tile), slice(left, left + profile.tile))
            found[block] = solved(conductances[block], wires, profile.siemens)
    return found


def solved(conductances: Float[Tensor, "*n R C"], wires: Wires, siemens: float) -> Float[Tensor, "*n R C"]:
    """`effective` of relative conductances, relative again."""
    return (effective(conductances.double() * siemens, wires) / siemens).to(conductances.dtype)


def _fitted(form: list[float], logs: Tensor) -> Tensor:
    if len(form) == 4:
        slope, offset, least, most = form
        return (slope * logs + offset).clamp(least, most)
    return torch.full_like(logs, form[0] if form else 0.0)
