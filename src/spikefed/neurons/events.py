"""Convolution over the non-zeros of its input, native: 1x1 and 3x3 kernels, stride 1, same padding.

The list of events (position and value of each non-zero) is built once and is all that is saved for backward: the
input itself is not kept. Sums are float32 in every precision. The input gradient is dense, or, behind a narrow
surrogate window, computed at the neurons inside the window only: ``norm_lif`` multiplies it by the surrogate, which
is zero everywhere else.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from spikefed import native
from spikefed.neurons import fused

_POINTERS = ("x", "go", "out", "weight", "bias", "offsets", "index", "value", "mask", "binary")
_SIZES = ("images", "height", "width", "in_channels", "out_channels", "kernel", "events")
_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.uint8: 2}
_LANES = 16


class Arguments(ctypes.Structure):
    """Mirror of ``struct Events`` in native/events.h."""

    _fields_ = [
        *((name, c_void_p) for name in _POINTERS),
        *((name, c_int64) for name in _SIZES),
        ("dtype", c_int32),
        ("threads", c_int32),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None:
        return None
    for name in ("count", "list", "forward", "weight_grad", "input_grad"):
        function = getattr(lib, f"spikefed_events_{name}")
        function.argtypes, function.restype = [ctypes.POINTER(Arguments)], None
    lib.spikefed_events_size.restype = c_int64
    return lib if lib.spikefed_events_size() == ctypes.sizeof(Arguments) else None


def library() -> ctypes.CDLL | None:
    """The native library with the event kernels, or ``None``."""
    return _prepared() if native.library() is not None else None


def suits(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether the event kernels can take this convolution."""
    kernel = weight.shape[2]
    return (
        kernel == weight.shape[3]
        and kernel in (1, 3)
        and stride == 1
        and padding == kernel // 2
        and x.dim() == 4
        and x.shape[3] * x.shape[1] <= 65536  # entries are 16 bits wide
        and x.numel() < 2**31
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and library() is not None
    )


@dataclass(frozen=True)
class EventList:
    """Non-zeros of a channels-last map ``[N, C, H, W]``, pixel by pixel: position in its image row, value."""

    shape: torch.Size
    offsets: Tensor  # int32 [N*H*W + 1]: where each pixel's events begin
    index: Tensor  # int16 (read as unsigned) [events]: column * C + channel
    value: Tensor  # float32 [events], or empty: every event is 1

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """What has to be saved; ``EventList(shape, *tensors)`` restores it."""
        return self.offsets, self.index, self.value

    @property
    def density(self) -> float:
        """Part of the map that is not zero."""
        return len(self.index) / max(self.shape.numel(), 1)


def _arguments(shape: torch.Size, dtype: torch.dtype) -> Arguments:
    a = Arguments()
    a.images, a.in_channels, a.height, a.width = shape
    a.dtype, a.threads = _DTYPES[dtype], torch.get_num_threads()
    return a


