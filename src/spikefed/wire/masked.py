"""Masked votes of secure aggregation (`spikefed.privacy`): numbers mod 2^b that only their sum over clients explains.

Payload of codec ``ring``: one byte b, then N*C*T + 1 numbers of b bits each, most significant bit first, without gaps.
The last number is the client's vote weight, masked like the rest; the header's accuracy is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.header import MAX_HEADER_BYTES, Header
from spikefed.wire.messages import Message, check_common, check_id, register_builder
from spikefed.wire.plan import SLACK_BYTES, Plan

MAX_BITS = 32
_CHUNK = 1 << 20  # numbers unpacked at a time: bits take a byte each meanwhile


@dataclass(frozen=True, eq=False)
class MaskedVotes:
    """values: unsigned integers [N*C*T + 1], all below 2^bits; bits: b in 1..32."""

    values: np.ndarray
    bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers at b bits each: what a plain packing takes."""
        return (self.values.size * self.bits + 7) // 8

    def tolist(self) -> list[int]:
        return self.values.tolist()


def masked_plan(*, round: int, client: int | None, shape: tuple[int, int, int], public_set_id: bytes) -> Plan:
    """A plan for masked votes on spikes [N, C, T].

    Args:
        round: its number, from 1.
        client: who sends or receives; None: a broadcast.
        shape: of the content, in the axes that the kind has.
        public_set_id: 32 bytes that name the public set.
    """
    limit = MAX_HEADER_BYTES + SLACK_BYTES + (math.prod(shape) + 1) * MAX_BITS // 8
    return Plan("masked-votes", "up", round, shape, bytes(public_set_id), client, max_packet_bytes=limit)


@dataclass(frozen=True, eq=False)
class MaskedVoteUplink(Message):
    """One client's votes on the public rows under its masks. ``shape`` is that of the votes, [N, C, T]."""

    round: int
    client: int
    votes: MaskedVotes
    shape: tuple[int, int, int]
    public_set_id: bytes
    accuracy: float = 0.0  # not told: accuracies weigh the votes before they are masked
    kind = "masked-votes"
    direction = "up"
    default_codec = "ring"

    @property
    def content(self) -> MaskedVotes:
        return self.votes

    def plan(self) -> Plan:
        return masked_plan(round=self.round, client=self.client, shape=self.shape, public_set_id=self.public_set_id)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public_set_id", check_id(self.public_set_id))
        if not 1 <= self.votes.bits <= MAX_BITS or self.votes.values.shape != (math.prod(self.shape) + 1,):
            raise PacketError("votes", f"{self.votes.values.shape} numbers of {self.votes.bits} bits for {self.shape}")
        check_common(self)


def pack_ring(values: np.ndarray, bits: int) -> bytes:
    """Numbers below 2^bits at ``bits`` bits each, most significant bit first. ``values`` is flat."""
    if bits == 8:
        return values.astype(np.uint8).tobytes()
    places = np.arange(bits - 1, -1, -1, dtype=np.uint32)
    parts: list[bytes] = []
    for start in range(0, values.size, _CHUNK):  # a multiple of 8 numbers: whole bytes
        chunk = values[start : start + _CHUNK].astype(np.uint32)
        parts.append(np.packbits((chunk[:, None] >> places & 1).astype(np.uint8)).tobytes())
    return b"".join(parts)


def unpack_ring(payload: memoryview, count: int, bits: int) -> np.ndarray:
    """Inverse of ``pack_ring``: uint8, uint16 or uint32 [count]. Raises PacketError on a wrong length."""
    if len(payload) != (count * bits + 7) // 8:
        raise PacketError("payload", f"{len(payload)} bytes where {count} numbers of {bits} bits need another number")
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)
    packed = np.frombuffer(payload, dtype=np.uint8)
    spare = -count * bits % 8
    if spare and packed[-1] & ((1 << spare) - 1):
        raise PacketError("payload", "padding bits after the last number are not zero")
    values = np.empty(count, dtype=dtype)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        flags = np.unpackbits(packed[start * bits // 8 : -(-(start + size) * bits // 8)], count=size * bits)
        chunk = np.zeros(size, dtype=dtype)
        for place in range(bits):
            chunk = chunk << dtype.type(1) | flags[place::bits]
        values[start : start + size] = chunk
    return values


class Ring(Codec):
    """Votes under a mask: uniform in the ring of 2^b, so b bits each."""

    name = "ring"
    number = 48
    kind = "masked-votes"
    description = "masked votes, b bits each: uniform, so nothing can make them shorter"

    def encode(
        self, content: MaskedVotes, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, None]:
        return bytes((content.bits,)) + pack_ring(content.values, content.bits), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[MaskedVotes, None]:
        bits = payload[0] if len(payload) else 0
        if not 1 <= bits <= MAX_BITS:
            raise PacketError("payload", f"votes of {bits} bits")
        return MaskedVotes(unpack_ring(payload[1:], math.prod(plan.shape) + 1, bits), bits), None


register(Ring())


def _uplink(header: Header, content: MaskedVotes, plan: Plan) -> MaskedVoteUplink:
    shape = cast(tuple[int, int, int], tuple(header.shape))
    return MaskedVoteUplink(header.round, header.client, content, shape, plan.content_id)


register_builder("masked-votes", _uplink)
