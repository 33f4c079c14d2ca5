"""The two ends of a link, which hold what codecs remember: ``ServerLink`` (all clients) and ``ClientLink`` (one).

How references work (docs/wire-format.md, section 4). A stream is one direction between the server and one client. Each
packet names by hash what it was coded against; each packet also says which state its sender holds of the other
direction. A sender codes only against a state the receiver said it holds, and a receiver keeps the state it was last
shown to be known for together with the newest one. So drops, duplicates and restarts need no rollback: the worst case
is a packet whose reference is missing, which is refused by name (field ``"reference"``) and asked for again as intra.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.bitpack import packed_bytes
from spikefed.wire.codec import Codec, Memory, SideInfo, by_number, codecs, find, reference_id
from spikefed.wire.header import HEADER_BYTES, HOLDS_NOTHING, NO_REFERENCE, pack
from spikefed.wire.ledger import Ledger, Record
from spikefed.wire.linkstate import pack_memories, unpack_memories
from spikefed.wire.measure import paper_bytes, text_bytes
from spikefed.wire.messages import Message, build_message, check_packet, decode_payload, header_of
from spikefed.wire.plan import Plan


class Sender:
    """Sending half of one stream."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []  # at most two: what the receiver was known to hold, and what was sent last
        self.base: Memory | None = None

    def acknowledge(self, holds: bytes) -> None:
        """The receiver says it holds the state whose id starts with these 4 bytes."""
        self.base = next((memory for memory in self.memories if memory.id[:4] == holds), None)

    def sent(self, memory: Memory | None) -> None:
        kept = [self.base] if self.base is not None else []
        self.memories = kept if memory is None else [*kept, memory]


class Receiver:
    """Receiving half of one stream."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []  # at most two, newest last

    @property
    def holds(self) -> bytes:
        return self.memories[-1].id[:4] if self.memories else HOLDS_NOTHING

    def find(self, reference: bytes, side: SideInfo | None) -> tuple[Memory | None, SideInfo | None]:
        """The memory and the side information that this reference names."""
        if reference == NO_REFERENCE:
            return None, None
        for memory in (*reversed(self.memories), None):
            for used in side.variants() if side is not None else [None]:
                if reference == reference_id(memory, used):
                    return memory, used
        raise PacketError("reference", f"coded against {reference.hex()}, which is not here: ask for an intra packet")

    def accepted(self, used: Memory | None, memory: Memory | None) -> None:
        if memory is not None:
            self.memories = [memory] if used is None else [used, memory]


def _spikes_of(codec: Codec, message: Message) -> np.ndarray | None:
    """Algorithm 2 bits of a message that may help to code the next one of the other direction."""
    return np.packbits(message.content.reshape(-1)) if codec.uses_side and message.kind == codec.kind else None


def _side(codec: Codec, packed: np.ndarray | None, near: np.ndarray | None, plan: Plan) -> SideInfo | None:
    """The side information that fits this codec and this plan's shape."""
    if not codec.uses_side:
        return None
    if packed is not None and packed.size != packed_bytes(plan.shape):
        packed = None
    if near is not None and len(near) != plan.shape[0]:
        near = None
    return SideInfo(packed, near) if packed is not None or near is not None else None


