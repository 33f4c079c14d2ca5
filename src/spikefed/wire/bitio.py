"""Bit arrays (uint8 of 0/1) for Golomb positions and Elias numbers, all vectorised.

The unary parts of all code words travel first and their fixed or variable parts after them, which costs no bit and lets
both be read without a loop over the numbers.
"""

from __future__ import annotations

import numpy as np

from spikefed.errors import PacketError


class BitReader:
    """Reads pieces of a payload's bits; running out raises PacketError."""

    def __init__(self, payload: memoryview) -> None:
        self.bits = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
        self.at = 0

    def take(self, count: int) -> np.ndarray:
        if count > self.bits.size - self.at:
            raise PacketError("payload", f"ends after {self.bits.size} bits, {self.at + count} are needed")
        self.at += count
        return self.bits[self.at - count : self.at]

    def unary(self, count: int) -> np.ndarray:
        """``count`` numbers, each as that many ones and a zero: int64 [count]."""
        zeros = np.flatnonzero(self.bits[self.at :] == 0)[:count]
        if zeros.size < count:
            raise PacketError("payload", f"holds {zeros.size} of {count} unary numbers")
        self.at += int(zeros[-1]) + 1 if count else 0
        return np.diff(zeros, prepend=-1) - 1

    def finish(self) -> None:
        """Only zero padding of the last byte may remain."""
        rest = self.bits[self.at :]
        if rest.size > 7 or rest.any():
            raise PacketError("payload", f"{rest.size} bits are left over")


def unary_bits(values: np.ndarray) -> np.ndarray:
    """Each number as that many ones and a zero."""
    bits = np.ones(int(values.sum()) + values.size, dtype=np.uint8)
    bits[np.cumsum(values + 1) - 1] = 0
    return bits


def fixed_bits(values: np.ndarray, width: int) -> np.ndarray:
    """Each number in ``width`` bits, most significant first."""
    return (values[:, None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8).reshape(-1)


def from_fixed(bits: np.ndarray, width: int) -> np.ndarray:
    return (bits.reshape(-1, width).astype(np.int64) << np.arange(width - 1, -1, -1)).sum(axis=1)


def variable_bits(values: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The lowest ``widths[i]`` bits of each number, most significant first."""
    owner = np.repeat(np.arange(values.size), widths)
    place = np.arange(owner.size) - np.repeat(np.cumsum(widths) - widths, widths)
    return (values[owner] >> (widths[owner] - 1 - place) & 1).astype(np.uint8)


def from_variable(bits: np.ndarray, widths: np.ndarray) -> np.ndarray:
    owner = np.repeat(np.arange(widths.size), widths)
    place = np.arange(owner.size) - np.repeat(np.cumsum(widths) - widths, widths)
    parts = bits.astype(np.int64) << (widths[owner] - 1 - place)
    return np.bincount(owner, weights=parts, minlength=widths.size).astype(np.int64)


def golomb_parameter(density: float) -> int:
    """b* of STC: Golomb-Rice parameter for gaps of positions that are kept with this density (Sattler et al. 2020)."""
    if density >= 1.0:
        return 0
    golden = (np.sqrt(5.0) + 1.0) / 2.0
    return max(0, 1 + int(np.floor(np.log2(np.log(golden - 1.0) / np.log(1.0 - density)))))


def golomb_bits(positions: np.ndarray, parameter: int) -> np.ndarray:
    """Increasing positions as gaps: quotients in unary, then remainders in ``parameter`` bits each."""
    gaps = np.diff(positions, prepend=-1) - 1
    return np.concatenate([unary_bits(gaps >> parameter), fixed_bits(gaps & (1 << parameter) - 1, parameter)])


def read_golomb(reader: BitReader, count: int, parameter: int, size: int) -> np.ndarray:
    """Inverse of ``golomb_bits``: int64 [count] positions, all below ``size``."""
    quotients = reader.unary(count)
    remainders = from_fixed(reader.take(count * parameter), parameter) if parameter else 0
    positions = np.cumsum((quotients << parameter) + remainders + 1) - 1
    if count and positions[-1] >= size:
        raise PacketError("payload", f"position {positions[-1]} of {size} weights")
    return positions


def elias_bits(values: np.ndarray) -> np.ndarray:
    """Elias gamma of numbers >= 1: bit lengths minus one in unary, then the bits below the leading one."""
    widths = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    return np.concatenate([unary_bits(widths), variable_bits(values, widths)])


def read_elias(reader: BitReader, count: int, limit: int) -> np.ndarray:
    """Inverse of ``elias_bits``; numbers above ``limit`` are refused."""
    widths = reader.unary(count)
    if count and widths.max() >= limit.bit_length():
        raise PacketError("payload", f"a number above {limit}")
    values = (np.int64(1) << widths) + from_variable(reader.take(int(widths.sum())), widths)
    if count and values.max() > limit:
        raise PacketError("payload", f"number {values.max()} above {limit}")
    return values


def elias_delta_bits(values: np.ndarray) -> np.ndarray:
    """Elias delta of numbers >= 1: bit lengths as Elias gamma, then the bits below the leading ones."""
    widths = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    return np.concatenate([elias_bits(widths), variable_bits(values, widths - 1)])


def read_elias_delta(reader: BitReader, count: int, limit: int) -> np.ndarray:
    """Inverse of ``elias_delta_bits``; numbers above ``limit`` are refused."""
    widths = read_elias(reader, count, limit.bit_length()) - 1
    values = (np.int64(1) << widths) + from_variable(reader.take(int(widths.sum())), widths)
    if count and values.max() > limit:
        raise PacketError("payload", f"number {values.max()} above {limit}")
    return values
