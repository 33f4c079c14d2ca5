"""What travels: frozen messages, checked when made, turned into packets by ``encode`` and back by ``decode``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import by_number, find
from spikefed.wire.header import EVERYONE, NO_REFERENCE, Header, pack, unpack
from spikefed.wire.plan import Plan, tensor_specs


class Message:
    """Common part of all messages; ``content`` is what a codec turns into a payload."""

    kind: ClassVar[str]
    direction: ClassVar[str]
    default_codec: ClassVar[str]
    round: int

    @property
    def content(self) -> Any:
        raise NotImplementedError

    def plan(self) -> Plan:
        """The plan that this very message fits."""
        raise NotImplementedError

    def encode(self, codec: str | None = None) -> bytes:
        """An intra packet of this message: readable without any state. Links add references (links.py)."""
        chosen = find(self.kind, codec or self.default_codec)
        payload, _ = chosen.encode(self.content, self.plan(), None, None)
        return pack(header_of(self, chosen.number), payload)


def header_of(message: Message, codec: int, **fields: Any) -> Header:
    """The header of a message, reference and ack fields given by the link."""
    plan = message.plan()
    fields.setdefault("client", getattr(message, "client", EVERYONE))
    return Header(
        codec, message.kind, message.direction, message.round, shape=plan.header_shape, content_id=plan.content_id,
        samples=getattr(message, "samples", 0), accuracy=getattr(message, "accuracy", 0.0), **fields,
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
        return np.ascontiguousarray(array).view(np.uint8)
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


def _tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, array in tensors.items():
        if not isinstance(array, np.ndarray):
            raise PacketError("tensors", f"'{name}' is a {type(array).__name__}; give numpy arrays")
    tensor_specs(tensors)  # refuses dtypes that cannot travel
    return dict(tensors)


@dataclass(frozen=True, eq=False)
class _SpikeMessage(Message):
    kind = "spikes"
    default_codec = "bitpack"

    @property
    def content(self) -> np.ndarray:
        return self.spikes  # type: ignore[attr-defined]

    def plan(self) -> Plan:
        return Plan.spikes(self.direction, round=self.round, client=getattr(self, "client", None),
                           shape=self.content.shape, public_set_id=self.public_set_id)  # type: ignore  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "spikes", check_spikes(self.content))
        object.__setattr__(self, "public_set_id", check_id(self.public_set_id))  # type: ignore[attr-defined]
        check_common(self)


@dataclass(frozen=True, eq=False)
class SpikeUplink(_SpikeMessage):
    """Output spikes S_i of client i on the public set (FSD, Algorithm 1, line 7) and its validation accuracy.

    Attributes: spikes uint8 or bool [N, C, T] of 0/1; accuracy in [0, 1]; public_set_id 32 bytes.
    """

    round: int
    client: int
    spikes: np.ndarray
    accuracy: float
    public_set_id: bytes
    direction = "up"


@dataclass(frozen=True, eq=False)
class SpikeDownlink(_SpikeMessage):
    """Global spikes Round(S_g) (FSD, Algorithm 1, line 12). Attributes as in ``SpikeUplink``."""

    round: int
    spikes: np.ndarray
    public_set_id: bytes
    direction = "down"


@dataclass(frozen=True, eq=False)
class _WeightMessage(Message):
    kind = "weights"
    default_codec = "float32"

    @property
    def content(self) -> dict[str, np.ndarray]:
        return self.tensors  # type: ignore[attr-defined]

    def plan(self) -> Plan:
        return Plan.weights(self.direction, round=self.round, client=getattr(self, "client", None),
                            tensors=tensor_specs(self.content, self.exact))  # type: ignore  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", _tensors(self.content))
        object.__setattr__(self, "exact", frozenset(self.exact))  # type: ignore[attr-defined]
        unknown = self.exact - self.tensors.keys()  # type: ignore[attr-defined]
        if unknown:
            raise PacketError("tensors", f"'{min(unknown)}' is to stay exact, but there is no such tensor")
        if self.direction == "up" and not 0 < int(self.samples) <= 0xFFFFFFFF:  # type: ignore[attr-defined]
            raise PacketError("samples", f"{self.samples} is not in [1, 2^32)")  # type: ignore[attr-defined]
        check_common(self)


@dataclass(frozen=True, eq=False)
class WeightsUplink(_WeightMessage):
    """A client's tensors (weights, or their change) in state_dict order, and the samples behind them (FedAvg).

    ``exact``: names of tensors that no codec may change; the receiver's plan must mark the same.
    """

    round: int
    client: int
    tensors: dict[str, np.ndarray]
    samples: int
    accuracy: float
    exact: Collection[str] = ()
    direction = "up"


@dataclass(frozen=True, eq=False)
class WeightsDownlink(_WeightMessage):
    """The server's tensors for all clients; ``exact`` as in ``WeightsUplink``."""

    round: int
    tensors: dict[str, np.ndarray]
    exact: Collection[str] = ()
    direction = "down"


def build_message(header: Header, content: Any, plan: Plan) -> Message:
    """The message a header and its decoded content make; the plan knows what the header only names."""
    make = _BUILDERS.get((header.kind, header.direction))
    if make is None:
        raise PacketError("kind", f"no message of kind {header.kind} goes {header.direction}")
    return make(header, content, plan)


_BUILDERS: dict[tuple[str, str], Any] = {
    ("spikes", "up"): lambda h, x, plan: SpikeUplink(h.round, h.client, x, h.accuracy, plan.content_id),
    ("spikes", "down"): lambda h, x, plan: SpikeDownlink(h.round, x, plan.content_id),
    ("weights", "up"): lambda h, x, plan: WeightsUplink(h.round, h.client, x, h.samples, h.accuracy, plan.exact),
    ("weights", "down"): lambda h, x, plan: WeightsDownlink(h.round, x, plan.exact),
}


def register_builder(kind: str, up: Any, down: Any = None) -> None:
    """How to make the messages of a kind from a header, content and plan."""
    _BUILDERS[kind, "up"] = up
    if down is not None:
        _BUILDERS[kind, "down"] = down


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
    """``codec.decode`` with the promise that only PacketError comes out of it."""
    try:
        return codec.decode(payload, plan, memory, side)
    except PacketError:
        raise
    except Exception as error:  # a defect of the codec must not end a server; tests look for this cause
        raise PacketError("payload", f"codec '{codec.name}' failed on it ({type(error).__name__}: {error})") from error
