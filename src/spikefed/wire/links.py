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
from spikefed.wire.codec import Codec, Memory, by_number, find, reference_id
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

    def find(self, reference: bytes, side_id: bytes | None) -> tuple[Memory | None, bool]:
        """The memory and whether side information was used, that this reference names."""
        if reference == NO_REFERENCE:
            return None, False
        for memory in (*reversed(self.memories), None):
            for known in (side_id, None):
                if reference == reference_id(memory, known):
                    return memory, known is not None
        raise PacketError("reference", f"coded against {reference.hex()}, which is not here: ask for an intra packet")

    def accepted(self, used: Memory | None, memory: Memory | None) -> None:
        if memory is not None:
            self.memories = [memory] if used is None else [used, memory]


class Side:
    """The newest content of the other direction, and the 8 bytes that name it."""

    def __init__(self, content: Any = None, id_: bytes | None = None) -> None:
        self.content, self.id = content, id_


def _side(codec: Codec, message: Message) -> Side:
    """What of this message may help to code the next one of the other direction."""
    if not codec.uses_side or codec.kind != message.kind:
        return Side()
    memory = Memory({"side": np.packbits(message.content.reshape(-1))})
    return Side(message.content, memory.id)


class ClientLink:
    """A client's end: decodes downlinks, encodes uplinks.

    Args:
        client: this client's index.
        up, down: codec names of the two directions (both ends must agree).
    """

    def __init__(self, client: int, up: str = "bitpack", down: str = "bitpack") -> None:
        self.client, self.up, self.down = int(client), up, down
        self._sender, self._receiver, self._side = Sender(), Receiver(), Side()

    def encode(self, message: Message, *, intra: bool = False) -> bytes:
        """Encode an uplink. ``intra`` uses nothing the server would have to hold."""
        codec = find(message.kind, self.up)
        plan = message.plan()
        memory, side = (None, Side()) if intra else (self._sender.base, self._side)
        if side.content is not None and side.content.shape != plan.shape:
            side = Side()
        private = self._sender.base if self._sender.base is not None else _last(self._sender.memories)
        payload, new = codec.encode(message.content, plan, _with_private(memory, private), side.content)
        reference = reference_id(memory, side.id)
        self._sender.sent(new)
        return pack(header_of(message, codec.number, reference=reference, holds=self._receiver.holds,
                              client=self.client), payload)  # fmt: skip

    def decode(self, data: bytes, plan: Plan) -> Message:
        """Decode a downlink. PacketError("reference"): ask the server for the same message as intra."""
        header, payload = check_packet(data, plan)
        codec = by_number(header.codec, plan)
        memory, _ = self._receiver.find(header.reference, None)
        content, new = decode_payload(codec, payload, plan, memory, None)
        message = build_message(header, content)
        self._receiver.accepted(memory, new)
        self._sender.acknowledge(header.holds)
        self._side = _side(find(message.kind, self.up), message)
        return message

    def state_dict(self) -> dict[str, Any]:
        """All that this end remembers, as a flat dict of arrays, ints and texts."""
        state: dict[str, Any] = {"client": self.client, "up": self.up, "down": self.down}
        pack_memories(state, "sender", self._sender.memories, self._sender.base)
        pack_memories(state, "receiver", self._receiver.memories, None)
        if self._side.content is not None:
            state["side"] = self._side.content
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, {"client": self.client, "up": self.up, "down": self.down})
        self._sender.memories, self._sender.base = unpack_memories(state, "sender")
        self._receiver.memories, _ = unpack_memories(state, "receiver")
        self._side = _stored_side(state.get("side"))


