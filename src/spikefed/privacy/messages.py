"""The small messages around a masked upload. Little endian, fixed sizes, a CRC, and every length checked before use.

    magic "SFK"  version u8  stage u8  round u32  client u32  entries u16  entries...  CRC-32

An entry is a client number (u32) and what the stage says of it; the wire format of the masked votes themselves is
`spikefed.wire.masked`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from spikefed.errors import PacketError
from spikefed.privacy.masks import KEY_BYTES, TAG_BYTES
from spikefed.privacy.shamir import SHARE_BYTES

_HEAD = struct.Struct("<3sBBIIH")
_CRC = struct.Struct("<I")
_CLIENT = struct.Struct("<I")
MAGIC = b"SFK"
VERSION = 1

STAGES = {
    # client -> server: own two public keys and the SHA-256 of the own mask's seed
    "keys": 2 * KEY_BYTES + 32,
    # server -> client: the same of everybody in the round
    "roster": 2 * KEY_BYTES + 32,
    # client -> server -> client: shares of the mask key and of the own mask's seed, sealed for one other client
    "shares": 2 * SHARE_BYTES + TAG_BYTES,
    # server -> client: who is in the sum (1) and who dropped out after sharing (0)
    "survivors": 1,
    # client -> server: one share a client, of the seed if it is in the sum, else of the key
    "reveal": SHARE_BYTES,
}
_NUMBERS = {stage: number for number, stage in enumerate(STAGES, start=1)}
OVERHEAD_BYTES = _HEAD.size + _CRC.size


def pack(stage: str, round: int, client: int, entries: Mapping[int, bytes]) -> bytes:
    """One message: ``entries`` maps client numbers to the stage's fixed number of bytes.

    Args:
        stage: of the protocol.
        round: its number, from 1.
        client: who sends.
        entries: bytes for or from each client.
    """
    size = STAGES[stage]
    assert all(len(value) == size for value in entries.values()), f"entries of '{stage}' have {size} bytes"
    body = b"".join(_CLIENT.pack(number) + entries[number] for number in sorted(entries))
    data = _HEAD.pack(MAGIC, VERSION, _NUMBERS[stage], round, client, len(entries)) + body
    return data + _CRC.pack(zlib.crc32(data))


def unpack(data: bytes, stage: str, round: int, client: int) -> dict[int, bytes]:
    """The entries of a message of this stage, round and client.

    Args:
        data: the message.
        stage: that it must be of.
        round: that it must be of.
        client: that it must be of.

    Raises:
        PacketError: anything else than that message; nothing is allocated on its word.
    """
    if len(data) < OVERHEAD_BYTES:
        raise PacketError("length", f"{len(data)} bytes are no '{stage}' message of secure aggregation")
    magic, version, number, got_round, got_client, count = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise PacketError("magic", "this is no message of secure aggregation, or one of another version")
    size = _CLIENT.size + STAGES[stage]
    if number != _NUMBERS[stage]:
        raise PacketError("stage", f"expected '{stage}', got number {number}")
    if len(data) != OVERHEAD_BYTES + count * size:
        raise PacketError("length", f"{len(data)} bytes where {count} entries of '{stage}' need another number")
    if _CRC.unpack_from(data, len(data) - _CRC.size)[0] != zlib.crc32(data[: -_CRC.size]):
        raise PacketError("crc", "checksum differs: the message was altered on its way")
    if (got_round, got_client) != (round, client):
        raise PacketError("round", f"round {got_round} of client {got_client}, expected {round} of {client}")
    entries: dict[int, bytes] = {}
    for start in range(_HEAD.size, len(data) - _CRC.size, size):
        (who,) = _CLIENT.unpack_from(data, start)
        if who in entries:
            raise PacketError("entries", f"client {who} stands in it twice")
        entries[who] = bytes(data[start + _CLIENT.size : start + size])
    return entries
