"""Compressed blocks of a size that is known beforehand."""

from __future__ import annotations

import zstandard

from spikefed.errors import PacketError

WINDOW_BYTES = 1 << 23


def inflated(block: memoryview | bytes, size: int, kind: str, due: str) -> bytes:
    """The ``size`` bytes that zstd made ``block`` of; nothing larger is ever allocated.

    Args:
        block: as it came.
        size: bytes that it must have.
        kind: of the error.
        due: what is wrong with a block that promises another size.

    Raises:
        PacketError: zstd cannot read it, or it promises or holds another size.
    """
    try:
        if zstandard.frame_content_size(block) != size:
            raise PacketError(kind, due)
        whole = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompress(
            block, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise PacketError(kind, f"zstd cannot read it ({error})") from None
    if len(whole) != size:
        raise PacketError(kind, f"{len(whole)} bytes where {size} are due")
    return whole
