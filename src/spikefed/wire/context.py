"""Spike codec ``context``: lossless adaptive arithmetic coding of spike trains (docs/wire-format.md, section 5).

No paper entropy-codes output spikes. This codec predicts each train from what both ends hold: the global spikes of this
round, the stream's last accepted message, the classes already coded in the row, and rows with alike public images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire import contextnative, contexttwin
from spikefed.wire.bitpack import decompress, packed_bytes
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.contextmodel import ModelState
from spikefed.wire.plan import Plan

MAX_STEPS = 64  # longer trains travel as Algorithm 2 bits


def encode_packed(
    packed: np.ndarray, shape: tuple[int, int, int], memory: Memory | None = None, side: SideInfo | None = None
) -> tuple[bytes, Memory]:
    """Code Algorithm 2 bits (uint8, ``packed_bytes(shape)``); returns the payload and what to remember of it."""
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
    """Inverse of ``encode_packed``. Raises PacketError unless the payload is what the encoder writes."""
    limit = packed_bytes(shape)
    code = np.frombuffer(payload, dtype=np.uint8)
    if code.size > limit:
        raise PacketError("payload", f"{code.size} bytes where spikes {shape} need at most {limit}")
    if code.size == limit:
        decompress(payload, shape)  # checks the padding
        return code.copy(), _plain_memory(code.copy(), memory)
    if shape[2] > MAX_STEPS:
        raise PacketError("payload", f"trains of {shape[2]} steps are never coded, yet the payload is short")
    state = ModelState.recall(memory)
    packed = np.zeros(limit, dtype=np.uint8)
    result, _, _ = _run(packed, shape, memory, side, code, state, decode=True)
    if result < 0:
        raise PacketError("payload", "not what the encoder writes: altered, or coded against something else")
    return packed, Memory({"previous": packed, **state.arrays()})


def ideal_bits(
    packed: np.ndarray, shape: tuple[int, int, int], memory: Memory | None = None, side: SideInfo | None = None
) -> tuple[float, int]:
    """Sum of -log2 p over all decisions (the model's own ideal code length), and the number of decisions."""
    code = np.empty(packed_bytes(shape) * 2 + 64, dtype=np.uint8)
    _, bits, decisions = _run(packed, shape, memory, side, code, ModelState.recall(memory), decode=False, measure=True)
    return bits, decisions


def pack_blocks(blocks: Iterable[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """Algorithm 2 bits of a message that comes as blocks of rows [n, C, T], without holding it unpacked."""
    n, c, t = shape
    packed, bit = np.zeros(packed_bytes(shape), dtype=np.uint8), 0
    for block in blocks:
        if block.shape[1:] != (c, t) or bit + block.size > n * c * t:
            raise PacketError("shape", f"a block {block.shape} does not fit into spikes {shape}")
        start, lead = divmod(bit, 8)
        bits = np.packbits(np.concatenate([np.zeros(lead, np.uint8), block.reshape(-1)]))
        packed[start : start + bits.size] |= bits
        bit += block.size
    if bit != n * c * t:
        raise PacketError("shape", f"blocks hold {bit} spikes where {shape} needs {n * c * t}")
    return packed


def unpack_blocks(packed: np.ndarray, shape: tuple[int, int, int], rows: int = 4096) -> Iterator[np.ndarray]:
    """Blocks of at most ``rows`` rows, uint8 [n, C, T], of Algorithm 2 bits."""
    n, c, t = shape
    for first in range(0, n, rows):
        count = min(rows, n - first)
        start, lead = divmod(first * c * t, 8)
        stop = (first * c * t + count * c * t + 7) // 8
        bits = np.unpackbits(packed[start:stop], count=lead + count * c * t)[lead:]
        yield bits.reshape(count, c, t)


def _run(
    packed: np.ndarray, shape: tuple[int, int, int], memory: Memory | None, side: SideInfo | None, code: np.ndarray,
    state: ModelState, *, decode: bool, measure: bool = False,
) -> tuple[int, float, int]:  # fmt: skip
    previous = memory.shared["previous"] if memory is not None else None
    global_ = side.packed if side is not None else None
    near = side.near if side is not None else None
    run = contextnative.run if contextnative.available() else contexttwin.run
    return run(packed, global_, previous, near, code, state, shape, decode=decode, measure=measure)


def _plain_memory(packed: np.ndarray, memory: Memory | None) -> Memory:
    """After a message that travelled as plain bits: its spikes are the new reference, nothing was learned."""
    learned = {name: array for name, array in memory.shared.items() if name != "previous"} if memory else {}
    return Memory({"previous": packed, **learned})


class Context(Codec):
    name = "context"
    number = 2
    kind = "spikes"
    description = (
        "adaptive arithmetic coding against global spikes, last upload and the row itself; never above bitpack"
    )
    uses_side = True

    def encode(
        self, content: np.ndarray, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory | None]:
        return encode_packed(np.packbits(content.reshape(-1)), plan.shape, _same_size(memory, plan), side)

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[np.ndarray, Memory | None]:
        packed, new = decode_packed(payload, plan.shape, _same_size(memory, plan), side)
        return decompress(packed.data, plan.shape), new


def _same_size(memory: Memory | None, plan: Plan) -> Memory | None:
    """The memory, without spikes of another shape (a public set that changed between rounds)."""
    if memory is None or memory.shared["previous"].size != packed_bytes(plan.shape):
        return None
    return memory


register(Context())
