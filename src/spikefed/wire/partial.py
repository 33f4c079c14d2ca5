"""Partial payloads: rows that changed or are uncertain, the first steps only, labels only where confident.

Kind ``"partial-spikes"`` sends a row mask and the trains of its rows; the receiver fills the others from what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.context import decode_packed, decode_share, encode_packed, encode_share
from spikefed.wire.packed import PackedSpikes, packed_bytes
from spikefed.wire.plan import Plan
from spikefed.wire.rows import MISSING
from spikefed.wire.share import Share
from spikefed.wire.varint import Cursor, varint


@dataclass(frozen=True, eq=False)
class PartialSpikes:
    """rows: bool [N], which rows are sent; spikes: uint8 [N, C, T], silent in rows that are not."""

    rows: np.ndarray
    spikes: np.ndarray

    def fill(self, known: np.ndarray) -> np.ndarray:
        """The sent rows, and ``known`` [N, C, T] elsewhere (the client's last upload, or the global spikes)."""
        return np.where(self.rows[:, None, None], self.spikes, known).astype(np.uint8)


def select_rows(spikes: np.ndarray, rows: np.ndarray) -> PartialSpikes:
    """Send only these rows. ``spikes`` is ``[N, C, T]``, ``rows`` ``[M]``."""
    rows = np.asarray(rows, dtype=bool)
    return PartialSpikes(rows, np.where(rows[:, None, None], spikes, 0).astype(np.uint8))


def changed_rows(spikes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """bool [N]: rows whose predicted class (most spikes, then the smaller class) is not that of ``known``."""
    return spikes.sum(axis=2).argmax(axis=1) != known.sum(axis=2).argmax(axis=1)


def uncertain_rows(spikes: np.ndarray, margin: int) -> np.ndarray:
    """bool [N]: rows in which the two most active classes differ by less than ``margin`` spikes."""
    return lead(spikes) < margin


def confident_labels(spikes: np.ndarray, margin: int) -> np.ndarray:
    """int32 [N]: the predicted class where it leads by at least ``margin`` spikes, else ``MISSING`` (-1)."""
    labels = spikes.sum(axis=2).argmax(axis=1).astype(np.int32)
    return np.where(lead(spikes) >= margin, labels, MISSING).astype(np.int32)


def first_steps(spikes: np.ndarray, steps: int) -> np.ndarray:
    """Only the first ``steps`` time steps, [N, C, steps]; the plan must say so."""
    return np.ascontiguousarray(spikes[:, :, :steps])


def lead(spikes: np.ndarray) -> np.ndarray:
    """Lead of the most active class of ``[N, C, T]`` over the next, in spikes or votes; float64 ``[N]``."""
    counts = np.sort(spikes.sum(axis=2, dtype=np.float64), axis=1)
    return counts[:, -1] - (counts[:, -2] if counts.shape[1] > 1 else 0)


class ContextPartial(Codec):
    """Length of the coded mask (varint), the mask coded as trains [N, 1, 1], the sent rows coded as spikes."""

    name = "context"
    number = 36
    kind = "partial-spikes"
    description = "row mask and the trains of its rows, entropy-coded"
    uses_side = True

    def side_bits(self, kind: str, content: Any, plan: Plan) -> np.ndarray | None:
        return content.bits if kind == "spikes" else None

    def side_size(self, plan: Plan) -> int:
        return packed_bytes(plan.shape)

    def encode(
        self, content: PartialSpikes, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory | None]:
        n = plan.shape[0]
        mask, _ = encode_packed(np.packbits(content.rows), (n, 1, 1))
        share = Share(np.flatnonzero(content.rows), n)
        sent = PackedSpikes.of(content.spikes[share.rows])
        coded, new = encode_share(sent.bits, sent.shape, share, memory, side)
        return varint(len(mask), "payload") + mask + coded, new

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[PartialSpikes, Memory | None]:
        n, c, t = plan.shape
        cursor = Cursor(payload)
        size = cursor.varint("payload")
        if size > len(payload) - cursor.at:
            raise PacketError("payload", f"row mask of {size} bytes in {len(payload)}")
        head = cursor.at
        end = cursor.at + size
        packed, _ = decode_packed(payload[head:end], (n, 1, 1))
        mask = np.unpackbits(packed, count=n).astype(bool)
        share = Share(np.flatnonzero(mask), n)
        shape = (len(share.rows), c, t)
        sent, new = decode_share(payload[end:], shape, share, memory, side)
        spikes = np.zeros((n, c, t), dtype=np.uint8)
        spikes[mask] = PackedSpikes(sent, shape).unpack()
        return PartialSpikes(mask, spikes), new


register(ContextPartial())
