"""What this processor is good at, as far as the choice of a path needs to know."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

import torch

from spikefed import native
from spikefed.errors import ConfigError
from spikefed.neurons.kernels import kernels

INSTRUCTION_SETS = ("portable", "avx2", "avx512")
"""Of the native library, from the plainest to the widest."""

# Limits that oneDNN can be held to (its variable ONEDNN_MAX_CPU_ISA) below the instructions for bfloat16.
_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def choose_instruction_set(library: ctypes.CDLL) -> None:
    """Hold the native library to the instruction set that ``SPIKEFED_NATIVE_ISA`` names, if it names one.

    Raises:
        ConfigError: the name is not known, or the processor does not have it.
    """
    wanted = os.environ.get("SPIKEFED_NATIVE_ISA")
    if not wanted:  # an empty variable is an unset one
        return
    if wanted not in INSTRUCTION_SETS:
        raise ConfigError(
            f"environment variable SPIKEFED_NATIVE_ISA is '{wanted}'; set it to one of {', '.join(INSTRUCTION_SETS)}"
        )
    best = library.spikefed_best_level()
    if INSTRUCTION_SETS.index(wanted) > best:
        raise ConfigError(
            f"environment variable SPIKEFED_NATIVE_ISA is '{wanted}', which this processor does not have; unset it, or "
            f"set it to one of {', '.join(INSTRUCTION_SETS[: best + 1])}"
        )
    library.spikefed_set_level(INSTRUCTION_SETS.index(wanted))


@cache
def hold_instruction_set(library: ctypes.CDLL) -> None:
    """`choose_instruction_set`, once for a library."""
    choose_instruction_set(library)


def instruction_set() -> str:
    """The native library's in use; ``portable`` without the library."""
    library = native.library()
    if library is None:
        return INSTRUCTION_SETS[0]
    hold_instruction_set(library)  # limits are asked for before the first kernel runs, too
    return INSTRUCTION_SETS[library.spikefed_level()]


@cache
def has_bf16() -> bool:
    """Whether torch's products of bfloat16 numbers run on instructions for them.

    Without them oneDNN leaves bfloat16 convolutions to a plain loop, ten and more times slower than float32 ones.
    """
    if not torch.backends.mkldnn.is_available() or _held_below_bf16():
        return False
    if platform.machine().lower() in ("x86_64", "amd64", "i686"):
        return _torch_says("_is_avx512_bf16_supported") or _torch_says("_is_amx_tile_supported")
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())


def fastest_precision(device: str = "cpu") -> str:
    """``bfloat16`` or ``float32``: the faster one for networks of this package here.

    Without instructions for it bfloat16 still moves half the memory and is a few per cent faster on our own kernels
    (``docs/performance.md``); only where those are missing too, or the reference kernels were asked for, is float32.
    """
    if device != "cpu":
        return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(False) else "float32"
    ours = kernels() != "reference" and instruction_set() != "portable"
    return "bfloat16" if has_bf16() or ours else "float32"


def settle_precision(asked: str, device: str = "cpu") -> str:
    """``float32`` or ``bfloat16``: what a network is to compute in when a user asks for this, or for ``auto``.

    Raises:
        ConfigError: another precision.
    """
    if asked == "auto":
        return fastest_precision(device)
    if asked not in ("float32", "bfloat16"):
        why = ", which overflows in gradients through time and has no kernels here" if asked == "float16" else ""
        raise ConfigError(f"precision '{asked}' is not offered{why}; use float32, bfloat16 or auto")
    return asked


def why_slow(precision: str, device: str = "cpu") -> str:
    """A sentence where this precision costs more than a fifth of the speed here; the empty text elsewhere.

    The factors of float32 are those of training steps in ``docs/performance.md``.
    """
    if device != "cpu" or precision == fastest_precision():
        return ""
    if precision == "bfloat16" and kernels() == "reference":
        return (
            "bfloat16 on the reference kernels takes several times as long as float32 here, because this processor has "
            "no bfloat16 instructions; unset SPIKEFED_KERNELS, or set network.precision to 'float32' or 'auto'"
        )
    if precision == "float32" and has_bf16() and kernels() != "reference":
        much = "over twice" if has_amx() else "1.2 to 1.6 times"
        return (
            f"float32 takes {much} as long as bfloat16 on this processor, which has instructions for it; "
            "set network.precision to 'bfloat16' or 'auto'"
        )
    return ""


@cache
def has_vnni() -> bool:
    """Whether torch multiplies matrices of bytes here on instructions for them, four products at a time."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch, "_int_mm") or _held_below_bf16():
        return False
    return _torch_says("_is_vnni_supported")


@cache
def has_amx() -> bool:
    """Whether the processor multiplies bf16 matrices in tiles (oneDNN then is several times faster in bf16)."""
    library = native.library()
    return has_bf16() and library is not None and bool(library.spikefed_has_amx())


def _held_below_bf16() -> bool:
    held = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return held.upper() in _WITHOUT_BF16


def _torch_says(question: str) -> bool:
    ask = getattr(torch.cpu, question, None)
    return ask is not None and bool(ask())
