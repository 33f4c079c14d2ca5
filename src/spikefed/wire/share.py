"""A share of the public set's rows, which both ends know before a message about it comes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.packed import PackedSpikes


@dataclass(frozen=True, eq=False)
class Share:
    """The public rows that a message speaks of.

    Attributes:
        rows: int64 [n], ascending, each in [0, total).
        total: rows of the public set.

    Raises:
        PacketError: rows that are not such.
    """

    rows: np.ndarray
    total: int

    def __post_init__(self) -> None:
        rows = np.asarray(self.rows, dtype=np.int64)
        if rows.ndim != 1 or (rows.size and (rows[0] < 0 or rows[-1] >= self.total or (np.diff(rows) <= 0).any())):
            raise PacketError("rows", f"need ascending row numbers below {self.total}")
        object.__setattr__(self, "rows", rows)

    def of(self, packed: np.ndarray, inner: tuple[int, int]) -> np.ndarray:
        """Algorithm 2 bits of these rows, from those of all rows; ``inner`` is the shape of one row's trains."""
        return PackedSpikes.of(PackedSpikes(packed, (self.total, *inner)).unpack()[self.rows]).bits

    def alike(self, near: np.ndarray) -> np.ndarray:
        """``nearest_rows`` of these rows as places in the share, int32 [n, 5]; rows outside it are left out."""
        place = np.full(self.total + 1, -1, dtype=np.int32)  # the last entry is for -1
        place[self.rows] = np.arange(len(self.rows), dtype=np.int32)
        inside = place[near[self.rows]]
        order = np.argsort(inside < 0, axis=1, kind="stable")
        return np.ascontiguousarray(np.take_along_axis(inside, order, axis=1))
