"""What a codec is, and the registry that finds one by its name or by the number in a header."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.header import ID_BYTES, NO_REFERENCE
from spikefed.wire.plan import Plan


@dataclass(frozen=True, eq=False)
class Memory:
    """What a codec remembers between two packets of one stream; immutable, equal at both ends.

    Attributes:
        shared: arrays that both ends hold; their bytes make the ``id``.
        private: arrays only the sender has (error feedback); never part of the id.
    """

    shared: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    private: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    @cached_property
    def id(self) -> bytes:
        """First 8 bytes of the SHA-256 of the shared arrays, in the order of their names."""
        digest = hashlib.sha256()
        for name in sorted(self.shared):
            digest.update(name.encode() + b"\0")
            digest.update(np.ascontiguousarray(self.shared[name]).data)
        return digest.digest()[:8]


@dataclass(frozen=True, eq=False)
class SideInfo:
    """What both ends hold beside the stream itself.

    Attributes:
        packed: Algorithm 2 bits of the newest content of the other direction (the global spikes), or None.
        near: int32 [N, 5] earlier rows with alike public images (neighbours.py), or None.
    """

    packed: np.ndarray | None = None
    near: np.ndarray | None = None

    @cached_property
    def id(self) -> bytes:
        """8 bytes naming both, as in ``Memory.id``."""
        arrays = {"global": self.packed, "near": self.near}
        return Memory({name: array for name, array in arrays.items() if array is not None}).id

    def variants(self) -> list[SideInfo | None]:
        """What a sender may have used of this: all, one of the two, or nothing."""
        if self.packed is not None and self.near is not None:
            return [self, SideInfo(self.packed), SideInfo(None, self.near), None]
        return [self, None] if self.packed is not None or self.near is not None else [None]


class Codec(ABC):
    """Content to payload and back. Codecs are stateless objects: what is remembered travels in a ``Memory``.

    Attributes (of the class where all its codecs agree):
        name, number: how configs and headers name it.
        kind: of the content (``"spikes"``, ``"weights"``, ...).
        lossless: decode(encode(x)) == x, bit for bit.
        uses_side: can use the newest content of the other direction, or alike rows, as side information.
        feedback: the sender keeps a state of its own (error feedback), which no receiver needs.
        self_contained: payloads read without any memory, even though the sender keeps some.
    """

    name: str
    number: int
    kind: str
    description: str
    lossless: bool = True
    uses_side: bool = False
    feedback: bool = False
    self_contained: bool = False

    def side_bits(self, kind: str, content: Any, plan: Plan) -> np.ndarray | None:
        """Algorithm 2 bits of a message of the other direction, if they can help this codec; else None.

        uint8 of shape ``[side_size]``.
        """
        return None

    def side_size(self, plan: Plan) -> int:
        """Bytes that ``side_bits`` must have for this plan."""
        return 0

    @abstractmethod
    def encode(
        self, content: Any, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory | None]:
        """Return the payload and what to remember once the packet has been accepted (None: nothing).

        Args:
            content: what the message carries, as its class says.
            plan: what the receiver expects.
            memory: what both ends keep of messages before.
            side: content of the other direction that both ends know.
        """

    @abstractmethod
    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[Any, Memory | None]:
        """Return the content and what to remember. Raises PacketError when the payload cannot be of this plan.

        Args:
            payload: bytes of the packet behind its header.
            plan: what the receiver expects.
            memory: what both ends keep of messages before.
            side: content of the other direction that both ends know.
        """

    def before(self, memory: Memory) -> Memory | None:
        """The sender's own state before the message that left ``memory`` behind (error feedback)."""
        return None

    def unsent(self, memory: Memory) -> Memory | None:
        """The sender's own state if the message that left ``memory`` behind was lost (error feedback)."""
        return None


@dataclass(frozen=True)
class CodecInfo:
    """One line of ``spikefed list codecs``."""

    name: str
    kind: str
    number: int
    lossless: bool
    description: str


_BY_KEY: dict[tuple[str, str], Codec] = {}
_BY_NUMBER: dict[int, Codec] = {}


def register(codec: Codec) -> Codec:
    """Add a codec; its (kind, name) and its number must be free."""
    key = (codec.kind, codec.name)
    if key in _BY_KEY or codec.number in _BY_NUMBER:
        raise ValueError(f"codec {key} or number {codec.number} is already registered")
    _BY_KEY[key] = _BY_NUMBER[codec.number] = codec
    return codec


def codecs(kind: str | None = None) -> list[CodecInfo]:
    """All registered codecs (of one kind), by number."""
    found: Iterable[Codec] = (_BY_NUMBER[number] for number in sorted(_BY_NUMBER))
    return [CodecInfo(c.name, c.kind, c.number, c.lossless, c.description) for c in found if kind in (None, c.kind)]


def find(kind: str, name: str) -> Codec:
    """The codec of this name for this kind. Raises PacketError naming those there are."""
    codec = _BY_KEY.get((kind, name))
    if codec is None:
        names = ", ".join(info.name for info in codecs(kind)) or "none"
        raise PacketError("codec", f"no codec '{name}' for {kind}; there is: {names}")
    return codec


def by_number(number: int, plan: Plan) -> Codec:
    """The codec a header names, if the plan allows it."""
    codec = _BY_NUMBER.get(number)
    if codec is None:
        raise PacketError("codec", f"unknown codec number {number}")
    if codec.kind != plan.kind or (plan.codecs is not None and codec.name not in plan.codecs):
        raise PacketError("codec", f"'{codec.name}' (for {codec.kind}) is not allowed for this {plan.kind} packet")
    return codec


def reference_id(memory: Memory | None, side: SideInfo | None, content_id: bytes) -> bytes:
    """The 8 bytes that name what a payload was coded against: the stream's memory, the side information and the public
    set, whose id the header then leaves out.
    """
    if memory is None and side is None:
        return NO_REFERENCE
    joined = (memory.id if memory is not None else NO_REFERENCE) + (side.id if side is not None else NO_REFERENCE)
    return hashlib.sha256(joined + content_id[:ID_BYTES]).digest()[:8]
