"""The two ends of a link, which hold what codecs remember: ``ServerLink`` (all clients) and ``ClientLink`` (one).

How references work (docs/wire-format.md, section 4). A stream is one direction between the server and one client. Each
packet names by hash what it was coded against; each packet also says which state its sender holds of the other
direction. A sender codes only against a state the receiver said it holds, and a receiver keeps the state it was last
shown to be known for together with the newest one. So drops, duplicates and restarts need no rollback: the worst case
is a packet whose reference is missing, which is refused by name (field ``"reference"``) and asked for again as intra.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, SideInfo, by_number, codecs, find, reference_id
from spikefed.wire.header import HOLDS_NOTHING, NO_REFERENCE, pack
from spikefed.wire.ledger import Ledger, Record
from spikefed.wire.linkstate import by_client, pack_memories, unpack_memories
from spikefed.wire.measure import paper_bytes, text_bytes
from spikefed.wire.messages import Message, build_message, check_packet, decode_payload, header_of
from spikefed.wire.neighbours import check_near
from spikefed.wire.plan import Plan
from spikefed.wire.selected import check_follows

BROADCAST = -1  # index of the server's own sender of messages that every client reads alike


class Sender:
    """Sending half of one stream."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []  # at most two: what the receiver was known to hold, and what was sent last
        self.base: Memory | None = None  # what the receiver is known to hold
        self.heard = False  # whether the receiver has said so since the last message

    def own_state(self, codec: Codec, round: int) -> Memory | None:
        """What error feedback starts from: the last message's state, or what it was before if that message was lost.

        It was lost if the receiver has since said that it holds something else, and it is replaced if this is the same
        round again. Of two messages with no word from the receiver between them, the first counts as accepted.
        """
        if not self.memories:
            return None
        last = self.memories[-1]
        if int(last.shared["round"][0]) == round:
            return codec.before(last)
        return codec.unsent(last) if self.heard and self.base is not last else last

    def acknowledge(self, holds: bytes) -> None:
        """The receiver says it holds the state whose id starts with these 4 bytes."""
        self.base = next((memory for memory in self.memories if memory.id[:4] == holds), None)
        self.heard = True

    def sent(self, memory: Memory | None) -> None:
        kept = [self.base] if self.base is not None else []
        self.memories = kept if memory is None else [*kept, memory]
        self.heard = False


class Receiver:
    """Receiving half of one stream."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []  # at most two, newest last

    @property
    def holds(self) -> bytes:
        return self.memories[-1].id[:4] if self.memories else HOLDS_NOTHING

    def find(self, reference: bytes, side: SideInfo | None, content_id: bytes) -> tuple[Memory | None, SideInfo | None]:
        """The memory and the side information that this reference names, of this public set."""
        if reference == NO_REFERENCE:
            return None, None
        for memory in (*reversed(self.memories), None):
            for used in side.variants() if side is not None else [None]:
                if reference == reference_id(memory, used, content_id):
                    return memory, used
        raise PacketError("reference", f"coded against {reference.hex()}, which is not here: ask for an intra packet")

    def accepted(self, used: Memory | None, memory: Memory | None) -> None:
        if memory is not None:
            self.memories = [memory] if used is None else [used, memory]


def _bits_of(name: str, message: Message) -> dict[str, np.ndarray]:
    """By kind of uplink: bits of a downlink that may help to code it with the codec of this name."""
    plan = message.plan()
    found: dict[str, np.ndarray] = {}
    for info in codecs():
        codec = find(info.kind, info.name)
        if info.name == name and codec.uses_side:
            bits = codec.side_bits(message.kind, message.source, plan)
            if bits is not None:
                found[info.kind] = bits
    return found


def _side(codec: Codec, bits: Mapping[str, np.ndarray] | None, near: np.ndarray | None, plan: Plan) -> SideInfo | None:
    """The side information that fits this codec and this plan's shape."""
    if not codec.uses_side:
        return None
    packed = (bits or {}).get(codec.kind)
    if packed is not None and packed.size != codec.side_size(plan):
        packed = None
    if near is not None and (len(near) != plan.public_rows or codec.kind in ("partial-spikes", "selected-weights")):
        near = None
    return SideInfo(packed, near) if packed is not None or near is not None else None


def with_own(memory: Memory | None, own: Memory | None) -> Memory | None:
    """What both ends hold, beside the sender's own state."""
    if own is None:
        return memory
    return Memory(memory.shared if memory is not None else {}, own.private)


