"""What travels: frozen messages, checked when made, turned into packets by ``encode`` and back by ``decode``.

A message class says its kind, its direction and which field is its content, how that is checked and what shape it has;
all else is common. Spikes and weights are here, the rivals' kinds in rowmessages.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, cast, dataclass_transform

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import by_number, find
from spikefed.wire.header import EVERYONE, NO_REFERENCE, Header, pack, unpack
from spikefed.wire.packed import PackedSpikes
from spikefed.wire.parts import Part
from spikefed.wire.plan import Plan, TensorSpec, placed, taken, tensor_specs
from spikefed.wire.share import Share

type_of: dict[tuple[str, str], type[Message]] = {}  # by kind and direction
_BUILDERS: dict[tuple[str, str], Callable[[Header, Any, Plan], Message]] = {}  # of messages that do it themselves


class Message:
    """Common part of all messages.

    Class attributes:
        kind, direction: as in the header.
        default_codec: what ``encode`` takes when nothing is said.
        field: name of the field that is the content.
    """

    kind: ClassVar[str]
    direction: ClassVar[str]
    default_codec: ClassVar[str]
    field: ClassVar[str]
    round: int

    @property
    def content(self) -> Any:
        """What the message says, for its reader."""
        return getattr(self, self.field)

    @property
    def source(self) -> Any:
        """The content as codecs read it."""
        return self.content

    @classmethod
    def parts(cls, source: Any, plan: Plan) -> dict[str, Any]:
        """Inverse of ``source``: the fields that a decoded payload fills."""
        return {cls.field: source}

    def check(self, content: Any) -> Any:
        """The content in the form in which it is kept. Raises PacketError when it is none of this kind."""
        raise NotImplementedError

    def sizes(self) -> tuple[int, int, int]:
        """The header's (N, C, T)."""
        raise NotImplementedError

    def plan(self) -> Plan:
        """The plan that this very message fits."""
        return Plan.rows(self.kind, **self._row_fields())

    def _plan_fields(self) -> dict[str, Any]:
        return {"direction": self.direction, "round": self.round, "client": getattr(self, "client", None),
                "shape": self.sizes(), "public_set_id": getattr(self, "public_set_id", b"")}  # fmt: skip

    def _row_fields(self) -> dict[str, Any]:
        share: Share | None = getattr(self, "share", None)
        if share is not None and len(share.rows) != self.sizes()[0]:
            raise PacketError("rows", f"{self.sizes()[0]} of them came with the numbers of {len(share.rows)}")
        return {**self._plan_fields(), "share": share}

    def __post_init__(self) -> None:
        object.__setattr__(self, self.field, self.check(getattr(self, self.field)))
        if hasattr(self, "public_set_id"):
            object.__setattr__(self, "public_set_id", check_id(getattr(self, "public_set_id")))  # noqa: B009
        check_common(self)

    def encode(self, codec: str | None = None) -> bytes:
        """An intra packet of this message: readable without any state. Links add references (links.py)."""
        chosen = find(self.kind, codec or self.default_codec)
        payload, _ = chosen.encode(self.source, self.plan(), None, None)
        return pack(header_of(self, chosen.number), payload)


@dataclass_transform(frozen_default=True, eq_default=False)
def message(cls: type[Any]) -> type[Any]:
    """Make a frozen dataclass of a message class and let packets of its kind and direction decode to it."""
    made = dataclass(frozen=True, eq=False)(cls)
    type_of[made.kind, made.direction] = made
    return made


def register_builder(kind: str, up: Any, down: Any = None) -> None:
    """For messages that are not all fields: how to make those of a kind from a header, decoded content and plan."""
    _BUILDERS[kind, "up"] = up
    if down is not None:
        _BUILDERS[kind, "down"] = down


def build_message(header: Header, source: Any, plan: Plan) -> Message:
    """The message a header and its decoded content make; the plan knows what the header only names."""
    key = header.kind, header.direction
    if key in _BUILDERS:
        return _BUILDERS[key](header, source, plan)
    cls = type_of.get(key)
    if cls is None:
        raise PacketError("kind", f"no message of kind {header.kind} goes {header.direction}")
    known = {
        "round": header.round, "client": header.client, "accuracy": header.accuracy, "samples": header.samples,
        "public_set_id": plan.content_id, "exact": plan.exact, "classes": plan.shape[1], "levels": plan.shape[2],
        "share": plan.share, **cls.parts(source, plan),
    }  # fmt: skip
    return cls(**{entry.name: known[entry.name] for entry in fields(cast(Any, cls))})


