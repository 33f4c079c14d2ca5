"""The arithmetic coder behind codec ``context``, and the model that feeds it (docs/wire-format.md, 5.2 to 5.5)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spikefed.wire.contextmodel import (
    FIRST,
    LIMIT,
    SETS_A,
    SETS_B,
    TABLE_BITS,
    ModelState,
    squash_table,
    stretch_table,
)

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_COUNT_LIMIT = 255
_WEIGHT_LIMIT = (1 << 18) - 1
_BIAS = 77
_RATE_MIN = 131
_RECIPROCAL = [0] + [655360 // (10 * n + 9) for n in range(1, _COUNT_LIMIT + 1)]
# Kinds of decision
SILENT = 0
FULL = 1
BIT = 2


class Coder:
    """Binary arithmetic coder and the adaptive model that feeds it."""

    def __init__(self, state: ModelState, code: bytes | None, capacity: int) -> None:
        self.tables: list[int] = state.tables.reshape(-1).tolist()
        self.weights: list[list[int]] = state.weights.tolist()
        self.coded: list[int] = state.coded.tolist()
        self.squash_of: list[int] = squash_table().tolist()
        self.stretch_of: list[int] = stretch_table().tolist()
        self.rate = [self._rate(kind) for kind in range(3)]
        self.decoding = code is not None
        self.payload = bytearray(code or b"")
        self.capacity = capacity
        self.low: int = 0
        self.high: int = 0xFFFFFFFF
        self.window: int = 0
        self.position = 0
        self.emitted = 0
        self.ideal_bits = 0.0
        self.decisions = 0
        if self.decoding:
            for _ in range(4):
                self.window = self.window << 8 | self._next()

    def _rate(self, kind: int) -> int:
        return max(_RATE_MIN, 2622000 // (2000 + self.coded[kind]))

    def _next(self) -> int:
        self.position += 1
        return self.payload[self.position - 1] if self.position <= len(self.payload) else 0

    def _squash(self, x: int) -> int:
        return self.squash_of[min(max(x, -LIMIT), LIMIT) + LIMIT]

    def decide(self, kind: int, keys: Sequence[int], set_a: int, set_b: int, bit: int) -> int:
        """Code one binary decision under these context keys and weight sets; returns the bit.

        Args:
            kind: which family of contexts.
            keys: context keys, one a model.
            set_a, set_b: weight sets of the mixer.
            bit: the bit to code; not looked at when decoding.
        """
        tables = self.tables
        stretch_of = self.stretch_of
        slots: list[int] = []
        inputs: list[int] = []
        for i, key in enumerate(keys):
            slot = (FIRST[kind] + i << TABLE_BITS) + ((key * _GOLDEN & _WORD) >> 64 - TABLE_BITS)
            counter = tables[slot]
            slots.append(slot)
            inputs.append(stretch_of[counter >> 20] if counter & 1023 else 0)
        inputs.append(_BIAS)
        a = self.weights[SETS_A[kind] + set_a]
        b = self.weights[SETS_B[kind] + set_b]
        dot_a = sum(w * x >> 8 for w, x in zip(a, inputs, strict=False)) >> 8
        dot_b = sum(w * x >> 8 for w, x in zip(b, inputs, strict=False)) >> 8
        dot_a = min(max(dot_a, -LIMIT), LIMIT)
        dot_b = min(max(dot_b, -LIMIT), LIMIT)
        p = self._squash(dot_a + dot_b >> 1)
        bit = self._code(bit, p)
        self.decisions += 1
        self.ideal_bits -= math.log2((p if bit else 65536 - p) / 65536)

        for weights, dot in ((a, dot_a), (b, dot_b)):
            step = ((bit << 16) - self._squash(dot)) * self.rate[kind] >> 10
            for i, x in enumerate(inputs):
                weights[i] = min(max(weights[i] + (step * x + 8192 >> 14), -_WEIGHT_LIMIT), _WEIGHT_LIMIT)
        target = (1 << 22) - 1 if bit else 0
        for slot in slots:
            counter = tables[slot]
            count = counter & 1023
            estimate = counter >> 10 if count else p << 6
            count = min(count + 1, _COUNT_LIMIT)
            tables[slot] = estimate + ((target - estimate) * _RECIPROCAL[count] >> 16) << 10 | count
        self.coded[kind] += 1
        if self.coded[kind] & 63 == 0:
            self.rate[kind] = self._rate(kind)
        return bit

    def _code(self, bit: int, p: int) -> int:
        middle = self.low + ((self.high - self.low) * p >> 16)
        if self.decoding:
            bit = int(self.window <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while (self.low ^ self.high) & 0xFF000000 == 0:
            if self.decoding:
                self.window = (self.window << 8 | self._next()) & 0xFFFFFFFF
            else:
                self.payload.append(self.high >> 24)
            self.emitted += 1
            self.low = self.low << 8 & 0xFFFFFFFF
            self.high = (self.high << 8 | 255) & 0xFFFFFFFF
        return bit

    def _tail(self) -> bytes:
        """The fewest bytes that, followed by zeros, lie in [low, high]."""
        for size in range(4):
            value = self.high & ~(0xFFFFFFFF >> 8 * size) if size else 0
            if value >= self.low:
                return value.to_bytes(4, "big")[:size]
        return self.high.to_bytes(4, "big")

    def finish(self) -> int:
        """Encoding: payload bytes or -1 (does not fit). Decoding: 0, or -2 when it is not what encode writes."""
        tail = self._tail()
        if not self.decoding:
            self.payload += tail
            if len(self.payload) > self.capacity:
                return -1
            while self.payload and self.payload[-1] == 0:
                self.payload.pop()
            return len(self.payload)
        if self.payload and self.payload[-1] == 0:
            return -2
        if not tail:
            return 0 if len(self.payload) <= self.emitted else -2
        fits = len(self.payload) == self.emitted + len(tail) and bytes(self.payload[self.emitted :]) == tail
        return 0 if fits else -2
