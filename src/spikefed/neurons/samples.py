"""Weight gradients of single samples of a 3x3 convolution, native: measured where they are formed, never written.

Float32 sums, by Winograd's minimal filtering in tiles of 4x4 or 5x5 (`spikefed.neurons.winograd`), of images with few
channels tap by tap. A gradient is off by 1e-6 to 2e-6 in the 2-norm, the sum of its squares by 1e-7, relative.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_void_p
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from spikefed import native
from spikefed.neurons import fused
from spikefed.neurons.sides import Sides

_POINTERS = ("x", "go", "weight", "squares", "met", "come")
_SIZES = ("steps", "samples", "height", "width", "in_channels", "out_channels")


class Arguments(ctypes.Structure):
    """Mirror of ``struct Samples`` in native/samples.h."""

    _fields_ = [
        *((name, c_void_p) for name in _POINTERS),
        *((name, c_int64) for name in _SIZES),
        ("threads", c_int32),
    ]


class SampleSums(NamedTuple):
    """Of each sample's own weight gradient W, float64.

    Attributes:
        squares: ``[B]``, the sum of squares of W.
        met: ``[B, Cout]``, the sums of W times the weight: those of the gradient times the result without a bias.
        come: ``[B, Cout]``, the sums of the gradient of the result, that of a bias.
    """

    squares: Tensor
    met: Tensor
    come: Tensor


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None or not hasattr(lib, "spikefed_samples"):
        return None
    lib.spikefed_samples.argtypes, lib.spikefed_samples.restype = [ctypes.POINTER(Arguments)], None
    lib.spikefed_samples_size.restype = c_int64
    return lib if lib.spikefed_samples_size() == ctypes.sizeof(Arguments) else None


def library() -> ctypes.CDLL | None:
    """The native library with this kernel, or ``None``."""
    return _prepared() if native.library() is not None else None


def suits(upstream: Tensor, x: Tensor, weight: Tensor, stride: Sides, padding: Sides) -> bool:
    """Whether the kernel can take this convolution: 3x3, stride 1, padding 1, float32 on the processor.

    Args:
        upstream: ``[N, Cout, H, W]``.
        x: ``[N, Cin, H, W]``.
        weight: ``[Cout, Cin, Kh, Kw]``.
        stride: of the convolution.
        padding: of the convolution.
    """
    return (
        weight.shape[2:] == (3, 3)
        and stride == 1
        and padding == 1
        and upstream.dtype == x.dtype == weight.dtype == torch.float32
        and fused.suits(x)
        and fused.suits(upstream)
        and library() is not None
    )


def measure(upstream: Tensor, x: Tensor, weight: Tensor, samples: int) -> SampleSums:
    """Sums over each sample's weight gradient; row n is of sample n modulo B. Call only if `suits`.

    Args:
        upstream: gradient of the convolution's result, ``[N, Cout, H, W]``.
        x: its input, ``[M, Cin, H, W]``, M at least N.
        weight: ``[Cout, Cin, 3, 3]``.
        samples: B.
    """
    lib = library()
    assert lib is not None
    upstream, x = (t.contiguous(memory_format=torch.channels_last) for t in (upstream, x))
    weight = weight.detach().contiguous()
    channels = upstream.shape[1]
    found = SampleSums(*(torch.empty(samples, *shape, dtype=torch.float64) for shape in ((), (channels,), (channels,))))
    a = Arguments()
    a.x = x.data_ptr()
    a.go = upstream.data_ptr()
    a.weight = weight.data_ptr()
    a.squares, a.met, a.come = (t.data_ptr() for t in found)
    a.steps, a.samples, a.out_channels = len(upstream) // samples, samples, channels
    _, a.in_channels, a.height, a.width = x.shape
    a.threads = torch.get_num_threads()
    lib.spikefed_samples(a)
    return found
