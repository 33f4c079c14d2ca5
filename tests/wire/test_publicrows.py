"""The note before a downlink: round trip, and every way in which it can be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from spikefed.errors import PacketError
from spikefed.wire.publicrows import OVERHEAD_BYTES, RowsNote, attach, split

SHAPE = (5, 1, 4, 3)
IMAGES = np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8)


def note(images: np.ndarray | None = None, before: np.ndarray | None = None) -> RowsNote:
    return RowsNote(7, 3, bytes(range(32)), bytes(range(32, 64)), images, before)


@pytest.mark.parametrize("downlink", [None, b"", b"packet"])
@pytest.mark.parametrize(("images", "before"), [(None, None), (IMAGES, None), (IMAGES, IMAGES[::-1])])
def test_round_trip(downlink: bytes | None, images: np.ndarray | None, before: np.ndarray | None) -> None:
    data = attach(note(images, before), downlink)
    found, rest = split(data, SHAPE, 7)
    assert rest == downlink
    assert (found.round, found.renewal, found.rows, found.told) == (7, 3, note().rows, note().told)
    for came, sent in ((found.images, images), (found.before, before)):
        assert (came is None and sent is None) or np.array_equal(came, sent)
    if images is None:
        assert len(data) == OVERHEAD_BYTES + len(downlink or b"")


def test_what_is_wrong_is_refused_by_name() -> None:
    whole = attach(note(IMAGES), b"packet")
    for size in (0, 10, OVERHEAD_BYTES, OVERHEAD_BYTES + 5):
        with pytest.raises(PacketError, match="public rows"):
            split(whole[:size], SHAPE, 7)
    for place in range(OVERHEAD_BYTES + 20):
        spoilt = bytearray(whole)
        spoilt[place] ^= 4
        with pytest.raises(PacketError):
            split(bytes(spoilt), SHAPE, 7)
    with pytest.raises(PacketError, match="round 7, expected 8"):
        split(whole, SHAPE, 8)
    with pytest.raises(PacketError, match="they are not 6 images of 1x4x3"):
        split(whole, (6, 1, 4, 3), 7)