class ClientLink:
    """A client's end: decodes downlinks, encodes uplinks.

    Args:
        client: this client's index.
        up, down: codec names of the two directions (both ends must agree).
        near: rows with alike public images (``nearest_rows``), side information for codecs that use it.
    """

    def __init__(self, client: int, up: str = "bitpack", down: str = "bitpack", near: np.ndarray | None = None) -> None:
        self.client, self.up, self.down, self.near = int(client), up, down, near
        self._sender, self._receiver = Sender(), Receiver()
        self._spikes: np.ndarray | None = None  # Algorithm 2 bits of the newest downlink

    def encode(self, message: Message, *, intra: bool = False) -> bytes:
        """Encode an uplink. ``intra`` uses nothing the server would have to hold."""
        codec = find(message.kind, self.up)
        plan = message.plan()
        base = self._sender.base
        memory = None if intra else base
        side = None if intra else _side(codec, self._spikes, self.near, plan)
        private = base if base is not None else (self._sender.memories or [None])[-1]
        payload, new = codec.encode(message.content, plan, _with_private(memory, private), side)
        self._sender.sent(new)
        header = header_of(message, codec.number, reference=reference_id(memory, side), client=self.client,
                           holds=self._receiver.holds)  # fmt: skip
        return pack(header, payload)

    def decode(self, data: bytes, plan: Plan) -> Message:
        """Decode a downlink. PacketError("reference"): ask the server for the same message as intra."""
        header, payload = check_packet(data, plan)
        codec = by_number(header.codec, plan)
        memory, side = self._receiver.find(header.reference, _side(codec, None, self.near, plan))
        content, new = decode_payload(codec, payload, plan, memory, side)
        message = build_message(header, content)
        self._receiver.accepted(memory, new)
        self._sender.acknowledge(header.holds)
        self._spikes = _spikes_of(find_up(message.kind, self.up), message)
        return message

    def state_dict(self) -> dict[str, Any]:
        """All that this end remembers, as a flat dict of arrays, ints and texts."""
        state: dict[str, Any] = {"client": self.client, "up": self.up, "down": self.down}
        pack_memories(state, "sender", self._sender.memories, self._sender.base)
        pack_memories(state, "receiver", self._receiver.memories, None)
        if self._spikes is not None:
            state["spikes"] = self._spikes
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, {"client": self.client, "up": self.up, "down": self.down})
        self._sender.memories, self._sender.base = unpack_memories(state, "sender")
        self._receiver.memories, _ = unpack_memories(state, "receiver")
        self._spikes = _stored(state.get("spikes"))


