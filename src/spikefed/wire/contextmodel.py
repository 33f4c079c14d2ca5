"""Constants, tables and state of the model behind spike codec ``context`` (docs/wire-format.md, section 5).

Everything is integer: probabilities are 16-bit (p / 65536 that the bit is 1), their logistic domain ("stretch") counts
1/256 nat, mixing weights have 16 fractional bits. ``native/context.cpp`` and ``contexttwin.py`` hold the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Memory

LIMIT = 3071  # largest |stretch|, 12 nats
NEAR = 5  # earlier rows with alike images
TABLE_BITS = 12
INPUTS = (10, 5, 9)  # contexts of the three decisions: silent?, full?, bit
FIRST = (0, 10, 15)  # first table of each
TABLES = sum(INPUTS)
SETS_A = (0, 60, 120)
SETS_B = (36, 96, 376)
SETS = 412
STRIDE = 12
KEPT_COUNT = 12  # counts are cut to this between packets, so that the next round is learned quickly

# round(65536 / (1 + exp(-k/8))) for k = 0..96, between which squash interpolates. Listed: no exp() may decide a bit.
SIGMOID = (
    32768, 34813, 36843, 38841, 40793, 42687, 44511, 46254, 47911, 49474, 50941, 52310, 53581, 54754, 55834, 56822,
    57724, 58544, 59287, 59959, 60565, 61109, 61598, 62036, 62428, 62778, 63090, 63368, 63615, 63835, 64030, 64203,
    64357, 64494, 64614, 64721, 64816, 64900, 64974, 65039, 65097, 65149, 65194, 65234, 65269, 65300, 65328, 65352,
    65374, 65393, 65410, 65425, 65438, 65449, 65459, 65468, 65476, 65483, 65489, 65495, 65500, 65504, 65508, 65511,
    65514, 65517, 65519, 65521, 65523, 65524, 65526, 65527, 65528, 65529, 65530, 65530, 65531, 65532, 65532, 65533,
    65533, 65533, 65534, 65534, 65534, 65534, 65535, 65535, 65535, 65535, 65535, 65535, 65535, 65535, 65535, 65536,
    65536,
)  # fmt: skip


@cache
def squash_table() -> np.ndarray:
    """uint16 [6143]: probability of stretch x at index x + 3071."""
    knots = np.array([65536 - value for value in SIGMOID[:0:-1]] + list(SIGMOID), dtype=np.int64)
    x = np.arange(-LIMIT, LIMIT + 1) + 3072
    low = x >> 5
    part = x & 31
    values = (knots[low] * (32 - part) + knots[np.minimum(low + 1, 192)] * part + 16) >> 5
    return np.clip(values, 4, 65532).astype(np.uint16)


@cache
def stretch_table() -> np.ndarray:
    """int16 [4096]: the smallest x with squash(x) >= 16 i + 8, for the probability p with p >> 4 == i."""
    found = np.searchsorted(squash_table(), np.arange(4096) * 16 + 8)
    return (np.minimum(found, 2 * LIMIT) - LIMIT).astype(np.int16)


@dataclass
class ModelState:
    """What learns: counters (probability << 10 | count), mixing weights, and decisions coded so far by kind."""

    tables: np.ndarray  # uint32 [TABLES, 4096]
    weights: np.ndarray  # int32 [SETS, STRIDE]
    coded: np.ndarray  # int64 [3]

    @staticmethod
    def fresh() -> ModelState:
        weights = np.zeros((SETS, STRIDE), dtype=np.int32)
        for kind, end in enumerate((60, 120, SETS)):
            weights[SETS_A[kind] : end, : INPUTS[kind]] = 81920 // INPUTS[kind]  # they add up to 1.25
        return ModelState(np.zeros((TABLES, 1 << TABLE_BITS), dtype=np.uint32), weights, np.zeros(3, dtype=np.int64))

    @staticmethod
    def recall(memory: Memory | None) -> ModelState:
        """The state that ``arrays`` were made of. Raises PacketError for other shapes (a foreign checkpoint)."""
        if memory is None or "tables" not in memory.shared:
            return ModelState.fresh()
        kept, weights, coded = (memory.shared[name] for name in ("tables", "weights", "coded"))
        expected = ((TABLES, 1 << TABLE_BITS), np.uint16), ((SETS, STRIDE), np.int32), ((3,), np.int64)
        for array, (shape, dtype) in zip((kept, weights, coded), expected, strict=True):
            if array.shape != shape or array.dtype != dtype:
                raise PacketError("state", f"stored model has an array {array.dtype} {array.shape}, not {shape}")
        return ModelState(_recall_table()[kept], np.array(weights, order="C"), np.array(coded, order="C"))

    def arrays(self) -> dict[str, np.ndarray]:
        """The state between packets: 16 bits a counter (stretch / 2 in 12 bits, count in 4; 0 = never seen).

        Flat uint16 arrays.
        """
        count = np.minimum(self.tables & np.uint32(1023), np.uint32(KEPT_COUNT)).astype(np.uint16)
        kept = _keep_table()[self.tables >> np.uint32(20)] | count
        kept[count == 0] = 0
        return {"tables": kept, "weights": self.weights, "coded": self.coded}


@cache
def _keep_table() -> np.ndarray:
    """uint16 [4096]: what is kept of a probability, by its upper 12 bits."""
    return (((stretch_table().astype(np.int64) >> 1) + 2048) << 4).astype(np.uint16)


@cache
def _recall_table() -> np.ndarray:
    """uint32 [65536]: the counter a kept value stands for."""
    kept = np.arange(65536)
    x = np.clip(((kept >> 4) - 2048) * 2 + 1, -LIMIT, LIMIT)
    counters = squash_table()[x + LIMIT].astype(np.uint32) << np.uint32(16) | (kept & 15).astype(np.uint32)
    return np.where(kept & 15, counters, 0).astype(np.uint32)
