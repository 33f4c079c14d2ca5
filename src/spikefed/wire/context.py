"""Spike codec ``context``: lossless adaptive arithmetic coding of spike trains (docs/wire-format.md, section 5).

No paper entropy-codes output spikes. This codec predicts each train from what both ends hold: the global spikes of this
round, the stream's last accepted message, the classes already coded in the row, and rows with alike public images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire import contextnative, contexttwin
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.contextmodel import NEAR, ModelState
from spikefed.wire.narrowing import fitting, narrow, widen
from spikefed.wire.packed import PackedSpikes, check_bits, packed_bytes
from spikefed.wire.plan import Plan
from spikefed.wire.share import Share

MAX_STEPS = 64  # longer trains travel as Algorithm 2 bits


def encode_packed(
    packed: np.ndarray, shape: tuple[int, int, int], memory: Memory | None = None, side: SideInfo | None = None
) -> tuple[bytes, Memory]:
    """Code Algorithm 2 bits (uint8, ``packed_bytes(shape)``); returns the payload and what to remember of it.

    Args:
        packed: Algorithm 2 bits.
        shape: ``(N, C, T)`` of all rows.
        memory: what both ends keep of messages before.
        side: content of the other direction that both ends know.
    """
    limit = packed_bytes(shape)
    if 0 < shape[2] <= MAX_STEPS and limit:
        state = ModelState.recall(memory)
        code = np.empty(limit - 1, dtype=np.uint8)  # a coded payload is shorter than the bits, or the bits are sent
        size, _, _ = _run(packed, shape, memory, side, code, state, decode=False)
        if size >= 0:
            return code[:size].tobytes(), Memory({"previous": packed, **state.arrays()})
    return packed.tobytes(), _plain_memory(packed, memory)


def decode_packed(
    payload: memoryview | bytes, shape: tuple[int, int, int], memory: Memory | None = None, side: SideInfo | None = None
) -> tuple[np.ndarray, Memory]:
    """Inverse of ``encode_packed``. Raises PacketError unless the payload is what the encoder writes.

    Args:
        payload: the coder's bytes.
        shape: ``(N, C, T)`` of all rows.
        memory: what both ends keep of messages before.
        side: content of the other direction that both ends know.
    """
    limit = packed_bytes(shape)
    code = np.frombuffer(payload, dtype=np.uint8)
    if code.size > limit:
        raise PacketError("payload", f"{code.size} bytes where spikes {shape} need at most {limit}")
    if code.size == limit:
        packed = check_bits(code, shape).copy()
        return packed, _plain_memory(packed, memory)
    if shape[2] > MAX_STEPS:
        raise PacketError("payload", f"trains of {shape[2]} steps are never coded, yet the payload is short")
    state = ModelState.recall(memory)
    packed = np.zeros(limit, dtype=np.uint8)
    result, _, _ = _run(packed, shape, memory, side, code, state, decode=True)
    if result < 0:
        raise PacketError("payload", "not what the encoder writes: altered, or coded against something else")
    return packed, Memory({"previous": packed, **state.arrays()})


def encode_share(
    packed: np.ndarray, shape: tuple[int, int, int], share: Share | None, memory: Memory | None, side: SideInfo | None
) -> tuple[bytes, Memory]:
    """``encode_packed`` of a share of the rows (None: all); memory and side information are of all rows.

    Args:
        packed: Algorithm 2 bits.
        share: rows that the message is about, or None.
        shape: ``(N, C, T)`` of all rows.
        memory: what both ends keep of messages before.
        side: content of the other direction that both ends know.
    """
    if share is None:
        return encode_packed(packed, shape, fitting(memory, shape), side)
    inner = shape[1:]
    memory = fitting(memory, (share.total, *shape[1:]))
    payload, new = encode_packed(packed, shape, *narrow(share, memory, side, inner))
    return payload, widen(share, new, memory, inner)


def decode_share(
    payload: memoryview, shape: tuple[int, int, int], share: Share | None, memory: Memory | None, side: SideInfo | None
) -> tuple[np.ndarray, Memory]:
    """Inverse of ``encode_share``.

    Args:
        payload: the coder's bytes.
        share: rows that the message is about, or None.
        shape: ``(N, C, T)`` of all rows.
        memory: what both ends keep of messages before.
        side: content of the other direction that both ends know.
    """
    if share is None:
        return decode_packed(payload, shape, fitting(memory, shape), side)
    inner = shape[1:]
    memory = fitting(memory, (share.total, *shape[1:]))
    packed, new = decode_packed(payload, shape, *narrow(share, memory, side, inner))
    return packed, widen(share, new, memory, inner)


def ideal_bits(
    packed: np.ndarray, shape: tuple[int, int, int], memory: Memory | None = None, side: SideInfo | None = None
) -> tuple[float, int]:
    """Sum of -log2 p over all decisions (the model's own ideal code length), and the number of decisions.

    Args:
        packed: Algorithm 2 bits.
        shape: ``(N, C, T)`` of all rows.
        memory: what both ends keep of messages before.
        side: content of the other direction that both ends know.
    """
    code = np.empty(packed_bytes(shape) * 2 + 64, dtype=np.uint8)
    _, bits, decisions = _run(packed, shape, memory, side, code, ModelState.recall(memory), decode=False, measure=True)
    return bits, decisions


def _run(
    packed: np.ndarray, shape: tuple[int, int, int], memory: Memory | None, side: SideInfo | None, code: np.ndarray,
    state: ModelState, *, decode: bool, measure: bool = False,
) -> tuple[int, float, int]:  # fmt: skip
    previous = memory.shared["previous"] if memory is not None else None
    global_ = side.packed if side is not None else None
    near = side.near if side is not None else None
    for array in (packed, previous, global_):  # native code trusts these sizes
        if array is not None and (array.dtype != np.uint8 or array.size != packed_bytes(shape)):
            raise PacketError("shape", f"{array.size} bytes of bits where spikes {shape} need {packed_bytes(shape)}")
    if near is not None and near.shape != (shape[0], NEAR):
        raise PacketError("near", f"rows {near.shape} beside spikes {shape}")
    run = contextnative.run if contextnative.available() else contexttwin.run
    return run(packed, global_, previous, near, code, state, shape, decode=decode, measure=measure)


def _plain_memory(packed: np.ndarray, memory: Memory | None) -> Memory:
    """After a message that travelled as plain bits: its spikes are the new reference, nothing was learned."""
    learned = {name: array for name, array in memory.shared.items() if name != "previous"} if memory else {}
    return Memory({"previous": packed, **learned})


class ContextCodec(Codec):
    """Base of all codecs that turn their content into 0/1 trains [n, c, t] and code these with the context model."""

    uses_side = True

    def bit_shape(self, plan: Plan) -> tuple[int, int, int]:
        """Shape of the trains; known from the plan alone."""
        return plan.shape

    def to_bits(self, content: Any, plan: Plan) -> np.ndarray:
        """uint8 trains of ``bit_shape``. Shape ``(N, C, T)``."""
        raise NotImplementedError

    def from_bits(self, bits: np.ndarray, plan: Plan) -> Any:
        """Inverse of ``to_bits``. Raises PacketError for trains that no content makes.

        Shape ``(N, C, T)`` of ``bit_shape``.
        """
        raise NotImplementedError

    def pack(self, content: Any, plan: Plan) -> np.ndarray:
        """Algorithm 2 bits of the trains. Flat uint8."""
        return np.packbits(self.to_bits(content, plan).reshape(-1))

    def unpack(self, packed: np.ndarray, plan: Plan) -> Any:
        """Inverse of ``pack``. Takes flat uint8."""
        return self.from_bits(PackedSpikes(packed, self.bit_shape(plan)).unpack(), plan)

    def side_bits(self, kind: str, content: Any, plan: Plan) -> np.ndarray | None:
        return self.pack(content, plan) if kind == self.kind else None

    def side_size(self, plan: Plan) -> int:
        return packed_bytes((plan.public_rows, *self.bit_shape(plan)[1:]))

    def encode(
        self, content: Any, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory | None]:
        return encode_share(self.pack(content, plan), self.bit_shape(plan), plan.share, memory, side)

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[Any, Memory | None]:
        packed, new = decode_share(payload, self.bit_shape(plan), plan.share, memory, side)
        return self.unpack(packed, plan), new


class Context(ContextCodec):
    """Output spikes by adaptive arithmetic coding; the model is stated in `contexttwin`."""

    name = "context"
    number = 2
    kind = "spikes"
    description = (
        "adaptive arithmetic coding against global spikes, last upload and the row itself; never above bitpack"
    )

    def pack(self, content: PackedSpikes, plan: Plan) -> np.ndarray:
        return content.bits

    def unpack(self, packed: np.ndarray, plan: Plan) -> PackedSpikes:
        return PackedSpikes(packed, plan.shape)


register(Context())
