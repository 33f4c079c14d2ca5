"""The one binary header that starts every packet: 84 bytes, little endian (docs/wire-format.md, section 2)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from spikefed.errors import PacketError

MAGIC = b"SPKF"
VERSION = 1
EVERYONE = 0xFFFFFFFF  # client field of a message that is for, or from, nobody in particular
NO_REFERENCE = bytes(8)
HOLDS_NOTHING = bytes(4)

DIRECTIONS = ("up", "down")
KINDS = ("", "spikes", "weights", "labels", "counts", "probabilities", "class-means", "partial-spikes")

# magic, version, codec, kind, direction, round, client, N, C, T, content id, reference, holds, payload bytes, samples,
# accuracy; then the CRC-32 of all that stands before it plus the payload.
_FIELDS = struct.Struct("<4sBBBBIIIHH32s8s4sIIf")
_CRC = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CRC.size


@dataclass(frozen=True)
class Header:
    """The header's fields, already checked for magic, version, length and CRC.

    Attributes:
        codec: number of the codec (registry), [0, 255].
        kind: name out of ``KINDS``.
        direction: ``"up"`` (client to server) or ``"down"``.
        round: global round, from 1.
        client: index of the sender (up) or of the receiver (down); ``EVERYONE`` for a broadcast.
        shape: (N, C, T); N rows, C classes, T time steps; 0 where a kind has no such axis.
        content_id: 32 bytes: SHA-256 of the public set, or of the tensor table for weights.
        reference: 8 bytes naming what the payload was coded against; zeros = nothing (an intra packet).
        holds: first 4 bytes of the id of the newest state the sender holds of the other direction; zeros = none.
        payload_bytes: length of the payload.
        samples: training samples behind weights; 0 elsewhere.
        accuracy: validation accuracy of an uplink, [0, 1], float32; 0 elsewhere.
    """

    codec: int
    kind: str
    direction: str
    round: int
    client: int
    shape: tuple[int, int, int]
    content_id: bytes
    reference: bytes = NO_REFERENCE
    holds: bytes = HOLDS_NOTHING
    payload_bytes: int = 0
    samples: int = 0
    accuracy: float = 0.0


def pack(header: Header, payload: bytes) -> bytes:
    """Return header + payload as one packet. Raises PacketError when a field does not fit its place."""
    try:
        fields = _FIELDS.pack(
            MAGIC, VERSION, header.codec, KINDS.index(header.kind), DIRECTIONS.index(header.direction),
            header.round, header.client, *header.shape, header.content_id, header.reference, header.holds,
            len(payload), header.samples, header.accuracy,
        )  # fmt: skip
    except (struct.error, ValueError, OverflowError) as error:
        raise PacketError("header", f"a value does not fit its field ({error}); see docs/wire-format.md") from error
    crc = zlib.crc32(payload, zlib.crc32(fields))
    return b"".join((fields, _CRC.pack(crc), payload))


def unpack(data: bytes | bytearray | memoryview) -> tuple[Header, memoryview]:
    """Split a packet into its header and a view of its payload; checks magic, version, names, length and CRC."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise PacketError("packet", f"expected bytes, got {type(data).__name__}")
    view = memoryview(data)
    if view.nbytes < HEADER_BYTES:
        raise PacketError("length", f"{view.nbytes} bytes cannot hold the header of {HEADER_BYTES}")
    view = view.cast("B")
    (magic, version, codec, kind, direction, round_, client, n, c, t, content_id, reference, holds, payload_bytes,
     samples, accuracy) = _FIELDS.unpack_from(view)  # fmt: skip
    if magic != MAGIC:
        raise PacketError("magic", f"{magic!r} is not {MAGIC!r}: this is no spikefed packet")
    if version != VERSION:
        raise PacketError("version", f"{version}; this release reads version {VERSION}")
    if payload_bytes != view.nbytes - HEADER_BYTES:
        raise PacketError("length", f"header says {payload_bytes} payload bytes, {view.nbytes - HEADER_BYTES} came")
    payload = view[HEADER_BYTES:]
    (crc,) = _CRC.unpack_from(view, _FIELDS.size)
    if crc != zlib.crc32(payload, zlib.crc32(view[: _FIELDS.size])):
        raise PacketError("crc", "checksum differs: the packet was altered or cut on its way")
    if not 0 < kind < len(KINDS):
        raise PacketError("kind", f"unknown kind number {kind}")
    if direction >= len(DIRECTIONS):
        raise PacketError("direction", f"unknown direction number {direction}")
    header = Header(
        codec, KINDS[kind], DIRECTIONS[direction], round_, client, (n, c, t), content_id, reference, holds,
        payload_bytes, samples, accuracy,
    )  # fmt: skip
    return header, payload