class ServerLink:
    """The server's end of the links to all clients; writes the ledger.

    Args:
        up, down: codec names of the two directions.
        ledger: gets one record for each message encoded (down), decoded (up) or refused (up, kind ``"refused"``).
    """

    def __init__(self, up: str = "bitpack", down: str = "bitpack", ledger: Ledger | None = None) -> None:
        self.up, self.down, self.ledger = up, down, ledger
        self._senders: dict[int, Sender] = {}
        self._receivers: dict[int, Receiver] = {}
        self._sides: dict[int, Side] = {}
        self._cache: tuple[Any, dict[bytes, tuple[bytes, Memory | None]]] = (None, {})
        self._cached_side: tuple[Any, Side] = (None, Side())

    def encode(self, message: Message, client: int, *, intra: bool = False) -> bytes:
        """Encode a downlink for one client. Clients that hold the same state share one coded payload."""
        codec = find(message.kind, self.down)
        sender = self._senders.setdefault(client, Sender())
        base = None if intra else sender.base
        payload, new = self._payload(codec, message, base)
        sender.sent(new)
        self._sides[client] = self._side_of(message)
        holds = self._receivers.setdefault(client, Receiver()).holds
        data = pack(header_of(message, codec.number, reference=reference_id(base, None), holds=holds, client=client),
                    payload)  # fmt: skip
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
        side = self._sides.get(client, Side())
        if side.content is not None and side.content.shape != plan.shape:
            side = Side()
        memory, with_side = receiver.find(header.reference, side.id)
        content, new = decode_payload(codec, payload, plan, memory, side.content if with_side else None)
        message = build_message(header, content)
        receiver.accepted(memory, new)
        self._senders.setdefault(client, Sender()).acknowledge(header.holds)
        return message, codec

    def _payload(self, codec: Codec, message: Message, base: Memory | None) -> tuple[bytes, Memory | None]:
        if self._cache[0] is not message:
            self._cache = (message, {})
        coded = self._cache[1]
        key = base.id if base is not None else b""
        if key not in coded:
            coded[key] = codec.encode(message.content, message.plan(), base, None)
        return coded[key]

    def _side_of(self, message: Message) -> Side:
        if self._cached_side[0] is not message:
            self._cached_side = (message, _side(find(message.kind, self.up), message))
        return self._cached_side[1]

    def _record(self, message: Message, client: int, codec: str, size: int) -> None:
        if self.ledger is not None:
            self.ledger.add(Record(message.round, message.direction, client, message.kind, codec,
                                   8 * (size - HEADER_BYTES), size, HEADER_BYTES, paper_bytes(message),
                                   text_bytes(message)))  # fmt: skip

    def forget(self, client: int) -> None:
        """Drop all that is remembered of a client: its next packets will be intra."""
        for table in (self._senders, self._receivers, self._sides):
            table.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """All that the server remembers of its clients, as a flat dict of arrays, ints and texts."""
        clients = sorted(self._senders.keys() | self._receivers.keys())
        state: dict[str, Any] = {"up": self.up, "down": self.down, "clients": np.array(clients, dtype=np.int64)}
        for client in clients:
            sender, receiver = self._senders.get(client, Sender()), self._receivers.get(client, Receiver())
            pack_memories(state, f"{client}.sender", sender.memories, sender.base)
            pack_memories(state, f"{client}.receiver", receiver.memories, None)
            side = self._sides.get(client, Side())
            if side.content is not None:
                state[f"{client}.side"] = side.content
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _check_state(state, {"up": self.up, "down": self.down})
        self._senders, self._receivers, self._sides = {}, {}, {}
        self._cache = (None, {})
        for client in (int(index) for index in state["clients"]):
            sender, receiver = Sender(), Receiver()
            sender.memories, sender.base = unpack_memories(state, f"{client}.sender")
            receiver.memories, _ = unpack_memories(state, f"{client}.receiver")
            self._senders[client], self._receivers[client] = sender, receiver
            self._sides[client] = _stored_side(state.get(f"{client}.side"))


def _last(memories: list[Memory]) -> Memory | None:
    return memories[-1] if memories else None


def _with_private(memory: Memory | None, private: Memory | None) -> Memory | None:
    """Intra packets of lossy codecs still need the sender's own error feedback."""
    if memory is None and private is not None and private.private:
        return Memory({}, private.private)
    return memory


def _stored_side(content: np.ndarray | None) -> Side:
    if content is None:
        return Side()
    content = np.asarray(content)
    return Side(content, Memory({"side": np.packbits(content.reshape(-1))}).id)


def _check_state(state: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if state.get(name) != value:
            raise PacketError("state", f"stored link has {name} = {state.get(name)!r}, this one {value!r}")