class ServerLink:
    """The server's end of the links to all clients; writes the ledger.

    Args:
        up, down: codec names of the two directions.
        ledger: gets one record for each message encoded (down), decoded (up) or refused (up, kind ``"refused"``).
        near: as in ``ClientLink``.
    """

    def __init__(
        self, up: str = "bitpack", down: str = "bitpack", ledger: Ledger | None = None, near: np.ndarray | None = None
    ) -> None:
        self.up, self.down, self.ledger, self.near = up, down, ledger, near
        self._senders: dict[int, Sender] = {}
        self._receivers: dict[int, Receiver] = {}
        self._spikes: dict[int, np.ndarray | None] = {}  # by client: Algorithm 2 bits of what was sent last
        self._coded: tuple[Any, dict[bytes, tuple[bytes, Memory | None]]] = (None, {})
        self._packed: tuple[Any, np.ndarray | None] = (None, None)

    def encode(self, message: Message, client: int, *, intra: bool = False) -> bytes:
        """Encode a downlink for one client. Clients that hold the same state share one coded payload."""
        codec = find(message.kind, self.down)
        sender = self._senders.setdefault(client, Sender())
        base = None if intra else sender.base
        side = None if intra else _side(codec, None, self.near, message.plan())
        payload, new = self._payload(codec, message, base, side)
        sender.sent(new)
        self._spikes[client] = self._spikes_once(message)
        header = header_of(message, codec.number, reference=reference_id(base, side), client=client,
                           holds=self._receivers.setdefault(client, Receiver()).holds)  # fmt: skip
        data = pack(header, payload)
        self._record(message, client, codec.name, len(data))
        return data

    def decode(self, data: bytes, plan: Plan) -> Message:
        """Decode an uplink of client ``plan.client``. PacketError("reference"): ask that client for intra."""
        if plan.client is None:
            raise PacketError("client", "the plan must name the client whose packet this is")
        client = plan.client
        try:
            message, codec = self._decode(data, plan, client)
        except PacketError:
            if self.ledger is not None and isinstance(data, (bytes, bytearray)):
                size = len(data)
                self.ledger.add(Record(plan.round, "up", client, "refused", "none", 8 * max(size - HEADER_BYTES, 0),
                                       size, min(size, HEADER_BYTES), 0, 0))  # fmt: skip
            raise
        self._record(message, client, codec.name, len(data))
        return message

    def _decode(self, data: bytes, plan: Plan, client: int) -> tuple[Message, Codec]:
        header, payload = check_packet(data, plan)
        codec = by_number(header.codec, plan)
        receiver = self._receivers.setdefault(client, Receiver())
        known = _side(codec, self._spikes.get(client), self.near, plan)
        memory, side = receiver.find(header.reference, known)
        content, new = decode_payload(codec, payload, plan, memory, side)
        message = build_message(header, content)
        receiver.accepted(memory, new)
        self._senders.setdefault(client, Sender()).acknowledge(header.holds)
        return message, codec

    def _payload(
        self, codec: Codec, message: Message, base: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory | None]:
        if self._coded[0] is not message:
            self._coded = (message, {})
        coded, key = self._coded[1], reference_id(base, side)
        if key not in coded:
            coded[key] = codec.encode(message.content, message.plan(), base, side)
        return coded[key]

    def _spikes_once(self, message: Message) -> np.ndarray | None:
        if self._packed[0] is not message:
            self._packed = (message, _spikes_of(find_up(message.kind, self.up), message))
        return self._packed[1]

    def _record(self, message: Message, client: int, codec: str, size: int) -> None:
        if self.ledger is not None:
            self.ledger.add(Record(message.round, message.direction, client, message.kind, codec,
                                   8 * (size - HEADER_BYTES), size, HEADER_BYTES, paper_bytes(message),
                                   text_bytes(message)))  # fmt: skip

    def forget(self, client: int) -> None:
        """Drop all that is remembered of a client: its next packets will be intra."""
        for table in (self._senders, self._receivers, self._spikes):
            table.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """All that the server remembers of its clients, as a flat dict of arrays, ints and texts."""
        clients = sorted(self._senders.keys() | self._receivers.keys())
        state: dict[str, Any] = {"up": self.up, "down": self.down, "clients": np.array(clients, dtype=np.int64)}
        for client in clients:
            sender, receiver = self._senders.get(client, Sender()), self._receivers.get(client, Receiver())
            pack_memories(state, f"{client}.sender", sender.memories, sender.base)
            pack_memories(state, f"{client}.receiver", receiver.memories, None)
            spikes = self._spikes.get(client)
            if spikes is not None:
                state[f"{client}.spikes"] = spikes
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, {"up": self.up, "down": self.down})
        self._senders, self._receivers, self._spikes = {}, {}, {}
        self._coded, self._packed = (None, {}), (None, None)
        for client in (int(index) for index in state["clients"]):
            sender, receiver = Sender(), Receiver()
            sender.memories, sender.base = unpack_memories(state, f"{client}.sender")
            receiver.memories, _ = unpack_memories(state, f"{client}.receiver")
            self._senders[client], self._receivers[client] = sender, receiver
            self._spikes[client] = _stored(state.get(f"{client}.spikes"))


def find_up(kind: str, name: str) -> Codec:
    """The uplink codec if it codes this kind, else any that uses nothing of a downlink."""
    known = {(info.kind, info.name) for info in codecs()}
    return find(kind, name) if (kind, name) in known else find("spikes", "bitpack")


def _with_private(memory: Memory | None, private: Memory | None) -> Memory | None:
    """Intra packets of lossy codecs still need the sender's own error feedback."""
    if memory is None and private is not None and private.private:
        return Memory({}, private.private)
    return memory


def _stored(array: Any) -> np.ndarray | None:
    return None if array is None else np.asarray(array)


def _check_state(state: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if state.get(name) != value:
            raise PacketError("state", f"stored link has {name} = {state.get(name)!r}, this one {value!r}")
