"""Weight codec ``float32``: every tensor's own bytes, little endian, in the order both ends know."""

from __future__ import annotations

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.codec import Codec, Memory, register
from spikefed.wire.plan import Plan, TensorSpec


def little_endian(spec: TensorSpec) -> np.dtype:
    """The dtype that travels: the spec's, little endian."""
    return np.dtype(spec.dtype).newbyteorder("<")


def check_finite(array: np.ndarray, spec: TensorSpec) -> None:
    """Raise PacketError when a float tensor holds a NaN or an infinity. Of any shape."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise PacketError("payload", f"tensor '{spec.name}' holds a NaN or an infinity")


def own_bytes(array: np.ndarray, spec: TensorSpec) -> memoryview:
    """A tensor's own bytes, little endian. Of any shape."""
    return np.ascontiguousarray(array, dtype=little_endian(spec)).reshape(-1).view(np.uint8).data


def read_own(data: memoryview | bytes, spec: TensorSpec, plan: Plan) -> np.ndarray:
    """Inverse of ``own_bytes``: a writable copy. Refuses bools above 1 and, unless the plan allows them, NaNs.

    Of the shape that the table says.
    """
    array = np.frombuffer(data, dtype=little_endian(spec))
    if plan.finite:
        check_finite(array, spec)
    if spec.dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
        raise PacketError("payload", f"tensor '{spec.name}' holds a bool that is neither 0 nor 1")
    return array.astype(np.dtype(spec.dtype)).reshape(spec.shape)


class RawWeights(Codec):
    """Tensors in the order of the plan, little-endian, without names."""

    name = "float32"
    number = 16
    kind = "weights"
    description = "raw little-endian tensors (4 bytes a weight), no names"

    def encode(
        self, content: dict[str, np.ndarray], plan: Plan, memory: Memory | None, side: object
    ) -> tuple[bytes, Memory | None]:
        return b"".join(own_bytes(content[spec.name], spec) for spec in plan.tensors), None

    def decode(
        self, payload: memoryview, plan: Plan, memory: Memory | None, side: object
    ) -> tuple[dict[str, np.ndarray], Memory | None]:
        expected = sum(spec.nbytes for spec in plan.tensors)
        if len(payload) != expected:
            raise PacketError("payload", f"{len(payload)} bytes where the tensor table needs {expected}")
        tensors: dict[str, np.ndarray] = {}
        start = 0
        for spec in plan.tensors:
            tensors[spec.name] = read_own(payload[start : start + spec.nbytes], spec, plan)
            start += spec.nbytes
        return tensors, None


register(RawWeights())