class ClientLink:
    """A client's end: decodes downlinks, encodes uplinks.

    Args:
        client: this client's index.
        up: codec name of uplinks (both ends must agree).
        down: codec name of downlinks (likewise).
        near: rows with alike public images (``nearest_rows``), side information for codecs that use it.
    """

    def __init__(self, client: int, up: str = "bitpack", down: str = "bitpack", near: np.ndarray | None = None) -> None:
        self.client = int(client)
        self.up = up
        self.down = down
        self.near = check_near(near)
        self._sender = Sender()
        self._receiver = Receiver()
        self._bits: dict[str, np.ndarray] = {}  # of the newest downlink

    def encode(self, message: Message, *, intra: bool = False) -> bytes:
        """Encode an uplink. ``intra`` uses nothing the server would have to hold."""
        codec = find(message.kind, self.up)
        plan = message.plan()
        memory = self._sender.base
        side = _side(codec, self._bits, self.near, plan)
        reference = NO_REFERENCE
        if intra or codec.self_contained:
            memory = side = None
        else:
            reference = reference_id(memory, side, plan.content_id)
        if codec.feedback:
            memory = with_own(memory, self._sender.own_state(codec, message.round))
        payload, new = codec.encode(message.source, plan, memory, side)
        self._sender.sent(new)
        header = header_of(message, codec.number, reference=reference, client=self.client,
                           holds=self._receiver.holds)  # fmt: skip
        return pack(header, payload)

    def decode(self, data: bytes, plan: Plan) -> Message:
        """Decode a downlink. PacketError("reference"): ask the server for the same message as intra."""
        header, payload = check_packet(data, plan)
        codec = by_number(header.codec, plan)
        memory, side = self._receiver.find(header.reference, _side(codec, None, self.near, plan), plan.content_id)
        content, new = decode_payload(codec, payload, plan, memory, side)
        message = build_message(header, content, plan)
        self._receiver.accepted(memory, new)
        self._sender.acknowledge(header.holds)
        self._bits = _bits_of(self.up, message)
        return message

    def state_dict(self) -> dict[str, Any]:
        """All that this end remembers, as a flat dict of arrays, ints and texts."""
        state: dict[str, Any] = {"client": self.client, "up": self.up, "down": self.down}
        pack_memories(state, "sender", self._sender.memories, self._sender.base, self._sender.heard)
        pack_memories(state, "receiver", self._receiver.memories)
        state.update({f"bits.{kind}": bits for kind, bits in self._bits.items()})
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, {"client": self.client, "up": self.up, "down": self.down})
        self._sender.memories, self._sender.base, self._sender.heard = unpack_memories(state, "sender")
        self._receiver.memories, _, _ = unpack_memories(state, "receiver")
        self._bits = _stored_bits(state, "bits.")


