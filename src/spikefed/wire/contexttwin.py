"""The ``context`` model in plain Python: the same bytes as native/context.cpp, about a hundred times slower.

It is also the readable statement of the model; names and the order of keys follow docs/wire-format.md, section 5.4. The
coder below it is `contextcoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spikefed.wire.contextcoder import BIT, FULL, SILENT, Coder
from spikefed.wire.contextmodel import ModelState

_WORD = (1 << 64) - 1
_MIX = 0xD6E8FEB86659FD93  # M


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
        alike: list[list[int]] = [now[k] for k in near[r].tolist() if k >= 0] if near is not None else []
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


class _Class(NamedTuple):
    """What both ends know of one class of a row before its train is coded; names as in section 5.4."""

    c: int
    g: int
    p: int
    n: int
    gs: int
    ps: int
    ns: int
    gp: int
    near: list[int]  # its trains in the near rows
    spikes: int
    alike: int
    score: int  # |g_c| + |p_c|, by which classes are visited


class _Row(NamedTuple):
    """What both ends know of a whole row; names as in section 5.4."""

    classes: int
    steps: int
    g_top: int
    p_top: int
    n_top: int


class _Visited:
    """What the classes of a row that were visited so far have shown; names as in section 5.4."""

    def __init__(self, row: _Row, remain: int) -> None:
        self.steps = row.steps
        self.remain = remain
        self.fired = 0
        self.full = False
        self.surprises = 0
        self.best = 0
        self.top = row.classes
        self.any = 0  # steps at which one of them fired, as a train

    @property
    def strength(self) -> int:
        best = self.best
        return 0 if best == 0 else 1 if best <= 2 else 2 if best <= self.steps // 2 else 3 if best < self.steps else 4

    @property
    def state(self) -> int:
        return 3 * (2 * min(self.fired, 3) + self.full) + min(self.remain, 2)

    def add(self, known: _Class, train: int) -> None:
        """One more, with its train."""
        self.remain -= known.score > 0
        self.surprises += (train == 0) != (known.g == 0)
        if not train:
            return
        self.fired += 1
        self.full = self.full or train == (1 << self.steps) - 1
        self.any |= train
        if train.bit_count() > self.best:
            self.best = train.bit_count()
            self.top = known.c


def _row(
    coder: Coder, now: list[int], g_row: list[int] | None, p_row: list[int] | None, near_rows: list[list[int]],
    classes: int, steps: int,
) -> None:  # fmt: skip
    """One row: its classes, the likely ones first.

    Args:
        coder: codes the decisions.
        now: the row's trains; those decoded are put there.
        g_row, p_row: the row's trains in ``global`` and ``previous``, None where there is none.
        near_rows: trains of the near rows, nearest first.
        classes, steps: C and T.
    """
    known = [_known(c, g_row, p_row, near_rows, steps) for c in range(classes)]
    g_top = _top([each.g.bit_count() for each in known])
    p_top = _top([each.p.bit_count() for each in known])
    row = _Row(classes, steps, g_top, p_top, _top([each.spikes for each in known]))
    visited = _Visited(row, remain=sum(each.score > 0 for each in known))
    for j, each in enumerate(sorted(known, key=lambda each: -each.score)):
        now[each.c] = _train(coder, now[each.c], each, row, visited, j)
        visited.add(each, now[each.c])


def _known(c: int, g_row: list[int] | None, p_row: list[int] | None, near_rows: list[list[int]], steps: int) -> _Class:
    """What is known of class ``c``; arguments as of `_row`."""
    g = g_row[c] if g_row is not None else 0
    p = p_row[c] if p_row is not None else 0
    near = [row[c] for row in near_rows]
    n = near[0] if near else 0
    gs = _shape_of(g, steps) if g_row is not None else 5
    ps = _shape_of(p, steps) if p_row is not None else 5
    ns = _shape_of(n, steps) if near else 5
    spikes = sum(train.bit_count() for train in near)
    alike = sum(train != 0 for train in near)
    return _Class(c, g, p, n, gs, ps, ns, 6 * gs + ps, near, spikes, alike, score=g.bit_count() + p.bit_count())


def _train(coder: Coder, actual: int, known: _Class, row: _Row, visited: _Visited, j: int) -> int:
    """One train, by at most three kinds of decision; ``actual`` is not looked at when decoding."""
    gp = known.gp
    state = visited.state
    if coder.decide(SILENT, _silent_keys(known, row, visited, j), gp, state, int(actual == 0)):
        return 0
    full = (1 << row.steps) - 1
    if row.steps == 1 or coder.decide(FULL, _full_keys(known, visited, state), gp, state, int(actual == full)):
        return full  # not silent at T = 1: full
    return _bits(coder, actual, known, row.steps, visited.any)


def _silent_keys(known: _Class, row: _Row, visited: _Visited, j: int) -> tuple[int, ...]:
    """Contexts of kind 0."""
    c, gp, alike = known.c, known.gp, known.alike
    w = row.classes + 1
    return (
        gp,
        36 * c + gp,
        5 * gp + visited.strength,
        4 * (16 * gp + min(j, 15)) + min(visited.fired, 3),
        6 * (c * w + row.g_top) + known.ps,
        6 * (c * w + row.p_top) + known.gs,
        36 * (c * w + visited.top) + gp,
        36 * (c * w + row.n_top) + gp,
        6 * (6 * gp + known.ns) + alike,
        512 * (6 * c + alike) + known.spikes,
    )


def _full_keys(known: _Class, visited: _Visited, state: int) -> tuple[int, ...]:
    """Contexts of kind 1."""
    gp = known.gp
    return (
        gp,
        36 * known.c + gp,
        4 * (5 * gp + visited.strength) + min(visited.surprises, 3),
        6 * (6 * gp + known.ns) + known.alike,
        24 * known.spikes + state,
    )


class _Bits:
    """The bits of a train coded so far; names as in section 5.4."""

    def __init__(self, known: _Class) -> None:
        self.node = 1
        self.count = 0
        self.mg = int(known.g != 0)
        self.mp = int(known.p != 0)

    def add(self, bit: int, gb: int, pb: int) -> None:
        """One more, and what ``global`` and ``previous`` have there."""
        self.node = 2 * self.node + bit
        self.count += bit
        self.mg &= bit == gb
        self.mp &= bit == pb


def _bits(coder: Coder, actual: int, known: _Class, steps: int, any_: int) -> int:
    """The bits of a train that is neither silent nor full, first time step first."""
    bits = _Bits(known)
    for t in range(steps):
        shift = steps - 1 - t
        if shift == 0 and bits.count in (0, steps - 1):  # 1 after nothing but 0, 0 after nothing but 1
            bits.node = 2 * bits.node + (bits.count == 0)
            break
        keys = _bit_keys(known, bits, t, shift, any_ >> shift & 1)
        bit = coder.decide(BIT, keys, 4 * t + 2 * bits.mg + bits.mp, known.gp, actual >> shift & 1)
        bits.add(bit, known.g >> shift & 1, known.p >> shift & 1)
    return bits.node & ((1 << steps) - 1)


def _bit_keys(known: _Class, bits: _Bits, t: int, shift: int, any_: int) -> tuple[int, ...]:
    """Contexts of kind 2 at step ``t``, which is the bit ``shift``; ``any_``: whether a visited class fired then."""
    g = known.g
    gb = g >> shift & 1
    pb = known.p >> shift & 1
    nb = known.n >> shift & 1
    node, mg, mp = bits.node, bits.mg, bits.mp
    last = node & 7
    around = 4 * (g >> shift + 1 & 1 if t else 0) + 2 * gb + (g >> shift - 1 & 1 if shift else 0)
    votes = sum(train >> shift & 1 for train in known.near)
    return (
        8 * (6 * (2 * around + mg) + known.gs) + last,
        36 * (4 * (2 * gb + pb) + 2 * mg + mp) + known.gp,
        256 * t + (node & 255),
        _MIX * g + (node & _WORD),
        4 * (4 * (64 * known.c + t) + min(bits.count, 3)) + (last & 3),
        4 * (8 * (2 * (2 * gb + pb) + any_) + last) + 2 * mp + mg,
        4 * (64 * (4 * (2 * (6 * known.ns + votes) + nb) + 2 * gb + pb) + t) + (last & 3),
        64 * (8 * known.spikes + last) + t,
        _MIX * known.n + (node & _WORD),
    )
