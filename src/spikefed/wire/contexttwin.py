"""The ``context`` model in plain Python: the same bytes as native/context.cpp, about a hundred times slower.

It is also the readable statement of the model; names follow docs/wire-format.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

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
_MIX = 0xD6E8FEB86659FD93
_COUNT_LIMIT = 255
_WEIGHT_LIMIT = (1 << 18) - 1
_BIAS = 77
_RATE_MIN = 131
_RECIPROCAL = [0] + [655360 // (10 * n + 9) for n in range(1, _COUNT_LIMIT + 1)]
SILENT = 0
FULL = 1
BIT = 2


class Coder:
    """Binary arithmetic coder and the adaptive model that feeds it."""

    def __init__(self, state: ModelState, code: bytes | None, capacity: int) -> None:
        self.tables = state.tables.reshape(-1).tolist()
        self.weights = state.weights.tolist()
        self.coded = state.coded.tolist()
        self.squash_of = squash_table().tolist()
        self.stretch_of = stretch_table().tolist()
        self.rate = [self._rate(kind) for kind in range(3)]
        self.decoding = code is not None
        self.payload = bytearray(code or b"")
        self.capacity = capacity
        self.low = 0
        self.high = 0xFFFFFFFF
        self.window = 0
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
        slots = []
        inputs = []
        for i, key in enumerate(keys):
            slot = (FIRST[kind] + i << TABLE_BITS) + ((key * _GOLDEN & _WORD) >> 64 - TABLE_BITS)
            counter = self.tables[slot]
            slots.append(slot)
            inputs.append(self.stretch_of[counter >> 20] if counter & 1023 else 0)
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
            counter = self.tables[slot]
            count = counter & 1023
            estimate = counter >> 10 if count else p << 6
            count = min(count + 1, _COUNT_LIMIT)
            self.tables[slot] = estimate + ((target - estimate) * _RECIPROCAL[count] >> 16) << 10 | count
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


def _trains(packed: np.ndarray | None, shape: tuple[int, int, int]) -> list[list[int]] | None:
    """Algorithm 2's integers [N][C] of an Algorithm 2 bit stream."""
    if packed is None:
        return None
    n, c, t = shape
    bits = np.unpackbits(packed, count=n * c * t).reshape(n, c, t)
    values = np.zeros((n, c), dtype=np.uint64)
    for step in range(t):
        values = values << np.uint64(1) | bits[:, :, step]
    return values.tolist()


def _shape_of(train: int, steps: int) -> int:
    """0 silent, 1 full, 2 one spike, 3 at most half, 4 more."""
    count = train.bit_count()
    return 0 if count == 0 else 1 if count == steps else 2 if count == 1 else 3 if 2 * count <= steps else 4


def _top(counts: Sequence[int]) -> int:
    """Index of the first largest count; the number of classes when all are 0."""
    best = max(counts, default=0)
    return counts.index(best) if best else len(counts)


def run(
    spikes: np.ndarray, global_: np.ndarray | None, previous: np.ndarray | None, near: np.ndarray | None,
    code: np.ndarray, state: ModelState, shape: tuple[int, int, int], *, decode: bool, measure: bool = False,
) -> tuple[int, float, int]:  # fmt: skip
    """Encode ``spikes`` into ``code``, or decode ``code`` into ``spikes``; the state learns in place.

    Args:
        spikes, global_, previous: uint8, Algorithm 2 bit streams of ``shape``; the last two may be None.
        near: int32 [N, 5], earlier rows with alike images, -1 = none; or None.
        code: uint8 payload; its size is the capacity when encoding.

    Returns:
        (result, ideal bits, decisions); result as in ``Coder.finish``.
    """
    n, classes, steps = shape
    coder = Coder(state, code.tobytes() if decode else None, code.size)
    now = [[0] * classes for _ in range(n)] if decode else _trains(spikes, shape)
    assert now is not None
    globals_ = _trains(global_, shape)
    previouses = _trains(previous, shape)
    for r in range(n):
        g_row = globals_[r] if globals_ else None
        p_row = previouses[r] if previouses else None
        alike = [now[k] for k in near[r].tolist() if k >= 0] if near is not None else []
        _row(coder, now[r], g_row, p_row, alike, classes, steps)
        if not coder.decoding and len(coder.payload) > code.size:
            return -1, coder.ideal_bits, coder.decisions
    result = coder.finish()
    if decode:
        _store(now, spikes, shape)
    elif result >= 0:
        code[:result] = np.frombuffer(bytes(coder.payload), dtype=np.uint8)
    state.tables[...] = np.array(coder.tables, dtype=np.uint32).reshape(state.tables.shape)
    state.weights[...] = np.array(coder.weights, dtype=np.int32)
    state.coded[...] = coder.coded
    return result, coder.ideal_bits, coder.decisions


def _store(now: list[list[int]], spikes: np.ndarray, shape: tuple[int, int, int]) -> None:
    n, classes, steps = shape
    values = np.array(now, dtype=np.uint64).reshape(n, classes, 1)
    shifts = np.arange(steps - 1, -1, -1, dtype=np.uint64)
    spikes[...] = np.packbits((values >> shifts & np.uint64(1)).astype(np.uint8).reshape(-1))


