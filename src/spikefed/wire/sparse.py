"""Sparse weight codecs with error feedback: STC (Sattler et al., TNNLS 2020) and plain top-k.

What is dropped is remembered by the sender and added to its next message, so these codecs are for *changes* of weights.
A message that turns out lost is given back as a whole: nothing that was to be sent ever disappears.
Positions are Golomb-coded gaps; STC adds one sign bit an entry and one magnitude for all, top-k an fp16 value an entry.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.bitio import BitReader, golomb_bits, golomb_limit_bits, golomb_parameter, read_golomb
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.feedback import as_before, as_lost, owed, state
from spikefed.wire.floats import HALF_MAX, cut_others, finite_float, join, sizes, split
from spikefed.wire.plan import Plan

_HEAD = struct.Struct("<f")


class Sparse(Codec):
    """Keeps one weight in ``inverse``; k = max(1, floor(n / inverse)) is known to both ends and never travels."""

    kind = "weights"
    lossless = False
    feedback = True
    self_contained = True

    def __init__(self, name: str, number: int, inverse: int, ternary: bool) -> None:
        what = "sign and one magnitude (STC)" if ternary else "fp16 values (top-k)"
        description = f"1 weight in {inverse}: Golomb positions, {what}, error feedback"
        self.name = name
        self.number = number
        self.description = description
        self.inverse = inverse
        self.ternary = ternary

    def kept(self, size: int) -> int:
        return min(size, max(1, size // self.inverse))

    def encode(
        self, content: dict[str, np.ndarray], plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory | None]:
        vector, others = join(content, plan)
        before = owed(memory, plan)
        if before is None:
            before = np.zeros_like(vector)
        else:
            with np.errstate(over="ignore"):
                vector = vector + before
            if not np.isfinite(vector).all():
                raise PacketError("tensors", "the change and what was left of earlier ones add up beyond float32")
        count = self.kept(vector.size)
        # Ties at the threshold go to the smaller position: stable, so the same on every machine.
        order = np.argsort(-np.abs(vector), kind="stable")[:count]
        positions = np.sort(order)
        kept = vector[positions]
        bits = golomb_bits(positions, self._parameter(vector.size))
        if self.ternary:
            magnitude = np.float32(np.abs(kept).mean(dtype=np.float64)) if count else np.float32(0)
            sent = np.where(kept < 0, -magnitude, magnitude).astype(np.float32)
            payload = _HEAD.pack(magnitude) + np.packbits(np.concatenate([bits, (kept < 0).astype(np.uint8)])).tobytes()
        else:
            half = np.clip(kept, -HALF_MAX, HALF_MAX).astype("<f2")
            sent = half.astype(np.float32)
            payload = np.packbits(bits).tobytes() + half.tobytes()
        residual = vector.copy()
        residual[positions] -= sent
        # The round tells packets apart, so that an acknowledgement says which one was accepted.
        shared = {"round": np.array([plan.round], dtype=np.int64)}
        return payload + others, Memory(shared, state(memory, plan, before, residual, positions, kept))

    def before(self, memory: Memory) -> Memory:
        return as_before(memory)

    def unsent(self, memory: Memory) -> Memory:
        return as_lost(memory)

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[dict[str, np.ndarray], Memory | None]:
        coded, others = cut_others(payload, plan)
        size, _ = sizes(plan)
        count = self.kept(size)
        parameter = self._parameter(size)
        head, tail = (_HEAD.size, 0) if self.ternary else (0, 2 * count)
        most = head + tail + (golomb_limit_bits(count, parameter, size) + count * self.ternary + 7) // 8
        if not head + tail <= len(coded) <= most:
            raise PacketError("payload", f"{len(coded)} bytes where {count} of {size} weights take up to {most}")
        reader = BitReader(coded[head : len(coded) - tail])
        positions = read_golomb(reader, count, parameter, size)
        if self.ternary:
            magnitude = finite_float(_HEAD.unpack_from(coded)[0], "STC's magnitude")
            values = np.where(reader.take(count) == 1, -magnitude, magnitude)
        else:
            values = np.frombuffer(coded[len(coded) - tail :], dtype="<f2").astype(np.float32)
            if not np.isfinite(values).all():
                raise PacketError("payload", "a NaN or an infinity among the kept values")
        reader.finish()
        vector = np.zeros(size, dtype=np.float32)
        vector[positions] = values
        return split(vector, others, plan), Memory({"round": np.array([plan.round], dtype=np.int64)})

    def _parameter(self, size: int) -> int:
        return golomb_parameter(self.kept(size), size)


def stc_bits_per_entry(density: float) -> float:
    """Expected bits of one kept entry of STC: sign, remainder, and unary quotient (specification 5)."""
    b = golomb_parameter(*Fraction(density).limit_denominator(1_000_000).as_integer_ratio())
    return 1 + b + 1 / (1 - math.pow(1 - density, 2**b))


for _number, _inverse in ((50, 100), (51, 400), (58, 10)):
    register(Sparse(f"stc-{_inverse}", _number, _inverse, ternary=True))
for _number, _inverse in ((52, 100), (53, 10)):
    register(Sparse(f"topk-{_inverse}", _number, _inverse, ternary=False))
