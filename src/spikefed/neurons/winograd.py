"""Dense 3x3 convolution by Winograd's minimal filtering, native: a quarter to a fifth of the multiplications.

Sums are float32 in every precision. With tiles of 4x4 the error is about twice that of the direct sum (1.6e-6 against
0.8e-6 over 256 channels of normal numbers, relative, in the 2-norm): last bits differ, as with any other order of sums.
Up to 64 channels, sides such as 14 are cut into 6 + 4 + 4 (2e-6 against 0.4e-6). In bfloat16 tiles are 4x8 where they
fit: 4e-6 before results are rounded, 3 to 7 of 1,000 of which go to the neighbour of what the direct sum goes to.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_void_p
from functools import cache

import torch
from torch import Tensor

from spikefed import native
from spikefed.neurons import fused
from spikefed.neurons.sides import Sides

_POINTERS = ("x", "go", "out", "weight", "bias", "sums")
_SIZES = ("images", "height", "width", "in_channels", "out_channels")
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}


class Arguments(ctypes.Structure):
    """Mirror of ``struct Winograd`` in native/winograd.h."""

    _fields_ = [
        *((name, c_void_p) for name in _POINTERS),
        *((name, c_int64) for name in _SIZES),
        ("dtype", c_int32),
        ("gradient", c_int32),
        ("threads", c_int32),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None:
        return None
    for function in (lib.spikefed_winograd, lib.spikefed_winograd_weight_grad, lib.spikefed_direct_weight_grad):
        function.argtypes = [ctypes.POINTER(Arguments)]
        function.restype = None
    lib.spikefed_winograd_size.restype = c_int64
    return lib if lib.spikefed_winograd_size() == ctypes.sizeof(Arguments) else None


def library() -> ctypes.CDLL | None:
    """The native library if the instruction set in use has this kernel, else ``None``."""
    lib = _prepared() if native.library() is not None else None
    return lib if lib is not None and lib.spikefed_has_winograd() else None


def suits(weight: Tensor, stride: Sides, padding: Sides) -> bool:
    """Whether the kernel can take this convolution. ``weight`` is ``[Cout, Cin, Kh, Kw]``; only 3x3 is taken."""
    return (
        weight.shape[2:] == (3, 3)
        and stride == 1
        and padding == 1
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and library() is not None
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution of ``x`` [N, Cin, H, W], channels-last float32 or bfloat16, with ``weight`` [Cout, Cin, 3, 3].

    In bfloat16 weights and bias are rounded to it, the sums are float32, the result is rounded.
    """
    return _run(x, weight, bias, len(weight), gradient=False)


def convolve_halved(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Means over 2x2 outputs of the convolution, and what a norm before those means asks of the outputs.

    The whole map is never written. One thread: sums are then the same for any number of them.

    Args:
        x: ``[N, Cin, H, W]``, channels-last float32, of even sides.
        weight: ``[Cout, Cin, 3, 3]``.

    Returns:
        ``[N, Cout, H / 2, W / 2]``, and float64 ``[2, Cout]``: sums of all outputs and of their squares.
    """
    lib = library()
    assert lib is not None
    weight = weight.detach().contiguous()
    shape = (len(x), len(weight), x.shape[2] // 2, x.shape[3] // 2)
    out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    sums = torch.zeros(len(x), 2, len(weight), dtype=torch.float64)
    a = _arguments(x, len(weight))
    a.x = x.data_ptr()
    a.out = out.data_ptr()
    a.weight = weight.data_ptr()
    a.sums = sums.data_ptr()
    a.threads = 1
    lib.spikefed_winograd(a)
    return out, sums.sum(0)


def input_gradient(upstream: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the input, in the precision of ``upstream`` [N, Cout, H, W], channels-last."""
    return _run(upstream, weight, None, weight.shape[1], gradient=True)


def weight_gradient(upstream: Tensor, x: Tensor, weight: Tensor, *, direct: bool = False) -> Tensor:
    """Gradient of the weight (float32), from the input and the gradient of the output, both channels-last.

    Shape ``[Cout, Cin, 3, 3]``.

    Args:
        upstream: ``[N, Cout, H, W]``.
        x: ``[N, Cin, H, W]``, in the precision of ``upstream``.
        weight: ``[Cout, Cin, 3, 3]``; only its shape is read.
        direct: without filtering, tap by tap: for images with few channels.
    """
    lib = library()
    assert lib is not None
    out = torch.empty_like(weight, memory_format=torch.contiguous_format)
    a = _arguments(x, upstream.shape[1])
    a.x = x.data_ptr()
    a.go = upstream.data_ptr()
    a.weight = out.data_ptr()
    (lib.spikefed_direct_weight_grad if direct else lib.spikefed_winograd_weight_grad)(a)
    return out


def _run(x: Tensor, weight: Tensor, bias: Tensor | None, channels: int, *, gradient: bool) -> Tensor:
    lib = library()
    assert lib is not None
    weight = weight.detach().contiguous()
    bias = None if bias is None else bias.detach().to(x.dtype).float().contiguous()
    out = torch.empty((x.shape[0], channels, *x.shape[2:]), dtype=x.dtype, memory_format=torch.channels_last)
    a = _arguments(x, channels)
    a.x = x.data_ptr()
    a.out = out.data_ptr()
    a.weight = weight.data_ptr()
    a.bias = None if bias is None else bias.data_ptr()
    a.gradient = gradient
    lib.spikefed_winograd(a)
    return out


def _arguments(x: Tensor, channels: int) -> Arguments:
    a = Arguments()
    a.images, a.in_channels, a.height, a.width = x.shape
    a.out_channels = channels
    a.dtype = _DTYPES[x.dtype]
    a.threads = torch.get_num_threads()
    return a
