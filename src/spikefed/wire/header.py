"""The one binary header of every packet (docs/wire-format.md, section 2): 27 to 31 bytes for a spike uplink."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from spikefed.errors import PacketError
from spikefed.wire.varint import Cursor, varint

MAGIC = b"SF"
VERSION = 2
EVERYONE = 0xFFFFFFFF  # client of a message that is for, or from, nobody in particular; travels as 0
ID_BYTES = 8  # of a SHA-256: the chance that two public sets or networks share them by accident is 2^-64
NO_REFERENCE = bytes(8)
HOLDS_NOTHING = bytes(4)

DIRECTIONS = ("up", "down")
KINDS = (
    "", "spikes", "weights", "labels", "counts", "probabilities", "class-means", "partial-spikes", "hint-spikes",
    "masked-votes", "selected-weights",
)  # fmt: skip
WEIGHT_KINDS = ("weights", "selected-weights")
# Sizes at the end of a shape that are the same in every message of the kind, and so never travel.
FIXED_AXES = {"weights": (0, 0), "selected-weights": (0, 0), "labels": (1,), "probabilities": (0,), "class-means": (0,)}
_AXES = {kind: (4 if kind == "hint-spikes" else 3) - len(FIXED_AXES.get(kind, ())) for kind in KINDS}

_CRC = struct.Struct("<I")
_ACCURACY = struct.Struct("<f")
_START = len(MAGIC) + 1 + _CRC.size  # what follows is what the CRC covers
_HAS_REFERENCE = 2
_HAS_HOLDS = 4
_KIND_SHIFT = 3  # flags beside the direction in bit 0
MAX_HEADER_BYTES = _START + 2 + 5 + 5 + 4 * 5 + ID_BYTES + len(HOLDS_NOTHING) + 5 + _ACCURACY.size


@dataclass(frozen=True)
class Header:
    """The header's fields, already checked for magic, version and CRC.

    Attributes:
        codec: number of the codec (registry), [0, 255].
        kind: name out of ``KINDS``.
        direction: ``"up"`` (client to server) or ``"down"``.
        round: global round, from 1.
        client: index of the sender (up) or of the receiver (down); ``EVERYONE`` for a broadcast.
        shape: (N, C, T); N rows, C classes, T time steps; 0 where a kind has no such axis. (N, C, T, H) with a hint.
        content_id: first 8 bytes of the SHA-256 of the public set, or of the tensor table for weights; empty when read
            from a packet with a reference, which is made of it.
        reference: 8 bytes naming what the payload was coded against; zeros = nothing (an intra packet).
        holds: first 4 bytes of the id of the newest state the sender holds of the other direction; zeros = none.
        samples: training samples behind weights that go up; 0 elsewhere.
        accuracy: validation accuracy of an uplink, [0, 1], float32; 0 elsewhere.
    """

    codec: int
    kind: str
    direction: str
    round: int
    client: int
    shape: tuple[int, ...]
    content_id: bytes
    reference: bytes = NO_REFERENCE
    holds: bytes = HOLDS_NOTHING
    samples: int = 0
    accuracy: float = 0.0


def pack(header: Header, payload: bytes) -> bytes:
    """Return header + payload as one packet. Raises PacketError when a field does not fit its place."""
    axes = _AXES[header.kind]
    fixed = FIXED_AXES.get(header.kind, ())
    if len(header.shape) != axes + len(fixed) or header.shape[axes:] != fixed:
        raise PacketError("shape", f"{header.shape} is no shape of {header.kind}")
    has_reference = header.reference != NO_REFERENCE
    has_holds = header.holds != HOLDS_NOTHING
    flags = KINDS.index(header.kind) << _KIND_SHIFT | DIRECTIONS.index(header.direction)
    flags |= _HAS_REFERENCE * has_reference | _HAS_HOLDS * has_holds
    up = header.direction == "up"
    body = b"".join((
        bytes((header.codec, flags)),
        varint(header.round, "round"),
        varint(0 if header.client == EVERYONE else header.client + 1, "client"),
        *(varint(size, "shape") for size in header.shape[:axes]),
        header.reference if has_reference else header.content_id[:ID_BYTES],  # a reference names the content too
        header.holds if has_holds else b"",
        varint(header.samples, "samples") if up and header.kind in WEIGHT_KINDS else b"",
        _ACCURACY.pack(header.accuracy) if up else b"",
    ))  # fmt: skip
    crc = zlib.crc32(payload, zlib.crc32(body))
    return b"".join((MAGIC, bytes((VERSION,)), _CRC.pack(crc), body, payload))


def _checked(data: bytes | bytearray | memoryview) -> memoryview:
    """What follows the checksum, once magic, version and checksum are found right."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise PacketError("packet", f"expected bytes, got {type(data).__name__}")
    view = memoryview(data)
    if not view.c_contiguous:
        raise PacketError("packet", "a view with gaps; give the bytes themselves")
    if view.nbytes < _START + 2:
        raise PacketError("length", f"{view.nbytes} bytes cannot hold a header")
    view = view.cast("B")
    if view[: len(MAGIC)] != MAGIC:
        raise PacketError("magic", f"{bytes(view[: len(MAGIC)])!r} is not {MAGIC!r}: this is no spikefed packet")
    if view[len(MAGIC)] != VERSION:
        raise PacketError("version", f"{view[len(MAGIC)]}; this release reads version {VERSION}")
    body = view[_START:]
    if _CRC.unpack_from(view, _START - _CRC.size)[0] != zlib.crc32(body):
        raise PacketError("crc", "checksum differs: the packet was altered or cut on its way")
    return body


def unpack(data: bytes | bytearray | memoryview) -> tuple[Header, memoryview]:
    """Split a packet into its header and a view of its payload; checks magic, version, CRC and names."""
    body = _checked(data)
    codec = body[0]
    flags = body[1]
    if not 0 < flags >> _KIND_SHIFT < len(KINDS):
        raise PacketError("kind", f"unknown kind number {flags >> _KIND_SHIFT}")
    kind = KINDS[flags >> _KIND_SHIFT]
    direction = DIRECTIONS[flags & 1]
    cursor = Cursor(body, 2)
    round_ = cursor.varint("round")
    client = cursor.varint("client")
    shape = tuple(cursor.varint("shape") for _ in range(_AXES[kind]))
    content_id = b""
    reference = NO_REFERENCE
    if flags & _HAS_REFERENCE:
        reference = cursor.take(len(NO_REFERENCE), "reference")
    else:
        content_id = cursor.take(ID_BYTES, "content id")
    holds = cursor.take(len(HOLDS_NOTHING), "holds") if flags & _HAS_HOLDS else HOLDS_NOTHING
    for name, value, flag in (("reference", reference, _HAS_REFERENCE), ("holds", holds, _HAS_HOLDS)):
        if flags & flag and not any(value):
            raise PacketError(name, "zeros, which stand for none, are left out")
    up = direction == "up"
    samples = cursor.varint("samples") if up and kind in WEIGHT_KINDS else 0
    accuracy = _ACCURACY.unpack(cursor.take(_ACCURACY.size, "accuracy"))[0] if up else 0.0
    header = Header(
        codec, kind, direction, round_, EVERYONE if client == 0 else client - 1, shape + FIXED_AXES.get(kind, ()),
        content_id, reference, holds, samples, accuracy,
    )  # fmt: skip
    return header, body[cursor.at :]
