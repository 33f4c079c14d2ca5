"""Weights under a mask: a bitmap once per change, then the survivors, by any codec of weights.

A packet begins with one byte: 0, a bitmap follows (`bitmaps`); 1, it is that of the memory; 2, it is that of the newest
message of the other direction. Behind it stands what the codec of the same name makes of the survivors. The bitmap is
part of a stream's memory, so references, acknowledgements and intra packets do for it what they do for spikes: it is
sent again exactly when the other end does not have it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.bitmaps import encode_bitmap, read_bitmap
from spikefed.wire.codec import Codec, Memory, SideInfo, codecs, find, register
from spikefed.wire.messages import Message, WeightsMessage, message
from spikefed.wire.parts import Part
from spikefed.wire.plan import Plan, TensorSpec, placed, taken, tensor_specs

NEW = 0
OF_MEMORY = 1
OF_SIDE = 2
OFFSET = 128
"""Number of a codec of selected weights above that of the codec of weights of the same name."""


@dataclass(frozen=True, eq=False)
class Survivors:
    """tensors: whole arrays by name; kept: bool array, of the same shape, of every masked one."""

    tensors: Mapping[str, np.ndarray]
    kept: Mapping[str, np.ndarray]


def packed(kept: Mapping[str, np.ndarray], table: tuple[TensorSpec, ...]) -> np.ndarray:
    """uint8: the bits of all masked tensors of a table one behind the other, row-major, first one in the top bit.

    Flat.
    """
    masks = [kept[spec.name].reshape(-1) for spec in table if spec.masked]
    return np.packbits(np.concatenate([np.zeros(0, dtype=bool), *masks]))


def unpacked(bitmap: np.ndarray, table: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
    """Inverse of ``packed``. bool in the tensors' shapes."""
    kept: dict[str, np.ndarray] = {}
    at = 0
    bits = np.unpackbits(bitmap, count=sum(spec.elements for spec in table if spec.masked)).astype(bool)
    for spec in table:
        if spec.masked:
            kept[spec.name] = bits[at : at + spec.elements].reshape(spec.shape)
            at += spec.elements
    return kept


