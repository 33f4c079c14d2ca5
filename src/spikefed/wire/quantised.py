"""Dense weight codecs of fewer bits: fp16, QSGD (Alistarh et al., NeurIPS 2017), cosine quantisation (2012.08241)."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.bitio import (
    BitReader,
    elias_bits,
    elias_delta_bits,
    fixed_bits,
    read_elias,
    read_elias_delta,
)
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.floats import HALF_MAX, cut_others, finite_float, finite_norm, float_specs, join, sizes, split
from spikefed.wire.plan import Plan
from spikefed.wire.varint import Cursor, varint

_Tensors = dict[str, np.ndarray]


class Half(Codec):
    """Floats as IEEE 754 half precision; integers and exact tensors keep their own bytes."""

    name = "fp16"
    number = 17
    kind = "weights"
    description = "floats as fp16 (2 bytes a weight)"
    lossless = False

    def encode(self, content: _Tensors, plan: Plan, memory: Memory | None, side: SideInfo | None) -> tuple[bytes, None]:
        vector, others = join(content, plan)
        return np.clip(vector, -HALF_MAX, HALF_MAX).astype("<f2").tobytes() + others, None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[_Tensors, None]:
        coded, others = cut_others(payload, plan)
        if len(coded) != 2 * sizes(plan)[0]:
            raise PacketError("payload", f"{len(coded)} bytes where {sizes(plan)[0]} halves are due")
        return split(np.frombuffer(coded, dtype="<f2").astype(np.float32), others, plan), None


class Qsgd(Codec):
    """Per tensor: its 2-norm, then for each weight a level 0..s chosen at random so that the mean is exact.

    Levels travel as the paper's Code_s (its appendix A.2): gaps between the weights that are not 0 as Elias numbers,
    their signs, their levels as Elias numbers; or, where that is shorter, every level + 1 as an Elias number (its
    Code'_s). The random numbers come from the content, the round and the client, so a run can be repeated and runs of
    different seeds round differently; the receiver needs none.
    """

    kind = "weights"
    lossless = False

    def __init__(self, name: str, number: int, levels: int) -> None:
        description = f"QSGD, {levels} level{'s' if levels > 1 else ''} and sign, Elias-coded"
        self.name = name
        self.number = number
        self.description = description
        self.levels = levels

    def encode(self, content: _Tensors, plan: Plan, memory: Memory | None, side: SideInfo | None) -> tuple[bytes, None]:
        vector, others = join(content, plan)
        sender = plan.client if plan.client is not None else 2**32
        entropy = [plan.round, sender, zlib.crc32(vector.tobytes())]
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
        head: list[bytes] = []
        bits: list[np.ndarray] = []
        at = 0
        for spec in float_specs(plan):
            part = vector[at : at + spec.elements].astype(np.float64)
            at += spec.elements
            norm = finite_norm(part, spec)
            scaled = np.abs(part) * (self.levels / float(norm)) if norm > 0 else np.zeros_like(part)
            level = np.floor(scaled).astype(np.int64)
            level = np.minimum(level + (random.random(part.size) < scaled - level), self.levels)
            places = np.flatnonzero(level)
            sparse = elias_delta_bits(np.diff(places, prepend=-1))
            if self.levels > 1:
                sparse = np.concatenate([sparse, elias_bits(level[places])])
            dense = elias_bits(level + 1)
            few = sparse.size <= dense.size
            head.append(struct.pack("<f", norm) + varint(len(places) + 1 if few else 0, "payload"))
            bits += [sparse if few else dense, (part[places] < 0).astype(np.uint8)]
        stream = np.packbits(np.concatenate(bits)).tobytes() if bits else b""
        return b"".join(head) + stream + others, None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[_Tensors, None]:
        coded, others = cut_others(payload, plan)
        specs = float_specs(plan)
        cursor = Cursor(coded)
        heads: list[tuple[float, int]] = []
        for spec in specs:
            norm = finite_float(struct.unpack("<f", cursor.take(4, "payload"))[0], "a norm")
            count = cursor.varint("payload")
            if norm < 0 or count > spec.elements + 1:
                raise PacketError("payload", f"norm {norm} and {count - 1} of {spec.elements} weights of '{spec.name}'")
            heads.append((norm, count))
        reader = BitReader(coded[cursor.at :])
        vector = np.zeros(sizes(plan)[0], dtype=np.float32)
        at = 0
        for spec, (norm, count) in zip(specs, heads, strict=True):
            if count:
                places = np.cumsum(read_elias_delta(reader, count - 1, spec.elements), dtype=np.int64) - 1
                if count > 1 and places[-1] >= spec.elements:
                    raise PacketError("payload", f"position {places[-1]} of {spec.elements} weights of '{spec.name}'")
                level = read_elias(reader, count - 1, self.levels) if self.levels > 1 else np.ones(count - 1, np.uint8)
            else:
                every = read_elias(reader, spec.elements, self.levels + 1) - 1
                places = np.flatnonzero(every)
                level = every[places]
            values = level.astype(np.float32) * np.float32(norm / self.levels)
            vector[at + places] = np.where(reader.take(places.size) == 1, -values, values)
            at += spec.elements
        reader.finish()
        return split(vector, others, plan), None


class Cosine(Codec):
    """Per tensor: norm, angle bound, and each angle arccos(v_i / |v|) in b bits, uniform in [bound, pi - bound]."""

    kind = "weights"
    lossless = False

    def __init__(self, name: str, number: int, bits: int) -> None:
        self.name = name
        self.number = number
        self.bits = bits
        self.description = f"cosine quantisation: {bits} bits a weight's angle"

    def encode(self, content: _Tensors, plan: Plan, memory: Memory | None, side: SideInfo | None) -> tuple[bytes, None]:
        vector, others = join(content, plan)
        head: list[np.float32] = []
        codes: list[np.ndarray] = []
        at = 0
        steps = (1 << self.bits) - 1
        for spec in float_specs(plan):
            part = vector[at : at + spec.elements].astype(np.float64)
            at += spec.elements
            norm = finite_norm(part, spec)
            cosine = np.clip(part / float(norm), -1, 1) if norm > 0 else np.zeros_like(part)
            bound = np.float32(np.arccos(np.abs(cosine).max(initial=0.0)))
            width = np.pi - 2 * float(bound)
            place = (np.arccos(cosine) - float(bound)) / width * steps if width > 0 else np.zeros_like(part)
            codes.append(np.clip(_nearest(place), 0, steps).astype(np.int64))
            head += [norm, bound]
        stream = np.packbits(fixed_bits(np.concatenate(codes), self.bits)).tobytes() if codes else b""
        return struct.pack(f"<{len(head)}f", *head) + stream + others, None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[_Tensors, None]:
        coded, others = cut_others(payload, plan)
        specs = float_specs(plan)
        steps = (1 << self.bits) - 1
        if len(coded) < 8 * len(specs):
            raise PacketError("payload", f"too short for the side values of {len(specs)} tensors")
        if len(coded) != 8 * len(specs) + (sizes(plan)[0] * self.bits + 7) // 8:
            raise PacketError("payload", f"{len(coded)} bytes do not hold {sizes(plan)[0]} codes of {self.bits} bits")
        head = struct.unpack_from(f"<{2 * len(specs)}f", coded)
        reader = BitReader(coded[8 * len(specs) :])
        vector = np.zeros(sizes(plan)[0], dtype=np.float32)
        at = 0
        for index, spec in enumerate(specs):
            norm, bound = (finite_float(value, "a norm or bound") for value in head[2 * index : 2 * index + 2])
            if norm < 0 or not 0 <= bound <= 1.58:
                raise PacketError("payload", f"norm {norm} or angle bound {bound}, which is not in [0, pi/2]")
            angles = bound + np.arange(steps + 1) * ((np.pi - 2 * bound) / steps)
            values = (norm * np.cos(angles)).astype(np.float32) if norm else np.zeros(steps + 1, np.float32)
            vector[at : at + spec.elements] = values[reader.fixed(spec.elements, self.bits)]
            at += spec.elements
        reader.finish()
        return split(vector, others, plan), None


def _nearest(place: np.ndarray) -> np.ndarray:
    """The nearest integers; of numbers halfway between two every other one goes down.

    A weight of 0 lies halfway, as 2^b angles have none in the middle: rounded one way, all such would drift together.
    """
    code = np.rint(place)
    halfway = np.flatnonzero(np.abs(place - np.floor(place) - 0.5) < 1e-9)
    code[halfway] = np.floor(place[halfway]) + np.arange(len(halfway)) % 2
    return code


for _codec in (
    Half(), Qsgd("qsgd-1", 54, 1), Qsgd("qsgd-7", 55, 7), Cosine("cosine-2", 56, 2), Cosine("cosine-4", 57, 4)
):  # fmt: skip
    register(_codec)