def _row(
    coder: Coder, now: list[int], g_row: list[int] | None, p_row: list[int] | None, alike: list[list[int]],
    classes: int, steps: int,
) -> None:  # fmt: skip
    """One row: its classes, the likely ones first."""
    full = (1 << steps) - 1
    g = g_row or [0] * classes
    p = p_row or [0] * classes
    n = alike[0] if alike else [0] * classes
    spikes = [sum(row[c].bit_count() for row in alike) for c in range(classes)]
    fired_alike = [sum(row[c] != 0 for row in alike) for c in range(classes)]
    score = [g[c].bit_count() + p[c].bit_count() for c in range(classes)]
    g_top = _top([train.bit_count() for train in g])
    p_top = _top([train.bit_count() for train in p])
    n_top = _top(spikes)
    wide = classes + 1
    remain = sum(value > 0 for value in score)
    fired = fired_full = surprises = best = any_ = 0
    top = classes
    for j, c in enumerate(sorted(range(classes), key=lambda c: -score[c])):
        gs = _shape_of(g[c], steps) if g_row is not None else 5
        ps = _shape_of(p[c], steps) if p_row is not None else 5
        ns = _shape_of(n[c], steps) if alike else 5
        gp = gs * 6 + ps
        f = min(fired, 3)
        state = (f * 2 + (fired_full > 0)) * 3 + min(remain, 2)
        strength = 0 if best == 0 else 1 if best <= 2 else 2 if best <= steps // 2 else 3 if best < steps else 4
        remain -= score[c] > 0
        keys = (
            gp, c * 36 + gp, gp * 5 + strength, (gp * 16 + min(j, 15)) * 4 + f, (c * wide + g_top) * 6 + ps,
            (c * wide + p_top) * 6 + gs, (c * wide + top) * 36 + gp, (c * wide + n_top) * 36 + gp,
            (gp * 6 + ns) * 6 + fired_alike[c], (c * 6 + fired_alike[c]) * 512 + spikes[c],
        )  # fmt: skip
        if coder.decide(SILENT, keys, gp, state, int(now[c] == 0)):
            surprises += g[c] != 0
            continue
        keys = (
            gp, c * 36 + gp, (gp * 5 + strength) * 4 + min(surprises, 3), (gp * 6 + ns) * 6 + fired_alike[c],
            spikes[c] * 24 + state,
        )  # fmt: skip
        if steps == 1 or coder.decide(FULL, keys, gp, state, int(now[c] == full)):  # not silent at T = 1: full
            train = full
            fired_full += 1
        else:
            votes = [row[c] for row in alike]
            train = _train(coder, now[c], c, g[c], p[c], n[c], votes, gs, ps, ns, spikes[c], any_, steps)
        now[c] = train
        fired += 1
        any_ |= train
        surprises += g[c] == 0
        if train.bit_count() > best:
            best = train.bit_count()
            top = c


def _train(
    coder: Coder, actual: int, c: int, g: int, p: int, n: int, alike: list[int], gs: int, ps: int, ns: int, spikes: int,
    any_: int, steps: int,
) -> int:  # fmt: skip
    """The bits of a train that is neither silent nor full, first time step first."""
    gp = gs * 6 + ps
    node = 1
    count = 0
    match_g = int(g != 0)
    match_p = int(p != 0)
    for t in range(steps):
        shift = steps - 1 - t
        if shift == 0 and count in (0, steps - 1):
            node = node * 2 + (count == 0)
            break
        gb = g >> shift & 1
        pb = p >> shift & 1
        nb = n >> shift & 1
        last = node & 7
        around = (g >> shift + 1 & 1 if t else 0) << 2 | gb << 1 | (g >> shift - 1 & 1 if shift else 0)
        votes = sum(train >> shift & 1 for train in alike)
        keys = (
            ((around * 2 + match_g) * 6 + gs) * 8 + last,
            ((gb * 2 + pb) * 4 + match_g * 2 + match_p) * 36 + gp,
            t * 256 + (node & 255),
            g * _MIX + (node & _WORD),
            ((c * 64 + t) * 4 + min(count, 3)) * 4 + (last & 3),
            (((gb * 2 + pb) * 2 + (any_ >> shift & 1)) * 8 + last) * 4 + match_p * 2 + match_g,
            ((((ns * 6 + votes) * 2 + nb) * 4 + gb * 2 + pb) * 64 + t) * 4 + (last & 3),
            (spikes * 8 + last) * 64 + t,
            n * _MIX + (node & _WORD),
        )
        bit = coder.decide(BIT, keys, t * 4 + match_g * 2 + match_p, gp, actual >> shift & 1)
        node = node * 2 + bit
        count = count + bit
        match_g = match_g & (bit == gb)
        match_p = match_p & (bit == pb)
    return node & ((1 << steps) - 1)