def header_of(message: Message, codec: int, **given: Any) -> Header:
    """The header of a message, reference and ack fields given by the link."""
    plan = message.plan()
    given.setdefault("client", getattr(message, "client", EVERYONE))
    return Header(
        codec, message.kind, message.direction, message.round, shape=plan.header_shape, content_id=plan.content_id,
        samples=getattr(message, "samples", 0), accuracy=getattr(message, "accuracy", 0.0), **given,
    )  # fmt: skip


def check_common(message: Any) -> None:
    """Checks that all messages share: round, client, accuracy, samples."""
    if not 0 <= int(message.round) <= 0xFFFFFFFF:
        raise PacketError("round", f"{message.round} is not in [0, 2^32)")
    if message.direction == "up":
        if not 0 <= int(message.client) < EVERYONE:
            raise PacketError("client", f"{message.client} is not in [0, 2^32 - 1)")
        accuracy = float(message.accuracy)
        if not 0.0 <= accuracy <= 1.0:
            raise PacketError("accuracy", f"{accuracy} is not a number in [0, 1]")
        # What the receiver reads is a float32; the sender sees the same number.
        object.__setattr__(message, "accuracy", float(np.float32(accuracy)))


def check_spikes(array: np.ndarray) -> np.ndarray:
    """uint8 [N, C, T] of 0/1, contiguous; PacketError for anything else."""
    array = np.asarray(array)
    if array.ndim != 3:
        raise PacketError("shape", f"spikes need the axes [N, C, T], got {array.shape}")
    if array.dtype == np.bool_:
        array = np.ascontiguousarray(array).view(np.uint8)  # whose bytes foreign memory may have made neither 0 nor 1
    if array.dtype != np.uint8:
        raise PacketError("spikes", f"dtype must be uint8 or bool, got {array.dtype}")
    if array.size and array.max() > 1:
        raise PacketError("spikes", "a value is neither 0 nor 1")
    return np.ascontiguousarray(array)


def check_id(value: bytes) -> bytes:
    """The 32 bytes of a public set id; PacketError for another length."""
    value = bytes(value)
    if len(value) != 32:
        raise PacketError("public_set_id", f"needs 32 bytes (a SHA-256), got {len(value)}")
    return value


class _Spikes(Message):
    """Spikes given as an array or packed; a packed message, such as a decoded one, is unpacked when first asked for
    ``spikes``, and never by who reads ``packed``.
    """

    kind = "spikes"
    default_codec = "bitpack"
    field = "spikes"

    @cached_property
    def packed(self) -> PackedSpikes:
        """Algorithm 2's bits of the spikes, and blocks of rows of them."""
        return PackedSpikes.of(self.spikes)

    @property
    def source(self) -> PackedSpikes:
        return self.packed

    def __post_init__(self) -> None:
        given = self.__dict__["spikes"]
        if isinstance(given, PackedSpikes):
            self.__dict__["packed"] = given
            del self.__dict__["spikes"]
        else:
            self.__dict__["spikes"] = check_spikes(given)
        object.__setattr__(self, "public_set_id", check_id(self.public_set_id))
        check_common(self)

    def __getattr__(self, name: str) -> Any:  # only for what is not there yet
        if name != "spikes" or "packed" not in self.__dict__:
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        self.__dict__["spikes"] = self.packed.unpack()
        return self.__dict__["spikes"]

    def sizes(self) -> tuple[int, int, int]:
        return self.packed.shape if "packed" in self.__dict__ else self.spikes.shape

    def plan(self) -> Plan:
        return Plan.spikes(**self._row_fields())


@message
class SpikeUplink(_Spikes):
    """Output spikes S_i of client i on the public set (FSD, Algorithm 1, line 7) and its validation accuracy.

    Attributes: spikes uint8 or bool [N, C, T] of 0/1, or ``PackedSpikes``; accuracy in [0, 1]; public_set_id 32 bytes;
    share: which N rows of the public set, None for all.
    """

    round: int
    client: int
    spikes: np.ndarray
    accuracy: float
    public_set_id: bytes
    share: Share | None = None
    direction = "up"


@message
class SpikeDownlink(_Spikes):
    """Global spikes Round(S_g) (FSD, Algorithm 1, line 12). Attributes as in ``SpikeUplink``."""

    round: int
    spikes: np.ndarray
    public_set_id: bytes
    direction = "down"