class Selected(Codec):
    """The codec of weights of the same name, on the entries that a bitmap leaves."""

    kind = "selected-weights"
    uses_side = True

    def __init__(self, inner: Codec) -> None:
        self.inner = inner
        self.name = inner.name
        self.number = inner.number + OFFSET
        self.lossless = inner.lossless
        self.feedback = inner.feedback
        self.description = f"a bitmap once per change, then the survivors by codec {inner.name}"

    def side_bits(self, kind: str, content: Any, plan: Plan) -> np.ndarray | None:
        return packed(content.kept, plan.tensors) if kind == self.kind else None

    def side_size(self, plan: Plan) -> int:
        return (sum(spec.elements for spec in plan.masked) + 7) // 8

    def encode(
        self, content: Survivors, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory]:
        bitmap = packed(content.kept, plan.tensors)
        if _same(bitmap, _remembered(memory)):
            head = bytes((OF_MEMORY,))
        elif _same(bitmap, side.packed if side is not None else None):
            head = bytes((OF_SIDE,))
        else:
            masks = [content.kept[spec.name].reshape(-1) for spec in plan.masked]
            head = bytes((NEW,)) + encode_bitmap(masks)
        narrow = plan.narrowed(content.kept)
        body, new = self.inner.encode(taken(content.tensors, narrow.tensors), narrow, memory, None)
        return head + body, _with_bitmap(new, bitmap)

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[Survivors, Memory]:
        kept, body = self._kept(payload, plan, memory, side)
        narrow = plan.narrowed(kept)
        arrays, new = self.inner.decode(body, narrow, None, None)
        return Survivors(placed(arrays, narrow.tensors), kept), _with_bitmap(new, packed(kept, plan.tensors))

    def _kept(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[dict[str, np.ndarray], memoryview]:
        """The masks that a payload names, and what stands behind them."""
        form = payload[0] if len(payload) else None
        if form == NEW:
            masks, rest = read_bitmap(payload[1:], [spec.elements for spec in plan.masked])
            return {s.name: m.reshape(s.shape) for s, m in zip(plan.masked, masks, strict=True)}, rest
        if form not in (OF_MEMORY, OF_SIDE):
            raise PacketError("bitmap", f"begins with {form}, not with 0, 1 or 2")
        known = _remembered(memory) if form == OF_MEMORY else side.packed if side is not None else None
        if known is None or known.size != self.side_size(plan):
            raise PacketError("bitmap", "left out, though the packet was coded against none")
        return unpacked(known, plan.tensors), payload[1:]

    def before(self, memory: Memory) -> Memory | None:
        return self.inner.before(memory)

    def unsent(self, memory: Memory) -> Memory | None:
        return self.inner.unsent(memory)


def _same(bitmap: np.ndarray, known: np.ndarray | None) -> bool:
    return known is not None and np.array_equal(bitmap, known)


def _remembered(memory: Memory | None) -> np.ndarray | None:
    return memory.shared.get("bitmap") if memory is not None else None


def _with_bitmap(memory: Memory | None, bitmap: np.ndarray) -> Memory:
    kept = memory or Memory()
    return Memory({**kept.shared, "bitmap": bitmap}, kept.private)


class _SelectedWeights(WeightsMessage):
    kind = "selected-weights"
    kept: Mapping[str, np.ndarray]

    def check_kept(self, content: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray | None]) -> None:
        for name, mask in kept.items():
            if name not in content:
                raise PacketError("kept", f"'{name}' is no tensor of this message")
            if mask is None:
                raise PacketError("kept", f"'{name}' has no mask; leave its name out where it is not masked")
            Part.of(name, content[name].shape, mask)

    @property
    def table(self) -> tuple[TensorSpec, ...]:
        return tensor_specs(self.content, self.exact, masked=self.kept)

    @property
    def source(self) -> Survivors:
        return Survivors(self.content, self.kept)

    @classmethod
    def parts(cls, source: Survivors, plan: Plan) -> dict[str, Any]:
        return {"tensors": dict(source.tensors), "kept": dict(source.kept)}

    @property
    def own_bytes(self) -> int:
        return sum(spec.nbytes for spec in self.plan().narrowed(self.kept).tensors)

    def plan(self) -> Plan:
        client = getattr(self, "client", None)
        return Plan.selected_weights(self.direction, round=self.round, client=client, tensors=self.table)


@message
class SelectedWeightsUplink(_SelectedWeights):
    """A client's tensors under a mask, and the samples behind them.

    Attributes: tensors whole, in state_dict order (entries outside the mask do not travel and arrive as 0); kept: bool
    mask, of its shape, of every tensor that may be masked; exact: names of tensors that no codec may change.
    """

    round: int
    client: int
    tensors: dict[str, np.ndarray]
    kept: Mapping[str, np.ndarray]
    samples: int
    accuracy: float
    exact: Collection[str] = ()
    direction = "up"


@message
class SelectedWeightsDownlink(_SelectedWeights):
    """The server's tensors under a mask. Attributes as in ``SelectedWeightsUplink``."""

    round: int
    tensors: dict[str, np.ndarray]
    kept: Mapping[str, np.ndarray]
    exact: Collection[str] = ()
    direction = "down"


def check_follows(uplink: Message, bitmap: np.ndarray | None) -> None:
    """Refuse an uplink under another mask than that of the newest downlink to its sender; without one, under any mask.
    ``bitmap`` is flat uint8.

    Raises:
        PacketError("bitmap"): it is another.
    """
    assert isinstance(uplink, _SelectedWeights)
    sent = packed(uplink.kept, uplink.table)
    wanted = packed({n: np.ones_like(m) for n, m in uplink.kept.items()}, uplink.table) if bitmap is None else bitmap
    if not np.array_equal(sent, wanted):
        raise PacketError("bitmap", "another mask than the server's; send what its newest message left")


for _info in codecs("weights"):
    register(Selected(find("weights", _info.name)))
