"""How alike two images make neurons fire: spikes packed to bits, native, and counted where both have one."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_void_p
from functools import cache

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from spikefed import native
from spikefed.neurons import fused
from spikefed.neurons.kernels import kernels
from spikefed.neurons.processor import has_vnni


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None or not hasattr(lib, "spikefed_fire_both"):
        return None
    lib.spikefed_fire_both.argtypes = [c_void_p, c_int64, c_int64, c_int64, c_void_p]
    lib.spikefed_fire_both.restype = c_int32
    return lib


def fire_both(fired: Bool[Tensor, "T B N"] | Float[Tensor, "T B N"]) -> Integer[Tensor, "T B B"]:
    """How many neurons fire for both of two images, of all pairs and at every step; exact.

    Counted in vectors of bits where the processor can; else as products of bytes, or of float32 (exact below 2^24
    neurons).

    Args:
        fired: 0 and 1.
    """
    found = _by_bits(fired)
    if found is not None:
        return found
    if fired.device.type == "cpu" and has_vnni() and fired.shape[2] > 1:  # _int_mm of one column is not filled in
        return torch.stack([torch.ops.aten._int_mm(codes, codes.t()) for codes in fired.to(torch.int8)])
    codes = fired.to(torch.float32)
    return torch.bmm(codes, codes.mT).to(torch.int32)


def _by_bits(fired: Tensor) -> Tensor | None:
    """`fire_both` of ``[T, B, N]`` by the native library, or None."""
    lib = _prepared() if native.library() is not None and kernels() == "auto" else None
    if lib is None or fired.device.type != "cpu":
        return None
    codes = fired.to(torch.float32).contiguous()
    steps, images, neurons = codes.shape
    both = torch.empty(steps, images, images, dtype=torch.int32)
    counted = lib.spikefed_fire_both(codes.data_ptr(), steps, images, neurons, both.data_ptr())
    return both if counted else None
