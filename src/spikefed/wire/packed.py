"""Spikes as Algorithm 2 of Federal SNN Distillation packs them, for any T, C and N, whole or in blocks of rows.

Per row and class the train is read as the integer ``sum_t s_t 2^(T-t)``: the first time step is the most significant
bit. At T = 8 that is one byte per class. For other T the bits follow each other without a gap (a bit stream of N*C*T
bits, zero padding at the very end only), which at T = 8 is the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from spikefed.errors import PacketError

ROWS = 4096  # of a block: at 10 classes and 8 steps a third of a megabyte


def packed_bytes(shape: tuple[int, int, int]) -> int:
    """Payload bytes of Algorithm 2 for spikes [N, C, T]: ceil(N*C*T / 8)."""
    n, c, t = shape
    return (n * c * t + 7) // 8


def check_bits(payload: memoryview | bytes | np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The bytes as uint8, not copied. Raises PacketError on a wrong length, or padding that is not zero. Flat."""
    if len(payload) != packed_bytes(shape):
        raise PacketError("payload", f"{len(payload)} bytes where spikes {shape} need {packed_bytes(shape)}")
    bits = np.frombuffer(payload, dtype=np.uint8)
    spare = -(shape[0] * shape[1] * shape[2]) % 8
    if spare and bits[-1] & ((1 << spare) - 1):
        raise PacketError("payload", "padding bits after the last spike are not zero")
    return bits


@dataclass(frozen=True, eq=False)
class PackedSpikes:
    """Spikes [N, C, T] in an eighth of the memory.

    Attributes:
        bits: uint8 [ceil(N*C*T / 8)], Algorithm 2's bits.
        shape: (N, C, T).

    Raises:
        PacketError: bits of another length, or padding that is not zero.
    """

    bits: np.ndarray
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        check_bits(self.bits, self.shape)

    @staticmethod
    def of(spikes: np.ndarray) -> PackedSpikes:
        """Algorithm 2, Compress: of uint8 or bool [N, C, T]."""
        return PackedSpikes(np.packbits(spikes.reshape(-1)), cast(tuple[int, int, int], spikes.shape))

    @staticmethod
    def from_blocks(blocks: Iterable[np.ndarray], shape: tuple[int, int, int]) -> PackedSpikes:
        """Of a message that comes as blocks of rows [n, C, T], without holding it unpacked."""
        n, c, t = shape
        packed = np.zeros(packed_bytes(shape), dtype=np.uint8)
        bit = 0
        for block in blocks:
            if block.shape[1:] != (c, t) or bit + block.size > n * c * t:
                raise PacketError("shape", f"a block {block.shape} does not fit into spikes {shape}")
            start, lead = divmod(bit, 8)
            bits = np.packbits(np.concatenate([np.zeros(lead, np.uint8), block.reshape(-1)]))
            packed[start : start + bits.size] |= bits
            bit += block.size
        if bit != n * c * t:
            raise PacketError("shape", f"blocks hold {bit} spikes where {shape} needs {n * c * t}")
        return PackedSpikes(packed, shape)

    def blocks(self, rows: int = ROWS) -> Iterator[np.ndarray]:
        """Blocks of at most ``rows`` rows, uint8 [n, C, T]."""
        n, c, t = self.shape
        for first in range(0, n, rows):
            count = min(rows, n - first)
            start, lead = divmod(first * c * t, 8)
            stop = (first * c * t + count * c * t + 7) // 8
            bits = np.unpackbits(self.bits[start:stop], count=lead + count * c * t)[lead:]
            yield bits.reshape(count, c, t)

    def unpack(self) -> np.ndarray:
        """Algorithm 2, Decompress: uint8 [N, C, T]."""
        n, c, t = self.shape
        return np.unpackbits(self.bits, count=n * c * t).reshape(self.shape)
