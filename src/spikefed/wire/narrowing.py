"""What a codec remembers of all public rows, cut to the share that a message speaks of, and put together again."""

from __future__ import annotations

import numpy as np

from spikefed.wire.codec import Memory, SideInfo
from spikefed.wire.packed import PackedSpikes, packed_bytes
from spikefed.wire.share import Share


def fitting(memory: Memory | None, shape: tuple[int, int, int]) -> Memory | None:
    """The memory, unless its spikes are of another size (a public set that changed between rounds)."""
    if memory is None or "previous" not in memory.shared or memory.shared["previous"].size != packed_bytes(shape):
        return None
    return memory


def narrow(
    share: Share, memory: Memory | None, side: SideInfo | None, inner: tuple[int, int]
) -> tuple[Memory | None, SideInfo | None]:
    """Memory and side information of a share of the rows; a row that never travelled counts as its global spikes.

    Args:
        memory, side: of all rows.
        inner: shape of one row's trains.
    """
    packed = None if side is None or side.packed is None else share.of(side.packed, inner)
    near = None if side is None or side.near is None else share.alike(side.near)
    if memory is not None:
        previous = share.of(memory.shared["previous"], inner)
        if packed is not None:
            shape = (len(share.rows), *inner)
            trains = [PackedSpikes(bits, shape).unpack() for bits in (previous, packed)]
            previous = PackedSpikes.of(np.where(_known(memory, share)[share.rows, None, None], *trains)).bits
        memory = Memory({**memory.shared, "previous": previous})
    return memory, None if packed is None and near is None else SideInfo(packed, near)


def widen(share: Share, new: Memory, old: Memory | None, inner: tuple[int, int]) -> Memory:
    """The memory of all rows once a share has been coded: older trains elsewhere, silent where none travelled.

    Args:
        new: what coding the share left.
        old: what was remembered of all rows before.
        inner: shape of one row's trains.
    """
    full = np.zeros((share.total, *inner), dtype=np.uint8)
    known = np.zeros(share.total, dtype=bool)
    if old is not None:
        full = PackedSpikes(old.shared["previous"], full.shape).unpack()
        known = _known(old, share)
    full[share.rows] = PackedSpikes(new.shared["previous"], (len(share.rows), *inner)).unpack()
    known[share.rows] = True
    return Memory({**new.shared, "previous": PackedSpikes.of(full).bits, "known": np.packbits(known)})


def _known(memory: Memory, share: Share) -> np.ndarray:
    """bool [total]: rows that have travelled; all of them after a message that knew no share."""
    if "known" not in memory.shared:
        return np.ones(share.total, dtype=bool)
    return np.unpackbits(memory.shared["known"], count=share.total).astype(bool)
