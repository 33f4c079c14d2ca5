"""Bits of Golomb positions and Elias numbers: arrays (uint8 of 0/1) to write, a ``BitReader`` to read.

The unary parts of all code words travel first and their fixed or variable parts after them, which costs no bit and lets
both be read without a loop over the numbers. Reading goes piece by piece: beside its results it needs a fixed amount
of memory, whatever the payload says.
"""

from __future__ import annotations

import numpy as np

from spikefed.errors import PacketError

PIECE = 1 << 16  # numbers, or bytes of unary code, looked at together


class BitReader:
    """Reads pieces of a payload's bits; running out raises PacketError."""

    def __init__(self, payload: memoryview) -> None:
        self.data = np.frombuffer(payload, dtype=np.uint8)
        self.at = 0
        self.size = 8 * self.data.size

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` bits, uint8 of 0/1. Shape ``[count]``."""
        if count > self.size - self.at:
            raise PacketError("payload", f"ends after {self.size} bits, {self.at + count} are needed")
        start, skip = divmod(self.at, 8)
        self.at += count
        return np.unpackbits(self.data[start : (self.at + 7) // 8], count=skip + count)[skip:]

    def unary(self, count: int, limit: int) -> np.ndarray:
        """``count`` numbers in [0, limit], each as that many ones and a zero; of the smallest type that holds limit."""
        values = np.empty(count, dtype=np.min_scalar_type(limit))
        found = 0
        ones = 0
        while found < count:
            bits = self.take(min(8 * PIECE, self.size - self.at))
            if not bits.size:
                raise PacketError("payload", f"holds {found} of {count} unary numbers")
            zeros = np.flatnonzero(bits == 0)[: count - found]
            lengths = np.diff(zeros, prepend=-1) - 1
            if zeros.size:
                lengths[0] += ones
                ones = 0
            if lengths.size and lengths.max() > limit:
                raise PacketError("payload", f"a unary number above {limit}")
            values[found : found + zeros.size] = lengths
            found += zeros.size
            end = int(zeros[-1]) + 1 if found == count else bits.size
            ones += end - (int(zeros[-1]) + 1 if zeros.size else 0)
            if ones > limit:
                raise PacketError("payload", f"a unary number above {limit}")
            self.at -= bits.size - end
        return values

    def fixed(self, count: int, width: int) -> np.ndarray:
        """``count`` numbers of ``width`` bits each, most significant first. int64 ``[count]``: shape of the result."""
        values = np.empty(count, dtype=np.min_scalar_type((1 << width) - 1))
        for first in range(0, count, PIECE):
            size = min(PIECE, count - first)
            values[first : first + size] = from_fixed(self.take(size * width), width)
        return values

    def below_leading(self, widths: np.ndarray, limit: int) -> np.ndarray:
        """Numbers in [1, limit] whose bits below the leading one follow, ``widths[i]`` of them each."""
        values = np.empty(widths.size, dtype=np.min_scalar_type(max(limit, 1)))
        for first in range(0, widths.size, PIECE):
            piece = widths[first : first + PIECE].astype(np.int64)
            numbers = (np.int64(1) << piece) + from_variable(self.take(int(piece.sum())), piece)
            if numbers.max() > limit:
                raise PacketError("payload", f"number {numbers.max()} above {limit}")
            values[first : first + PIECE] = numbers
        return values

    def finish(self) -> None:
        """Only zero padding of the last byte may remain."""
        rest = self.size - self.at
        if rest > 7 or self.take(rest).any():
            raise PacketError("payload", f"{rest} bits are left over")


def unary_bits(values: np.ndarray) -> np.ndarray:
    """Each number as that many ones and a zero. ``[n]`` to uint8 of 0/1 ``[M]``."""
    bits = np.ones(int(values.sum()) + values.size, dtype=np.uint8)
    bits[np.cumsum(values + 1) - 1] = 0
    return bits


def fixed_bits(values: np.ndarray, width: int) -> np.ndarray:
    """Each number in ``width`` bits, most significant first. ``[n]`` to uint8 ``[N * width]``."""
    return (values[:, None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8).reshape(-1)


def from_fixed(bits: np.ndarray, width: int) -> np.ndarray:
    """Inverse of ``fixed_bits``: int64. Shape ``[n]``."""
    return (bits.reshape(-1, width).astype(np.int64) << np.arange(width - 1, -1, -1)).sum(axis=1)


def variable_bits(values: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The lowest ``widths[i]`` bits of each number, most significant first. Flat uint8 of 0/1."""
    owner = np.repeat(np.arange(values.size), widths)
    place = np.arange(owner.size) - np.repeat(np.cumsum(widths) - widths, widths)
    return (values[owner] >> (widths[owner] - 1 - place) & 1).astype(np.uint8)


def from_variable(bits: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Inverse of ``variable_bits``: int64. Flat, one number a width."""
    owner = np.repeat(np.arange(widths.size), widths)
    place = np.arange(owner.size) - np.repeat(np.cumsum(widths) - widths, widths)
    parts = bits.astype(np.int64) << (widths[owner] - 1 - place)
    return np.bincount(owner, weights=parts, minlength=widths.size).astype(np.int64)


def golomb_parameter(count: int, size: int) -> int:
    """b* of STC: Golomb-Rice parameter for gaps of ``count`` positions out of ``size`` (Sattler et al. 2020).

    The paper's max(0, 1 + floor(log2(ln(phi - 1) / ln(1 - q)))), q = count / size, is the number of j = 0, 1, .. with
    (1 - q)^(2^j) >= phi - 1 = (sqrt 5 - 1) / 2. Counted in integers, so that no logarithm's last bit decides it.
    """
    parameter = 0
    dropped = size - count
    every = size
    while 0 < dropped < every and (2 * dropped + every) ** 2 >= 5 * every**2:
        parameter = parameter + 1
        dropped = dropped**2
        every = every**2
    return parameter


def golomb_bits(positions: np.ndarray, parameter: int) -> np.ndarray:
    """Increasing positions as gaps: quotients in unary, then remainders in ``parameter`` bits each.

    Flat uint8 of 0/1.
    """
    gaps = np.diff(positions, prepend=-1) - 1
    return np.concatenate([unary_bits(gaps >> parameter), fixed_bits(gaps & (1 << parameter) - 1, parameter)])


def golomb_limit_bits(count: int, parameter: int, size: int) -> int:
    """The most bits that ``golomb_bits`` of ``count`` positions below ``size`` can take."""
    return count * (1 + parameter) + (size >> parameter)


def read_golomb(reader: BitReader, count: int, parameter: int, size: int) -> np.ndarray:
    """Inverse of ``golomb_bits``: int64 [count] positions, all below ``size``.

    Args:
        reader: where to read.
        count: positions to read.
        parameter: bits of a remainder.
        size: all positions are below it.
    """
    gaps = reader.unary(count, size >> parameter).astype(np.int64) << parameter
    if parameter:
        gaps += reader.fixed(count, parameter)
    positions = np.cumsum(gaps + 1) - 1
    if count and positions[-1] >= size:
        raise PacketError("payload", f"position {positions[-1]} of {size} weights")
    return positions


def elias_bits(values: np.ndarray) -> np.ndarray:
    """Elias gamma of numbers >= 1: bit lengths minus one in unary, then the bits below the leading one.

    Flat uint8 of 0/1.
    """
    widths = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    return np.concatenate([unary_bits(widths), variable_bits(values, widths)])


def read_elias(reader: BitReader, count: int, limit: int) -> np.ndarray:
    """Inverse of ``elias_bits``; numbers above ``limit`` are refused. Of the smallest type that holds ``limit``.

    Shape ``[count]``.
    """
    return reader.below_leading(reader.unary(count, limit.bit_length() - 1), limit)


def elias_delta_bits(values: np.ndarray) -> np.ndarray:
    """Elias delta of numbers >= 1: bit lengths as Elias gamma, then the bits below the leading ones.

    Flat uint8 of 0/1.
    """
    widths = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    return np.concatenate([elias_bits(widths), variable_bits(values, widths - 1)])


def read_elias_delta(reader: BitReader, count: int, limit: int) -> np.ndarray:
    """Inverse of ``elias_delta_bits``; numbers above ``limit`` are refused. Shape ``[count]``."""
    return reader.below_leading(read_elias(reader, count, limit.bit_length()) - 1, limit)
