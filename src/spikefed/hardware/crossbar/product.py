"""The weighted sums of one layer as its crossbars compute them, at the speed of the plain layer where that can be.

Exact converters leave one weight tensor, wires, drift and frozen noise included: the layer's own kernel runs with it.
Fresh read noise adds a second product, of squared inputs with variances: a sum of independent normal deviates is
normal, so every vector that is read draws from its exact distribution (wires weigh each cell's deviate as they weigh
the cell). Only an ADC needs the sums of each tile and slice one by one.
"""

from __future__ import annotations

from math import ceil, prod
from typing import NamedTuple

import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar.ports import Port
from spikefed.hardware.crossbar.profile import ChipProfile
from spikefed.hardware.crossbar.programming import Programmed, Reading

SILENT = 1e-30
"""Range of a converter that saw nothing but zeros while it was calibrated: what is silent stays so."""


class Tile(NamedTuple):
    """Crossbar tiles that share their rows, slices side by side, in steps of the ADC.

    Attributes:
        weight: in the shape of the layer's weight, ``slices * columns`` outputs.
        variance: of a fresh read, likewise; None where reads are exact or frozen.
    """

    weight: Tensor
    variance: Tensor | None


class AnalogProduct:
    """A layer's weights on a chip.

    Args:
        port: the layer.
        profile: of the chip.
        seed: of the chip.
        rewrite: the chip follows a network that learns: whatever computes without gradients finds the weights written
            as they are, and training steps write them anew after so many; between, the error of the last writing
            stays. None: it is written when told.

    Attributes:
        weight: what the chip computes with, in the shape of the layer's weight.
        generator: draws fresh read noise; torch's global one when None.
    """

    def __init__(self, port: Port, profile: ChipProfile, seed: int, rewrite: int | None = None) -> None:
        self.port = port
        self.profile = profile
        self._seed = seed
        self.generator: torch.Generator | None = None
        self.age_s = 0.0
        self.recording = False
        self._largest_in: float | None = None
        self._signed = False
        self._largest_out: Tensor | None = None
        self._gains: Tensor | None = None
        self._tiles: dict[int, Tile] = {}
        self._rewrite = rewrite
        self._steps = 0
        self._written: Tensor | None = None
        if rewrite is None:
            self.program()

    def program(self) -> None:
        """Write the layer's weights as they are now into the cells, and read them at age 0."""
        self._written = self.port.weight.detach().clone()
        matrix = self.port.matrix(self._written)
        self._cells = Programmed(matrix, self.profile, self._seed, self.port.number)
        self.read(0.0)

    def read(self, age_s: float, compensate: bool = False) -> None:
        """Let the chip reach an age, in seconds.

        Args:
            age_s: since it was programmed.
            compensate: give each tile's sums the digital gain that brings their mean magnitude back to that of age 0
                (global drift compensation: Joshi et al., Nature Communications 11, 2020).
        """
        self.age_s = age_s
        self._tiles.clear()
        if self._written is None:  # nothing yet: `_follow` will write it and read it at this age
            return
        reading = self._cells.read(age_s)
        self._reading = reading
        variance = reading.variance
        self._gains = gains = self._gain_of(reading) if compensate else None
        if gains is None:
            self.weight = self.port.shaped(reading.weights)
        else:
            self.weight = self.port.shaped(reading.slices.sum(dim=0) * gains - reading.base)
            variance = None if variance is None else variance * gains.square()
        self._variance = None if variance is None else self.port.shaped(variance)
        self._error = self.weight - self._written

    @property
    def crossbars(self) -> int:
        """Tiles that hold the layer, slices and signs counted."""
        *stacks, rows, columns = self._cells.conductances.shape
        size = self.profile.tile
        return prod(stacks) * ceil(rows / size) * ceil(columns / size)

    def pc2(self) -> float:
        """`spikefed.hardware.crossbar.pc2` of the weights as they were meant and as they are."""
        assert self._written is not None
        return pc2(self._written, self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """Weighted sums, the digital bias included."""
        self._follow()
        x = self._converted(x)
        if self.profile.converters.adc_bits is not None:
            return self._by_tiles(x)
        y = self.port.multiply(x, self._weight(), self.port.bias)
        return y if self._variance is None else y + self._noise(x, self._variance)

    def plain(self) -> Tensor | None:
        """The chip's weight, where the layer's own kernels with it are all that the chip does.

        It has the layer's own shape.
        """
        self._follow()
        converters = self.profile.converters
        exact = converters.dac_bits is None and converters.adc_bits is None and self._variance is None
        return self._weight() if exact else None

    def _follow(self) -> None:
        """Write the chip anew where it follows a network that has learnt."""
        if self._rewrite is None:
            return
        weight = self.port.weight.detach()
        if self._written is not None and torch.equal(weight, self._written):
            return
        self._steps += 1
        learning = torch.is_grad_enabled() and self.port.weight.requires_grad
        if self._written is not None and learning and self._steps < self._rewrite:
            return
        age_s = self.age_s
        self._steps = 0
        self.program()
        self.read(age_s)

    def _weight(self) -> Tensor:
        """The chip's, with gradients straight through to the layer's where that learns; its steps add to the error."""
        weight = self.port.weight
        if torch.is_grad_enabled() and weight.requires_grad:
            return weight + self._error
        return self.weight

    def _noise(self, x: Tensor, variance: Tensor) -> Tensor:
        with torch.no_grad():
            deviation = self.port.multiply(x.square(), variance, None).float().clamp_min_(0).sqrt_()
            return deviation.mul_(torch.randn(deviation.shape, generator=self.generator))

    def _converted(self, x: Tensor) -> Tensor:
        """Through the DAC: 2^bits levels from 0, or on both sides of it, to the largest magnitude of calibration."""
        bits = self.profile.converters.dac_bits
        if self.recording and x.numel():
            self._tiles.clear()
            self._largest_in = max(self._largest_in or SILENT, float(x.detach().abs().max()))
            self._signed = self._signed or bool((x.detach() < 0).any())
        if bits is None or self.recording:
            return x
        if self._largest_in is None:
            self._refuse()
        assert self._largest_in is not None
        most = max(2 ** (bits - self._signed) - 1, 1)
        step = self._largest_in / most
        return _rounded(x / step, -most - 1 if self._signed else 0, most) * step

    def _by_tiles(self, x: Tensor) -> Tensor:
        """Every tile's and slice's sums through the ADC, then shifted and added."""
        x = self.port.flat(x)
        window = self.port.window
        slices, rows, columns = self._reading.slices.shape
        total: Tensor | None = None
        for top in range(0, rows, self.profile.tile):
            bottom = min(top + self.profile.tile, rows)
            first = top // window
            last = -(-bottom // window)
            held = range(top - first * window, bottom - first * window)
            part = x[:, first:last] if self.port.convolution else x[..., top:bottom]
            tile = self._tile(top, held, (last - first) * window)
            y = self.port.multiply(part, tile.weight, None)
            if tile.variance is not None:
                y = y + self._noise(part, tile.variance)
            y = self._digital(y, slices)
            if self._gains is not None:
                y = y * self._gains[top].view(-1, *[1] * (y.dim() - 2 if self.port.convolution else 0))
            total = y if total is None else total + y if y.requires_grad else total.add_(y)
        assert total is not None
        if self._reading.base:
            ones = self.port.shaped(x.new_full((rows, 1), self._reading.base))
            total = total - self.port.multiply(x, ones, None)
        bias = self.port.bias
        if bias is None:
            return total
        return total + (bias.view(-1, 1, 1) if self.port.convolution else bias)

    def _tile(self, top: int, held: range, rows: int) -> Tile:
        """The tiles that begin at row ``top``; rows of their outer channels that other tiles hold are 0."""
        if top in self._tiles:
            return self._tiles[top]
        steps = self._steps_of_adc()

        def stacked(values: Tensor, factors: Tensor | None) -> Tensor:
            part = values[:, top : top + len(held)]
            part = part if factors is None else part * factors[:, None, None]
            found = part.new_zeros(rows, part.shape[0] * part.shape[2])
            found[held.start : held.stop] = part.transpose(0, 1).flatten(1)
            return self.port.shaped(found)

        variances = self._reading.variances
        squared = None if steps is None else steps.square().reciprocal()
        tile = Tile(
            stacked(self._reading.slices, None if steps is None else steps.reciprocal()),
            None if variances is None else stacked(variances, squared),
        )
        if not self.recording:
            self._tiles[top] = tile
        return tile

    def _steps_of_adc(self) -> Tensor | None:
        """One step of the ADC by slice, ``[slices]``; None while ranges are being measured."""
        if self.recording:
            return None
        if self._largest_out is None:
            self._refuse()
        bits = self.profile.converters.adc_bits
        assert bits is not None and self._largest_out is not None
        return (self._largest_out / max(2 ** (bits - 1) - 1, 0.5)).clamp_min(SILENT)

    def _digital(self, y: Tensor, slices: int) -> Tensor:
        """Sums in steps of the ADC, rounded slice by slice, and added; while ranges are measured, sums as they are."""
        axis = 1 if self.port.convolution else y.dim() - 1
        y = y.unflatten(axis, (slices, -1))
        steps = self._steps_of_adc()
        if steps is None:
            others = [a for a in range(y.dim()) if a != axis]
            largest = y.detach().abs().amax(dim=others)
            self._largest_out = largest if self._largest_out is None else torch.maximum(self._largest_out, largest)
            return y.sum(dim=axis)
        bits = self.profile.converters.adc_bits
        assert bits is not None
        y = _rounded(y, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        first, *more = steps.tolist()
        total = y.select(axis, 0) * first
        for place, step in enumerate(more, 1):
            total = total.add(y.select(axis, place), alpha=step)
        return total

    def _refuse(self) -> None:
        raise ConfigError(
            f"layer {self.port.name} has converters whose range is not known; calibrate the chip on some images first"
        )

    def _gain_of(self, reading: Reading) -> Tensor:
        """Gain of every entry ``[rows, columns]``, one for a tile."""
        then = self._cells.read(0.0).slices.sum(dim=0)
        now = reading.slices.sum(dim=0)
        gains = torch.ones_like(now)
        size = self.profile.tile
        for top in range(0, now.shape[0], size):
            for left in range(0, now.shape[1], size):
                block = (slice(top, top + size), slice(left, left + size))
                found = float(now[block].abs().sum())
                gains[block] = float(then[block].abs().sum()) / found if found else 1.0
        return gains


def _rounded(x: Tensor, least: int, most: int) -> Tensor:
    """Whole numbers from least to most, of a tensor that nobody else holds; gradients go straight through."""
    if not x.requires_grad:
        return x.round_().clamp_(least, most)
    exact = x.detach()
    return x + (exact.round().clamp_(least, most) - exact)


def pc2(ideal: Tensor, real: Tensor) -> float:
    """Share of the second principal component of (w, w'), two columns with a row a weight; 0 of constant weights.

    Both of one shape.

    It is what no scale can undo: 0 for w' = c w, near sigma^2 / 4 for w' = w (1 + sigma eps). Bhattacharjee et al. 2023
    do not publish its normalisation; this one agrees with the values that are known.
    """
    both = torch.stack([ideal.detach().flatten().double(), real.detach().flatten().double()])
    both = both - both.mean(dim=1, keepdim=True)
    least, most = torch.linalg.eigvalsh(both @ both.T).clamp_min(0).tolist()
    return least / (least + most) if most > 0 else 0.0
