"""Output spikes and hint spikes of an inner layer in one message (HDSFL): both packed, or both entropy-coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.context import decode_packed, encode_packed
from spikefed.wire.packed import PackedSpikes, check_bits, packed_bytes
from spikefed.wire.plan import Plan
from spikefed.wire.varint import Cursor, varint

_HINT = "hint."  # prefix of the hint's arrays in a memory


@dataclass(frozen=True, eq=False)
class HintSpikes:
    """spikes: uint8 [N, C, T], output spikes; hint: uint8 [N, H, T], spikes of the hint layer."""

    spikes: np.ndarray
    hint: np.ndarray


def _shapes(plan: Plan) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    n, _, t = plan.shape
    return plan.shape, (n, plan.hint, t)


def _bits(spikes: np.ndarray) -> np.ndarray:
    return PackedSpikes.of(spikes).bits


def _content(outputs: np.ndarray, hint: np.ndarray, plan: Plan) -> HintSpikes:
    shapes = _shapes(plan)
    return HintSpikes(PackedSpikes(outputs, shapes[0]).unpack(), PackedSpikes(hint, shapes[1]).unpack())


class PackedHint(Codec):
    """Output and hint spikes, each packed as a message of spikes is."""

    name = "bitpack"
    number = 37
    kind = "hint-spikes"
    description = "output spikes, then hint spikes, each as Algorithm 2 packs them"

    def encode(
        self, content: HintSpikes, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, None]:
        return _bits(content.spikes).tobytes() + _bits(content.hint).tobytes(), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[HintSpikes, None]:
        outputs, hint = _shapes(plan)
        cut = packed_bytes(outputs)
        if len(payload) != cut + packed_bytes(hint):
            raise PacketError("payload", f"{len(payload)} bytes where {outputs} and {hint} need other")
        outputs_bits = check_bits(payload[:cut], outputs)
        hint_bits = check_bits(payload[cut:], hint)
        return _content(outputs_bits, hint_bits, plan), None


class ContextHint(Codec):
    """Length of the first code (varint), output spikes coded as in codec 2, hint spikes coded likewise, each with a
    model and a memory of its own; the newest global spikes help the output spikes.
    """

    name = "context"
    number = 38
    kind = "hint-spikes"
    description = "output and hint spikes, both entropy-coded against the last upload"
    uses_side = True

    def side_bits(self, kind: str, content: Any, plan: Plan) -> np.ndarray | None:
        return content.bits if kind == "spikes" else None

    def side_size(self, plan: Plan) -> int:
        return packed_bytes(_shapes(plan)[0])

    def encode(
        self, content: HintSpikes, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, Memory]:
        outputs, hint = _shapes(plan)
        known, known_hint = _parts(memory, plan)
        first, new = encode_packed(_bits(content.spikes), outputs, known, side)
        second, new_hint = encode_packed(_bits(content.hint), hint, known_hint, _near_only(side))
        return varint(len(first), "payload") + first + second, _joined(new, new_hint)

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[HintSpikes, Memory]:
        outputs, hint = _shapes(plan)
        known, known_hint = _parts(memory, plan)
        cursor = Cursor(payload)
        size = cursor.varint("payload")
        if size > len(payload) - cursor.at:
            raise PacketError("payload", f"output spikes of {size} bytes in {len(payload)}")
        end = cursor.at + size
        packed, new = decode_packed(payload[cursor.at : end], outputs, known, side)
        packed_hint, new_hint = decode_packed(payload[end:], hint, known_hint, _near_only(side))
        return _content(packed, packed_hint, plan), _joined(new, new_hint)


def _near_only(side: SideInfo | None) -> SideInfo | None:
    return SideInfo(None, side.near) if side is not None and side.near is not None else None


def _joined(outputs: Memory, hint: Memory) -> Memory:
    return Memory({**outputs.shared, **{_HINT + name: array for name, array in hint.shared.items()}})


def _parts(memory: Memory | None, plan: Plan) -> tuple[Memory | None, Memory | None]:
    """Memories of the two tensors; none if they were of other shapes."""
    shared: Mapping[str, np.ndarray] = memory.shared if memory is not None else {}
    parts = (
        {name: array for name, array in shared.items() if not name.startswith(_HINT)},
        {name.removeprefix(_HINT): array for name, array in shared.items() if name.startswith(_HINT)},
    )
    sizes = [packed_bytes(shape) for shape in _shapes(plan)]
    fits = all("previous" in part and part["previous"].size == size for part, size in zip(parts, sizes, strict=True))
    return (Memory(parts[0]), Memory(parts[1])) if fits else (None, None)


for _codec in (PackedHint(), ContextHint()):
    register(_codec)
