"""What stands before a downlink where public rows change during a run: their hashes, and the rows where they travel.

    magic "SFR"  version u8  flags u8  round u32  renewal u32  hash of the rows 32 B  hash of those told of 32 B
    length u32 of the first block  length u32 of the second  CRC-32 of all before it and of the blocks
    block of the rows  block of those told of  the downlink

Little endian. A block is the rows' bytes ``[P, C, H, W]`` by zstd, or nothing where the receiver has them or makes them
itself. Lengths are checked before memory is given, rows against the hash that they came with.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from math import prod

import numpy as np
import zstandard

from spikefed.errors import PacketError
from spikefed.wire.inflate import inflated

MAGIC = b"SFR"
VERSION = 1
_HEAD = struct.Struct("<3sBBII32s32sII")
_CRC = struct.Struct("<I")
_HAS_DOWNLINK = 1
OVERHEAD_BYTES = _HEAD.size + _CRC.size


@dataclass(frozen=True, eq=False)
class RowsNote:
    """Which public rows a round is about.

    Attributes:
        round: its number, from 1.
        renewal: how often rows were made anew so far.
        rows: SHA-256 of the rows that uploads of this round speak of.
        told: SHA-256 of those that the downlink speaks of.
        images: the first ones, uint8 ``[P, C, H, W]``; None: they do not travel.
        before: the second ones, likewise.
    """

    round: int
    renewal: int
    rows: bytes
    told: bytes
    images: np.ndarray | None = None
    before: np.ndarray | None = None


def attach(note: RowsNote, downlink: bytes | None) -> bytes:
    """The note, then the downlink."""
    blocks = [_block(note.images), _block(note.before)]
    head = _HEAD.pack(
        MAGIC, VERSION, _HAS_DOWNLINK * (downlink is not None), note.round, note.renewal, note.rows, note.told,
        *map(len, blocks),
    )  # fmt: skip
    crc = zlib.crc32(blocks[1], zlib.crc32(blocks[0], zlib.crc32(head)))
    return b"".join((head, _CRC.pack(crc), *blocks, downlink or b""))


def split(data: bytes, shape: tuple[int, int, int, int], round: int) -> tuple[RowsNote, bytes | None]:
    """Inverse of `attach`.

    Args:
        data: what came.
        shape: ``(P, C, H, W)`` that rows must have.
        round: that the note must be of.

    Raises:
        PacketError: anything else than such a note; no memory is given on its word.
    """
    if len(data) < OVERHEAD_BYTES:
        raise PacketError("public rows", f"{len(data)} bytes say nothing of this round's public rows")
    magic, version, flags, got, renewal, rows, told, first, second = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise PacketError("public rows", "the note on them is of another version; install the same spikefed everywhere")
    end = OVERHEAD_BYTES + first + second
    if len(data) < end:
        raise PacketError("public rows", "the message is cut within them")
    crc = zlib.crc32(data[OVERHEAD_BYTES:end], zlib.crc32(data[: _HEAD.size]))
    if crc != _CRC.unpack_from(data, _HEAD.size)[0]:
        raise PacketError("crc", "checksum of the public rows differs: they were altered on their way")
    if got != round:
        raise PacketError("round", f"public rows of round {got}, expected {round}")
    middle = OVERHEAD_BYTES + first
    images = _rows(data[OVERHEAD_BYTES:middle], shape)
    note = RowsNote(got, renewal, rows, told, images, _rows(data[middle:end], shape))
    return note, data[end:] if flags & _HAS_DOWNLINK else None


def _block(images: np.ndarray | None) -> bytes:
    return b"" if images is None else zstandard.ZstdCompressor(level=9).compress(np.ascontiguousarray(images).tobytes())


def _rows(block: bytes, shape: tuple[int, int, int, int]) -> np.ndarray | None:
    if not block:
        return None
    due = f"they are not {shape[0]} images of {shape[1]}x{shape[2]}x{shape[3]}"
    whole = inflated(block, prod(shape), "public rows", due)
    return np.frombuffer(whole, dtype=np.uint8).reshape(shape).copy()
