"""Splits a tensor table into one vector of floats, which lossy codecs work on, and the rest, which travels as it is."""

from __future__ import annotations

import numpy as np

from spikefed.errors import PacketError
from spikefed.wire.plan import Plan, TensorSpec
from spikefed.wire.rawweights import check_finite, own_bytes, read_own

HALF_MAX = 65504.0  # largest IEEE half: what lossy codecs make of a half tensor is clipped to it


def float_specs(plan: Plan) -> list[TensorSpec]:
    """The tensors that a lossy codec may change."""
    return [spec for spec in plan.tensors if spec.lossy]


def join(content: dict[str, np.ndarray], plan: Plan) -> tuple[np.ndarray, bytes]:
    """float32 vector of all float tensors that are not exact, in table order, and the bytes of all others. Flat."""
    with np.errstate(over="ignore"):  # becomes infinite, and is refused below
        floats = [content[spec.name].astype(np.float32).reshape(-1) for spec in float_specs(plan)]
    vector = np.concatenate(floats) if floats else np.zeros(0, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise PacketError("tensors", "a NaN or an infinity cannot be quantised; the training has diverged")
    others = [own_bytes(content[spec.name], spec) for spec in plan.tensors if not spec.lossy]
    return vector, b"".join(others)


def sizes(plan: Plan) -> tuple[int, int]:
    """Elements of the float vector, and bytes of all other tensors."""
    specs = float_specs(plan)
    return sum(spec.elements for spec in specs), sum(s.nbytes for s in plan.tensors if not s.lossy)


def split(vector: np.ndarray, others: memoryview | bytes, plan: Plan) -> dict[str, np.ndarray]:
    """Inverse of ``join``. Tensors have the shapes of the plan."""
    tensors: dict[str, np.ndarray] = {}
    at = 0
    byte = 0
    for spec in plan.tensors:
        if spec.lossy:
            part = vector[at : at + spec.elements]
            part = np.clip(part, -HALF_MAX, HALF_MAX) if spec.dtype == "float16" else part
            array = part.astype(spec.dtype).reshape(spec.shape)
            at += spec.elements
            if plan.finite:
                check_finite(array, spec)
        else:
            array = read_own(others[byte : byte + spec.nbytes], spec, plan)
            byte += spec.nbytes
        tensors[spec.name] = array
    return tensors


def cut_others(payload: memoryview, plan: Plan) -> tuple[memoryview, memoryview]:
    """(coded floats, other tensors): the others stand at the payload's end."""
    others = sizes(plan)[1]
    if len(payload) < others:
        raise PacketError("payload", f"{len(payload)} bytes where the integer tensors alone need {others}")
    end = len(payload) - others
    return payload[:end], payload[end:]


def finite_float(value: float, what: str) -> float:
    """The value itself. Raises PacketError when it is infinite or no number."""
    if not np.isfinite(value):
        raise PacketError("payload", f"{what} is {value}")
    return float(value)


def finite_norm(part: np.ndarray, spec: TensorSpec) -> np.float32:
    """2-norm of a tensor (float64 in, float32 out). Raises PacketError when it is beyond float32. A scalar."""
    norm = np.sqrt((part * part).sum())
    if norm > np.finfo(np.float32).max:
        raise PacketError(
            "tensors", f"the norm {norm:.3g} of '{spec.name}' is beyond float32; the training has diverged"
        )
    return np.float32(norm)
