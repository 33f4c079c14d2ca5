"""Runs the ``context`` model in the native library, if it is there."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int64, c_void_p
from functools import cache
from typing import Any

import numpy as np

from spikefed import native
from spikefed.wire.contextmodel import ModelState, squash_table, stretch_table

_POINTERS = ("spikes", "global_", "previous", "near", "code", "tables", "weights", "coded", "squash", "stretch")
_NUMBERS = ("rows", "classes", "steps", "code_size", "decode", "measure")


class Job(ctypes.Structure):
    """Mirror of ``struct Job`` in native/context.cpp."""

    _fields_ = [
        *((name, c_void_p) for name in _POINTERS),
        *((name, c_int64) for name in _NUMBERS),
        ("ideal_bits", c_double),
        ("decisions", c_int64),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    library: Any = native.library()
    try:
        library.spikefed_context_size.restype = c_int64
        library.spikefed_context_run.restype = c_int64
        library.spikefed_context_run.argtypes = [ctypes.POINTER(Job)]
        return library if library.spikefed_context_size() == ctypes.sizeof(Job) else None
    except AttributeError:  # no library, or one built without this source
        return None


def available() -> bool:
    """Whether the fast path can be used now."""
    return native.library() is not None and _prepared() is not None


def run(
    spikes: np.ndarray, global_: np.ndarray | None, previous: np.ndarray | None, near: np.ndarray | None,
    code: np.ndarray, state: ModelState, shape: tuple[int, int, int], *, decode: bool, measure: bool = False,
) -> tuple[int, float, int]:  # fmt: skip
    """As ``contexttwin.run``.

    Args:
        spikes: uint8 bits ``[N * C * T]``, read or written.
        global_, previous, near: bits of the same size that serve as context, or None.
        code: bytes of the arithmetic coder.
        state: counters of the model, changed in place.
        shape: ``(N, C, T)``.
        decode: read spikes from ``code`` instead of writing it.
        measure: only sum -log2 p.
    """
    library = _prepared()
    assert library is not None
    squash = squash_table()
    stretch = stretch_table()
    arrays = (spikes, global_, previous, near, code, state.tables, state.weights, state.coded, squash, stretch)
    pointers = [None if array is None else array.ctypes.data for array in arrays]
    job = Job(*pointers, *shape, code.size, int(decode), int(measure), 0.0, 0)
    return int(library.spikefed_context_run(ctypes.byref(job))), job.ideal_bits, job.decisions
