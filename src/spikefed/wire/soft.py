"""Rivals' payloads of real numbers: soft labels (DS-FL, Itahara et al.) and per-class means (FD, Jeong et al.)."""

from __future__ import annotations

import numpy as np
import zstandard

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, SideInfo, register
from spikefed.wire.floats import HALF_MAX
from spikefed.wire.inflate import inflated
from spikefed.wire.plan import Plan


def _floats(payload: memoryview | bytes, dtype: str, count: int) -> np.ndarray:
    values = np.frombuffer(payload, dtype=dtype)
    if values.size != count:
        raise PacketError("payload", f"{values.size} numbers where {count} are due")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise PacketError("payload", "a NaN or an infinity among the probabilities or means")
    return values


def _narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers in the format that travels; halves are clipped to +-65504."""
    return np.clip(values, -HALF_MAX, HALF_MAX).astype(dtype) if dtype == "<f2" else values.astype(dtype)


class RawProbabilities(Codec):
    """Numbers [N, C] in one float format."""

    kind = "probabilities"

    def __init__(self, name: str, number: int, dtype: str, description: str) -> None:
        self.name = name
        self.number = number
        self.dtype = dtype
        self.description = description
        self.lossless = dtype == "<f4"

    def encode(
        self, content: np.ndarray, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, None]:
        return _narrow(content, self.dtype).tobytes(), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[np.ndarray, None]:
        n, c, _ = plan.shape
        if len(payload) != n * c * np.dtype(self.dtype).itemsize:
            raise PacketError("payload", f"{len(payload)} bytes do not hold {n} x {c} numbers of {self.dtype}")
        return _floats(payload, self.dtype, n * c).reshape(n, c), None


class ZstdProbabilities(Codec):
    """Soft labels as half precision, compressed by Zstandard."""

    name = "fp16-zstd"
    number = 42
    kind = "probabilities"
    description = "soft labels as fp16, high and low bytes apart, zstd level 19"
    lossless = False

    def encode(
        self, content: np.ndarray, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, None]:
        planes = np.ascontiguousarray(_narrow(content, "<f2").reshape(-1).view(np.uint8).reshape(-1, 2).T)
        return zstandard.ZstdCompressor(level=19, write_content_size=True).compress(planes.tobytes()), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[np.ndarray, None]:
        n, c, _ = plan.shape
        size = 2 * n * c
        planes = inflated(payload, size, "payload", f"compressed content is not of the {size} bytes due")
        joined = np.ascontiguousarray(np.frombuffer(planes, dtype=np.uint8).reshape(2, -1).T)
        return _floats(joined.tobytes(), "<f2", n * c).reshape(n, c), None


class ClassMeans(Codec):
    """Mean outputs [C, D] of the classes a client has; a row of NaN means it has none, and only a 0 bit travels."""

    kind = "class-means"

    def __init__(self, name: str, number: int, dtype: str, description: str) -> None:
        self.name = name
        self.number = number
        self.dtype = dtype
        self.description = description
        self.lossless = dtype == "<f4"

    def encode(
        self, content: np.ndarray, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[bytes, None]:
        present = ~np.isnan(content).all(axis=1)
        return np.packbits(present).tobytes() + _narrow(content[present], self.dtype).tobytes(), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: SideInfo | None
    ) -> tuple[np.ndarray, None]:
        rows, width, _ = plan.shape
        head = (rows + 7) // 8
        if len(payload) < head:
            raise PacketError("payload", f"{len(payload)} bytes cannot hold the mask of {rows} classes")
        mask = np.frombuffer(payload[:head], dtype=np.uint8)
        present = np.unpackbits(mask, count=rows).astype(bool)
        size = int(present.sum()) * width * np.dtype(self.dtype).itemsize
        if len(payload) != head + size or not np.array_equal(np.packbits(present), mask):
            raise PacketError("payload", f"{len(payload)} bytes where the class mask asks for {head + size}")
        means = np.full((rows, width), np.nan, dtype=np.float32)
        means[present] = _floats(payload[head:], self.dtype, int(present.sum()) * width).reshape(-1, width)
        return means, None


for _codec in (
    RawProbabilities("fp16", 40, "<f2", "soft labels as fp16 (DS-FL)"),
    RawProbabilities("float32", 41, "<f4", "soft labels as float32"),
    ZstdProbabilities(),
    ClassMeans("float32", 44, "<f4", "per-class means as float32 (FD)"),
    ClassMeans("fp16", 45, "<f2", "per-class means as fp16 (FD)"),
):
    register(_codec)
