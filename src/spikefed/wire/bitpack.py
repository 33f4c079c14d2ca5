"""Spike codec ``bitpack``: Algorithm 2 (Compress, Decompress) of Federal SNN Distillation, see ``packed``."""

from __future__ import annotations

from spikefed.wire.codec import Codec, Memory, register
from spikefed.wire.packed import PackedSpikes, check_bits
from spikefed.wire.plan import Plan


class BitPack(Codec):
    """One bit a spike (Liu et al. 2022, Algorithm 2): no memory, no side information."""

    name = "bitpack"
    number = 1
    kind = "spikes"
    description = "Algorithm 2 of FSD: one bit a spike, first time step first"

    def encode(
        self, content: PackedSpikes, plan: Plan, memory: Memory | None, side: object
    ) -> tuple[bytes, Memory | None]:
        return content.bits.tobytes(), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: object
    ) -> tuple[PackedSpikes, Memory | None]:
        return PackedSpikes(check_bits(payload, plan.shape).copy(), plan.shape), None


register(BitPack())