def listed(x: Tensor) -> EventList:
    """The events of ``x`` (channels-last float32 or bfloat16, or uint8 with 0 and 1 only)."""
    lib = library()
    assert lib is not None
    a = _arguments(x.shape, x.dtype)
    offsets = torch.empty(x.numel() // x.shape[1] + 1, dtype=torch.int32)
    mask = torch.empty((len(offsets) - 1) * -(-x.shape[1] // 16), dtype=torch.int16)
    binary = c_int32(0)
    a.x, a.offsets, a.mask, a.binary = x.data_ptr(), offsets.data_ptr(), mask.data_ptr(), ctypes.addressof(binary)
    lib.spikefed_events_count(a)
    events = int(offsets[-1])
    index, value = torch.empty(events, dtype=torch.int16), torch.empty(0 if binary.value else events)
    a.index, a.value, a.events = index.data_ptr(), value.data_ptr() or None, events
    lib.spikefed_events_list(a)
    return EventList(x.shape, offsets, index, value)


def _with_list(events: EventList, dtype: torch.dtype, out_channels: int, kernel: int) -> Arguments:
    a = _arguments(events.shape, dtype)
    a.offsets, a.index, a.value = events.offsets.data_ptr(), events.index.data_ptr(), events.value.data_ptr() or None
    a.events, a.out_channels, a.kernel = len(events.index), out_channels, kernel
    return a


def _padded(channels: int) -> int:
    return -(-channels // _LANES) * _LANES


def convolve(events: EventList, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Convolution of the listed map with ``weight`` [Cout, Cin, K, K] (float32), padding K // 2, out in ``dtype``."""
    lib = library()
    assert lib is not None
    co, ci, k, _ = weight.shape
    n, _, h, w = events.shape
    table = _table(weight)
    out = torch.empty((n, co, h, w), dtype=dtype, memory_format=torch.channels_last)
    a = _with_list(events, dtype, co, k)
    bias = None if bias is None else bias.float().contiguous()
    a.weight, a.out, a.bias = table.data_ptr(), out.data_ptr(), None if bias is None else bias.data_ptr()
    lib.spikefed_events_forward(a)
    return out


def weight_gradient(events: EventList, upstream: Tensor, kernel: int) -> Tensor:
    """Gradient of the weight [Cout, Cin, K, K] (float32); ``upstream`` [N, Cout, H, W] channels-last."""
    lib = library()
    assert lib is not None
    co, ci = upstream.shape[1], events.shape[1]
    table = torch.empty(ci * kernel * kernel, _padded(co))
    a = _with_list(events, upstream.dtype, co, kernel)
    a.go, a.weight = upstream.data_ptr(), table.data_ptr()
    lib.spikefed_events_weight_grad(a)
    return _turned(table).unflatten(1, (ci, kernel, kernel))[:co]


def input_gradient_at(window: EventList, upstream: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the input (float32) at the elements of ``window``, 0 elsewhere.

    ``upstream`` [N, Cout, H, W] channels-last.
    """
    lib = library()
    assert lib is not None
    table, out = _table(weight), torch.empty(window.shape, memory_format=torch.channels_last)
    a = _with_list(window, upstream.dtype, len(weight), weight.shape[2])
    a.go, a.weight, a.out = upstream.data_ptr(), table.data_ptr(), out.data_ptr()
    lib.spikefed_events_input_grad(a)
    return out


def _table(weight: Tensor) -> Tensor:
    """``weight`` [Cout, Cin, K, K] as the kernels read it: [Cin * K * K, Cout rounded up]."""
    rows = _padded(len(weight))
    return _turned(_filled(weight.detach().contiguous(), rows).reshape(rows, -1))


def _filled(weight: Tensor, rows: int) -> Tensor:
    """``weight`` with rows of zeros up to ``rows``."""
    return (
        weight if len(weight) == rows else torch.cat([weight, weight.new_zeros(rows - len(weight), *weight.shape[1:])])
    )


def _turned(matrix: Tensor) -> Tensor:
    """Transposed copy."""
    rows, columns = matrix.shape
    return fused.transpose(matrix, matrix.new_empty(columns, rows), 1, rows, columns)


def input_gradient(upstream: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """Gradient of the input (of ``shape``), dense, in the precision of ``upstream``."""
    unread = torch.empty(shape, dtype=upstream.dtype, memory_format=torch.channels_last)  # only its shape matters
    return _dense_backward(upstream, unread, weight, [True, False, False])[0]


def dense_weight_gradient(upstream: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the weight by torch's dense kernel."""
    return _dense_backward(upstream, x, weight, [False, True, False])[1].to(weight.dtype)


def _dense_backward(upstream: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
    cast = weight.to(upstream.dtype).contiguous(memory_format=torch.channels_last)
    padding = [weight.shape[2] // 2] * 2
    return torch.ops.aten.convolution_backward(
        upstream, x, cast, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted
    )
