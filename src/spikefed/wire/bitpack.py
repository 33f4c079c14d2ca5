"""Spike codec ``bitpack``: Algorithm 2 (Compress, Decompress) of Federal SNN Distillation, for any T, C and N.

Per row and class the train is read as the integer ``sum_t s_t 2^(T-t)``: the first time step is the most significant
bit. At T = 8 that is one byte per class. For other T the bits follow each other without a gap (a bit stream of N*C*T
bits, zero padding at the very end only), which at T = 8 is the same thing.
"""

from __future__ import annotations

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, register
from spikefed.wire.plan import Plan


def packed_bytes(shape: tuple[int, int, int]) -> int:
    """Payload bytes of Algorithm 2 for spikes [N, C, T]: ceil(N*C*T / 8)."""
    n, c, t = shape
    return (n * c * t + 7) // 8


def compress(spikes: np.ndarray) -> bytes:
    """Algorithm 2, Compress: spikes [N, C, T] of 0/1 to ceil(N*C*T/8) bytes."""
    return np.packbits(spikes.reshape(-1)).tobytes()


def decompress(payload: bytes | memoryview, shape: tuple[int, int, int]) -> np.ndarray:
    """Algorithm 2, Decompress: the inverse of ``compress``; uint8 [N, C, T]. Raises PacketError on a wrong length."""
    total = shape[0] * shape[1] * shape[2]
    if len(payload) != packed_bytes(shape):
        raise PacketError("payload", f"{len(payload)} bytes where spikes {shape} need {packed_bytes(shape)}")
    packed = np.frombuffer(payload, dtype=np.uint8)
    spare = -total % 8
    if spare and packed[-1] & ((1 << spare) - 1):
        raise PacketError("payload", "padding bits after the last spike are not zero")
    return np.unpackbits(packed, count=total).reshape(shape)


class BitPack(Codec):
    name = "bitpack"
    number = 1
    kind = "spikes"
    description = "Algorithm 2 of FSD: one bit a spike, first time step first"

    def encode(
        self, content: np.ndarray, plan: Plan, memory: Memory | None, side: object
    ) -> tuple[bytes, Memory | None]:
        return compress(content), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: object
    ) -> tuple[np.ndarray, Memory | None]:
        return decompress(payload, plan.shape), None


register(BitPack())
