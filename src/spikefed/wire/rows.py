"""Rivals' payloads of one small number a row, or a row and class: hard labels, spike counts, quantised distributions.

Each comes plain (base-B digits, no statistics) and entropy-coded by the same context model as spikes, so that they
compare fairly: the number's binary digits are a short "train", predicted from the last round and from alike rows. For
labels this is the delta coding of CFD (Sattler et al. 2022) and better.
"""

from __future__ import annotations

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.context import ContextCodec
from spikefed.wire.plan import Plan

MISSING = -1  # a label that was not sent
_GROUP = 256  # digits that share one big integer


def pack_digits(digits: np.ndarray, base: int) -> bytes:
    """Digits 0..base-1, 256 to a big-endian integer of ceil(256 log2(base) / 8) bytes (fewer in the last).

    ``digits`` is ``[count]``, flat.
    """
    parts: list[bytes] = []
    for start in range(0, digits.size, _GROUP):
        group = digits[start : start + _GROUP].tolist()
        value = 0
        for digit in group:
            value = value * base + digit
        parts.append(value.to_bytes(_group_bytes(len(group), base), "big"))
    return b"".join(parts)


def unpack_digits(payload: memoryview, count: int, base: int) -> np.ndarray:
    """Inverse of ``pack_digits``: int64 [count]. Raises PacketError on a wrong length or value."""
    expected = digits_bytes(count, base)
    if len(payload) != expected:
        raise PacketError("payload", f"{len(payload)} bytes where {count} digits of base {base} need {expected}")
    digits = np.empty(count, dtype=np.int64)
    start = 0
    for first in range(0, count, _GROUP):
        size = min(_GROUP, count - first)
        stop = start + _group_bytes(size, base)
        value = int.from_bytes(payload[start:stop], "big")
        for index in range(first + size - 1, first - 1, -1):
            value, digits[index] = divmod(value, base)
        if value:
            raise PacketError("payload", f"a group of digits is not below {base}^{size}")
        start = stop
    return digits


def digits_bytes(count: int, base: int) -> int:
    """Length of ``pack_digits``."""
    groups, rest = divmod(count, _GROUP)
    return groups * _group_bytes(_GROUP, base) + (_group_bytes(rest, base) if rest else 0)


def _group_bytes(size: int, base: int) -> int:
    return ((base**size - 1).bit_length() + 7) // 8


def _to_binary(values: np.ndarray, width: int) -> np.ndarray:
    """[...] to [..., width], most significant digit first."""
    return (values[..., None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8)


def _from_binary(bits: np.ndarray) -> np.ndarray:
    width = bits.shape[-1]
    return (bits.astype(np.int64) << np.arange(width - 1, -1, -1)).sum(axis=-1)


class PlainLabels(Codec):
    """One label a row in fixed width."""

    name = "plain"
    number = 32
    kind = "labels"
    description = "hard labels, log2(C + 1) bits each ('not sent' is a label too)"

    def encode(
        self, content: np.ndarray, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, None]:
        return pack_digits(content.astype(np.int64) + 1, plan.shape[1] + 1), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[np.ndarray, None]:
        return unpack_digits(payload, plan.shape[0], plan.shape[1] + 1).astype(np.int32) - 1, None


class ContextLabels(ContextCodec):
    """Labels as binary digits under the context coder."""

    name = "context"
    number = 33
    kind = "labels"
    description = "hard labels, entropy-coded against the last round (CFD)"

    def bit_shape(self, plan: Plan) -> tuple[int, int, int]:
        return plan.shape[0], 1, plan.shape[1].bit_length()

    def to_bits(self, content: np.ndarray, plan: Plan) -> np.ndarray:
        return _to_binary(content.astype(np.int64)[:, None] + 1, self.bit_shape(plan)[2])

    def from_bits(self, bits: np.ndarray, plan: Plan) -> np.ndarray:
        labels = _from_binary(bits)[:, 0] - 1
        if labels.size and labels.max() >= plan.shape[1]:
            raise PacketError("payload", f"label {labels.max()} of {plan.shape[1]} classes")
        return labels.astype(np.int32)


class PlainCounts(Codec):
    """Counts of 0 to L in fixed width."""

    name = "plain"
    number = 34
    kind = "counts"
    description = "counts or quantised probabilities 0..L, log2(L + 1) bits each"

    def encode(
        self, content: np.ndarray, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, None]:
        return pack_digits(content.reshape(-1).astype(np.int64), plan.shape[2] + 1), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[np.ndarray, None]:
        n, c, levels = plan.shape
        return unpack_digits(payload, n * c, levels + 1).astype(np.uint16).reshape(n, c), None


class ContextCounts(ContextCodec):
    """Counts as binary digits under the context coder."""

    name = "context"
    number = 35
    kind = "counts"
    description = "counts or quantised probabilities, entropy-coded against the last round"

    def bit_shape(self, plan: Plan) -> tuple[int, int, int]:
        return plan.shape[0], plan.shape[1], plan.shape[2].bit_length()

    def to_bits(self, content: np.ndarray, plan: Plan) -> np.ndarray:
        return _to_binary(content.astype(np.int64), self.bit_shape(plan)[2])

    def from_bits(self, bits: np.ndarray, plan: Plan) -> np.ndarray:
        counts = _from_binary(bits)
        if counts.size and counts.max() > plan.shape[2]:
            raise PacketError("payload", f"count {counts.max()} above {plan.shape[2]}")
        return counts.astype(np.uint16)


def quantise_distribution(probabilities: np.ndarray, bits: int) -> np.ndarray:
    """CFD's Q_b: the point of the grid {0, 1/L, .., 1} with sum 1 that is nearest in L1, L = 2^b - 1.

    Args:
        probabilities: float [N, C], rows sum to 1.
        bits: b >= 1; b = 1 keeps the most probable class only.

    Returns:
        uint16 [N, C] levels 0..L; every row sums to L. Equal remainders favour the smaller class.
    """
    levels = (1 << bits) - 1
    scaled = np.asarray(probabilities, dtype=np.float64) * levels
    whole = np.floor(scaled + 1e-9)
    missing = (levels - whole.sum(axis=1)).astype(np.int64)
    order = np.argsort(-(scaled - whole), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    return (whole + (rank < missing[:, None])).astype(np.uint16)


for _codec in (PlainLabels(), ContextLabels(), PlainCounts(), ContextCounts()):
    register(_codec)