class WeightsMessage(Message):
    """What messages of weights have in common."""

    kind = "weights"
    default_codec = "float32"
    field = "tensors"
    exact: Collection[str]
    kept: Mapping[str, np.ndarray | None] | None

    def check(self, content: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in content.items():
            if not isinstance(array, np.ndarray):
                raise PacketError("tensors", f"'{name}' is a {type(array).__name__}; give numpy arrays")
        tensor_specs(content)  # refuses dtypes that cannot travel
        object.__setattr__(self, "exact", frozenset(self.exact))
        unknown = frozenset(self.exact) - content.keys()
        if unknown:
            raise PacketError("tensors", f"'{min(unknown)}' is to stay exact, but there is no such tensor")
        samples = getattr(self, "samples", 1)
        if not 0 < int(samples) <= 0xFFFFFFFF:
            raise PacketError("samples", f"{samples} is not in [1, 2^32)")
        if self.kept is not None:
            self.check_kept(content, self.kept)
        return dict(content)

    def check_kept(self, content: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray | None]) -> None:
        """Refuse a selection that does not say of every tensor which of its entries travel.

        Masks have their tensors' shapes.
        """
        if kept.keys() != content.keys():
            name = min(kept.keys() ^ content.keys())
            raise PacketError("kept", f"'{name}' is either no tensor or one of which no entries are named")
        for name, array in content.items():
            Part.of(name, array.shape, kept[name])

    @cached_property
    def table(self) -> tuple[TensorSpec, ...]:
        """The tensors that travel, or the parts of them that do."""
        return tensor_specs(self.content, self.exact, self.kept)

    @property
    def source(self) -> Any:
        return taken(self.content, self.table)

    @classmethod
    def parts(cls, source: Any, plan: Plan) -> dict[str, Any]:
        return {"tensors": placed(source, plan.tensors), "kept": plan.kept}

    @property
    def own_bytes(self) -> int:
        """Bytes of the entries that travel, in their own types."""
        return sum(spec.nbytes for spec in self.table)

    def plan(self) -> Plan:
        client = getattr(self, "client", None)
        return Plan.weights(self.direction, round=self.round, client=client, tensors=self.table)


@message
class WeightsUplink(WeightsMessage):
    """A client's tensors (weights, or their change) in state_dict order, and the samples behind them (FedAvg).

    ``exact``: names of tensors that no codec may change; the receiver's plan must mark the same.
    ``kept``: for a selection that may be another next time: which entries of every tensor travel, bool of its shape,
    None for all of them; the receiver's plan must say the same, and reads 0 elsewhere. None: all tensors, whole.
    """

    round: int
    client: int
    tensors: dict[str, np.ndarray]
    samples: int
    accuracy: float
    exact: Collection[str] = ()
    kept: Mapping[str, np.ndarray | None] | None = None
    direction = "up"


@message
class WeightsDownlink(WeightsMessage):
    """The server's tensors for all clients; ``exact`` and ``kept`` as in ``WeightsUplink``."""

    round: int
    tensors: dict[str, np.ndarray]
    exact: Collection[str] = ()
    kept: Mapping[str, np.ndarray | None] | None = None
    direction = "down"


def check_packet(data: bytes | bytearray | memoryview, plan: Plan) -> tuple[Header, memoryview]:
    """Header and payload of a packet that fits the plan in everything but its payload's inside."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        plan.check_size(memoryview(data).nbytes)
    header, payload = unpack(data)
    plan.check(header)
    return header, payload


def decode(data: bytes | bytearray | memoryview, plan: Plan) -> Message:
    """Decode an intra packet. Raises PacketError, and nothing else, whatever the bytes are."""
    header, payload = check_packet(data, plan)
    if header.reference != NO_REFERENCE:
        raise PacketError("reference", f"coded against {header.reference.hex()}, which is not here: ask for intra")
    codec = by_number(header.codec, plan)
    content, _ = decode_payload(codec, payload, plan, None, None)
    return build_message(header, content, plan)


def decode_payload(codec: Any, payload: memoryview, plan: Plan, memory: Any, side: Any) -> tuple[Any, Any]:
    """``codec.decode`` with the promise that only PacketError comes out of it.

    Args:
        codec: of the packet.
        payload: bytes behind its header.
        plan: what the receiver expects.
        memory: what both ends keep of messages before.
        side: content of the other direction that both ends know.
    """
    try:
        return codec.decode(payload, plan, memory, side)
    except PacketError:
        raise
    except Exception as error:  # a defect of the codec must not end a server; tests look for this cause
        raise PacketError("payload", f"codec '{codec.name}' failed on it ({type(error).__name__}: {error})") from error