class ServerLink:
    """The server's end of the links to all clients; writes the ledger.

    Args:
        up: codec name of uplinks.
        down: codec name of downlinks.
        ledger: gets one record for each message encoded (down), decoded (up) or refused (up, kind ``"refused"``).
        near: as in ``ClientLink``.
    """

    def __init__(
        self, up: str = "bitpack", down: str = "bitpack", ledger: Ledger | None = None, near: np.ndarray | None = None
    ) -> None:
        self.up = up
        self.down = down
        self.ledger = ledger
        self.near = check_near(near)
        self._senders: dict[int, Sender] = {}
        self._receivers: dict[int, Receiver] = {}
        self._bits: dict[int, dict[str, np.ndarray]] = {}  # by client: of the downlink sent last
        self._coded: tuple[Any, dict[bytes, tuple[bytes, Memory | None]]] = (None, {})
        self._own: Memory | None = None  # what error feedback of the message in ``_coded`` began with
        self._bits_made: tuple[Any, dict[str, np.ndarray]] = (None, {})

    def encode(self, message: Message, client: int, *, intra: bool = False) -> bytes:
        """Encode a downlink for one client. Clients that hold the same state share one coded payload."""
        codec = find(message.kind, self.down)
        receiver = self._receivers.setdefault(client, Receiver())
        if codec.self_contained:  # error feedback is the server's own: one payload for all
            reference = NO_REFERENCE
            payload, _ = self._payload(codec, message, None, None)
        else:
            sender = self._senders.setdefault(client, Sender())
            base = None if intra else sender.base
            side = None if intra else _side(codec, None, self.near, message.plan())
            reference = reference_id(base, side, message.plan().content_id)
            payload, new = self._payload(codec, message, base, side)
            sender.sent(Memory(new.shared) if new is not None and codec.feedback else new)
        self._bits[client] = self._bits_once(message)
        header = header_of(message, codec.number, reference=reference, client=client, holds=receiver.holds)  # fmt: skip
        data = pack(header, payload)
        self._record(message, client, codec.name, len(payload), len(data))
        return data

    def decode(self, data: bytes, plan: Plan) -> Message:
        """Decode an uplink of client ``plan.client``. PacketError("reference"): ask that client for intra."""
        if plan.client is None:
            raise PacketError("client", "the plan must name the client whose packet this is")
        client = plan.client
        try:
            message, codec, payload_bytes = self._decode(data, plan, client)
        except PacketError:
            if self.ledger is not None and isinstance(data, (bytes, bytearray)):
                self.ledger.add(Record(plan.round, "up", client, "refused", "none", 8 * len(data), len(data), 0, 0, 0))
            raise
        self._record(message, client, codec.name, payload_bytes, len(data))
        return message

    def _decode(self, data: bytes, plan: Plan, client: int) -> tuple[Message, Codec, int]:
        header, payload = check_packet(data, plan)
        codec = by_number(header.codec, plan)
        receiver = self._receivers.setdefault(client, Receiver())
        known = _side(codec, self._bits.get(client), self.near, plan)
        memory, side = receiver.find(header.reference, known, plan.content_id)
        content, new = decode_payload(codec, payload, plan, memory, side)
        message = build_message(header, content, plan)
        if plan.follows:
            check_follows(message, self._bits.get(client, {}).get(codec.kind))
        receiver.accepted(memory, new)
        self._senders.setdefault(client, Sender()).acknowledge(header.holds)
        return message, codec, len(payload)

    def _payload(
        self, codec: Codec, message: Message, base: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory | None]:
        """The payload for all clients that hold the same; error feedback is the server's own, one state for all."""
        broadcast = self._senders.setdefault(BROADCAST, Sender()) if codec.feedback else None
        first = self._coded[0] is not message
        if first:
            self._coded = (message, {})
            self._own = None if broadcast is None else broadcast.own_state(codec, message.round)
        coded = self._coded[1]
        key = reference_id(base, side, b"")
        if key not in coded:
            memory = base if broadcast is None else with_own(base, self._own)
            coded[key] = codec.encode(message.source, message.plan(), memory, side)
        if first and broadcast is not None:
            broadcast.sent(coded[key][1])
        return coded[key]

    def _bits_once(self, message: Message) -> dict[str, np.ndarray]:
        if self._bits_made[0] is not message:
            self._bits_made = (message, _bits_of(self.up, message))
        return self._bits_made[1]

    def _record(self, message: Message, client: int, codec: str, payload: int, size: int) -> None:
        if self.ledger is not None:
            self.ledger.add(Record(message.round, message.direction, client, message.kind, codec,
                                   8 * payload, size, size - payload, paper_bytes(message),
                                   text_bytes(message)))  # fmt: skip

    def forget(self, client: int) -> None:
        """Drop all that is remembered of a client: its next packets will be intra."""
        for table in (self._senders, self._receivers, self._bits):
            table.pop(client, None)

    def state_dict(self, only: Collection[int] | None = None) -> dict[str, Any]:
        """All that the server remembers of its clients, as a flat dict of arrays, ints and texts.

        Args:
            only: leave out every other client (never what is sent to all alike); see ``merge_states``.
        """
        clients = sorted(self._senders.keys() | self._receivers.keys())
        clients = clients if only is None else [c for c in clients if c in only or c == BROADCAST]
        state: dict[str, Any] = {"up": self.up, "down": self.down, "clients": np.array(clients, dtype=np.int64)}
        for client in clients:
            sender = self._senders.get(client, Sender())
            receiver = self._receivers.get(client, Receiver())
            pack_memories(state, f"{client}.sender", sender.memories, sender.base, sender.heard)
            pack_memories(state, f"{client}.receiver", receiver.memories)
            state.update({f"{client}.bits.{kind}": bits for kind, bits in self._bits.get(client, {}).items()})
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, {"up": self.up, "down": self.down})
        self._senders = {}
        self._receivers = {}
        self._bits = {}
        self._coded = (None, {})
        self._bits_made = (None, {})
        for client, own in by_client(state).items():
            sender = Sender()
            receiver = Receiver()
            sender.memories, sender.base, sender.heard = unpack_memories(own, "sender")
            receiver.memories, _, _ = unpack_memories(own, "receiver")
            self._senders[client] = sender
            self._receivers[client] = receiver
            self._bits[client] = _stored_bits(own, "bits.")


def _stored_bits(state: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    return {key[len(prefix) :]: np.asarray(value) for key, value in state.items() if key.startswith(prefix)}


def _check_state(state: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if state.get(name) != value:
            raise PacketError("state", f"stored link has {name} = {state.get(name)!r}, this one {value!r}")
