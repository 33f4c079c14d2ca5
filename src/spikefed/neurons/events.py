"""Convolution over the non-zeros of its input, native: 1x1 and 3x3 kernels, stride 1 or 2, same padding.

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
from spikefed.neurons.sides import Sides

_POINTERS = (
    "x",
    "go",
    "out",
    "weight",
    "bias",
    "offsets",
    "index",
    "value",
    "start",
    "position",
    "banded",
    "mask",
    "binary",
)
_SIZES = ("images", "height", "width", "in_channels", "out_channels", "kernel", "stride", "events", "places")
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
    for name in ("count", "list", "band", "forward", "weight_grad", "rows_grad", "input_grad"):
        function = getattr(lib, f"spikefed_events_{name}")
        function.argtypes = [ctypes.POINTER(Arguments)]
        function.restype = None
    lib.spikefed_events_bands.argtypes = [ctypes.POINTER(Arguments)]
    lib.spikefed_events_bands.restype = c_int64
    lib.spikefed_events_size.restype = c_int64
    return lib if lib.spikefed_events_size() == ctypes.sizeof(Arguments) else None


def library() -> ctypes.CDLL | None:
    """The native library with the event kernels, or ``None``."""
    return _prepared() if native.library() is not None else None


def suits(x: Tensor, weight: Tensor, stride: Sides, padding: Sides) -> bool:
    """Whether the event kernels can take this convolution.

    Args:
        x: ``[N, Cin, H, W]``.
        weight: ``[Cout, Cin, Kh, Kw]``; only square ones are taken.
        stride: of the convolution.
        padding: of the convolution.
    """
    kernel = weight.shape[2]
    return (
        kernel == weight.shape[3]
        and kernel in (1, 3)
        and stride in (1, 2)
        and padding == kernel // 2
        and x.dim() == 4
        and x.shape[3] <= 20000  # a place in a band's padded rows has 16 bits
        and x.shape[1] * x.shape[3] <= 2**16  # and so has one in an image's row, column * C + channel
        and x.numel() < 2**31
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and library() is not None
    )


@dataclass(frozen=True)
class Marks:
    """Where a tensor is not zero, noted by the neurons that made it."""

    bits: Tensor  # int16 [numel / 16]: a bit an element, as they lie in memory
    ones: bool  # every non-zero is 1


@dataclass(frozen=True)
class EventList:
    """Non-zeros of a channels-last map ``[N, C, H, W]``, pixel by pixel: position in its image row, value."""

    shape: torch.Size
    offsets: Tensor  # int32 [N*H*W + 1]: where each pixel's events begin
    index: Tensor  # int16 (read as unsigned) [events]: column * C + channel
    value: Tensor  # float32 [events], or empty: every event is 1

    @property
    def density(self) -> float:
        """Part of the map that is not zero."""
        return len(self.index) / max(self.shape.numel(), 1)


@dataclass(frozen=True)
class BandedList:
    """The same events in bands of some images or some rows, by channel inside a band: what backward reads."""

    shape: torch.Size
    kernel: int  # K of the convolution it is made for: 1 or 3
    stride: int  # of the convolution
    start: Tensor  # int32 [bands * C + 1] (stride 2: * 4, by parity of row and column): where their events begin
    position: Tensor  # int16 (read as unsigned) [events]: in the band's padded buffer
    value: Tensor  # float32 [events], or empty: every event is 1

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """What has to be saved; ``BandedList(shape, kernel, stride, *tensors)`` restores it."""
        return self.start, self.position, self.value


def _arguments(shape: torch.Size, kernel: int, dtype: torch.dtype, stride: int = 1) -> Arguments:
    a = Arguments()
    a.images, a.in_channels, a.height, a.width = shape
    a.kernel = kernel
    a.places = kernel * kernel
    a.stride = stride
    a.dtype = _DTYPES[dtype]
    a.threads = torch.get_num_threads()
    return a


def listed(x: Tensor, marks: Marks | None = None) -> EventList:
    """The events of ``x`` (channels-last float32 or bfloat16, or uint8 with 0 and 1 only).

    Args:
        x: ``[N, C, H, W]``.
        marks: of `paths.marks_of`, where they are known: then ``x`` is not searched.
    """
    found = listed_below(x, 2.0, marks)
    assert found is not None
    return found


def listed_below(x: Tensor, limit: float, marks: Marks | None = None) -> EventList | None:
    """As `listed`; None, after counting alone, where that part of ``x`` or more is not zero."""
    lib = library()
    assert lib is not None
    a = _arguments(x.shape, 1, x.dtype)
    offsets = torch.empty(x.numel() // x.shape[1] + 1, dtype=torch.int32)
    binary = c_int32(marks is not None and marks.ones)
    if marks is None:
        mask = torch.empty((len(offsets) - 1) * -(-x.shape[1] // 16), dtype=torch.int16)
        a.x = x.data_ptr()
    else:
        mask = marks.bits
    a.offsets = offsets.data_ptr()
    a.mask = mask.data_ptr()
    a.binary = ctypes.addressof(binary)
    lib.spikefed_events_count(a)
    events = int(offsets[-1])
    if events >= limit * max(x.numel(), 1):
        return None
    index = torch.empty(events, dtype=torch.int16)
    value = torch.empty(0 if binary.value else events)
    a.x = x.data_ptr()
    a.index = index.data_ptr()
    a.value = value.data_ptr() or None
    a.events = events
    lib.spikefed_events_list(a)
    return EventList(x.shape, offsets, index, value)


def banded(events: EventList, kernel: int, stride: int = 1) -> BandedList:
    """``events`` regrouped for the backward of a K x K convolution."""
    lib = library()
    assert lib is not None
    a = _with_list(events, torch.float32, 0, kernel, stride)
    groups = events.shape[1] * (4 if stride == 2 else 1)
    start = torch.empty(lib.spikefed_events_bands(a) * groups + 1, dtype=torch.int32)
    made = BandedList(
        events.shape, kernel, stride, start, torch.empty_like(events.index), torch.empty_like(events.value)
    )
    _point_at(a, made)
    lib.spikefed_events_band(a)
    return made


def _with_list(events: EventList, dtype: torch.dtype, out_channels: int, kernel: int, stride: int = 1) -> Arguments:
    a = _arguments(events.shape, kernel, dtype, stride)
    a.offsets = events.offsets.data_ptr()
    a.index = events.index.data_ptr()
    a.value = events.value.data_ptr() or None
    a.events = len(events.index)
    a.out_channels = out_channels
    return a


def _with_bands(events: BandedList, dtype: torch.dtype, out_channels: int) -> Arguments:
    a = _arguments(events.shape, events.kernel, dtype, events.stride)
    a.events = len(events.position)
    a.out_channels = out_channels
    _point_at(a, events)
    return a


def _point_at(a: Arguments, events: BandedList) -> None:
    a.start = events.start.data_ptr()
    a.position = events.position.data_ptr()
    a.banded = events.value.data_ptr() or None


def _padded(channels: int) -> int:
    return -(-channels // _LANES) * _LANES


def convolve(events: EventList, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, stride: int = 1) -> Tensor:
    """Convolution of the listed map with ``weight`` [Cout, Cin, K, K] (float32), padding K // 2, out in ``dtype``.

    Args:
        events: of the input map.
        weight: ``[Cout, Cin, K, K]``, float32.
        bias: ``[Cout]`` or None.
        dtype: of the result.
        stride: 1 or 2.
    """
    n, _, *sides = events.shape
    shape = (n, len(weight), *((side - 1) // stride + 1 for side in sides))
    out = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
    return _product(_with_list(events, dtype, len(weight), weight.shape[2], stride), weight, bias, out)


def _product(a: Arguments, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    lib = library()
    assert lib is not None
    weight = weight.detach().contiguous()
    bias = None if bias is None else bias.to(out.dtype).float().contiguous()  # rounded where bfloat16 rounds it
    a.weight = weight.data_ptr()
    a.out = out.data_ptr()
    a.bias = None if bias is None else bias.data_ptr()
    lib.spikefed_events_forward(a)
    return out


def weight_gradient(events: BandedList, upstream: Tensor) -> Tensor:
    """Gradient of the weight [Cout, Cin, K, K] (float32); ``upstream`` [N, Cout, H, W] channels-last."""
    lib = library()
    assert lib is not None
    co = upstream.shape[1]
    ci = events.shape[1]
    k = events.kernel
    table = torch.empty(_padded(co) // _LANES, ci * k * k, _LANES)
    a = _with_bands(events, upstream.dtype, co)
    a.go = upstream.data_ptr()
    a.weight = table.data_ptr()
    lib.spikefed_events_weight_grad(a)
    flat = fused.transpose(table, table.new_empty(_padded(co), ci * k * k), len(table), ci * k * k, _LANES)
    return flat.unflatten(1, (ci, k, k))[:co]


def listed_rows(x: Tensor, marks: Marks | None = None) -> EventList:
    """The events of a linear layer's input ``[N, Fin]``: of maps of one pixel with Fin channels."""
    return listed(x.view(*x.shape, 1, 1), marks)


def rows_product(
    rows: EventList, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, positions: int = 1
) -> Tensor:
    """Linear layer on listed rows, ``[N, Fout]`` in ``dtype``.

    Args:
        rows: of `listed_rows`: channels-last maps of ``positions`` pixels, as they lie in memory.
        weight: ``[Fout, Fin]``, float32, of the maps flattened in C, H, W order.
        bias: ``[Fout]`` or None.
        dtype: of the result.
        positions: pixels of a map; 1 for rows that are no maps.
    """
    a = _with_list(rows, dtype, len(weight), 1)
    a.places = positions
    return _product(a, weight, bias, torch.empty(rows.shape[0], len(weight), dtype=dtype))


def rows_weight_gradient(rows: BandedList, upstream: Tensor, positions: int = 1) -> Tensor:
    """Gradient of a linear layer's weight ``[Fout, Fin]`` (float32), of the maps flattened in C, H, W order.

    Args:
        rows: as given to `rows_product`, in bands.
        upstream: ``[N, Fout]``, gradient of the result.
        positions: as in `rows_product`.
    """
    lib = library()
    assert lib is not None
    weight = torch.empty(upstream.shape[1], rows.shape[1])
    a = _with_bands(rows, upstream.dtype, len(weight))
    a.places = positions
    a.go = upstream.data_ptr()
    a.weight = weight.data_ptr()
    lib.spikefed_events_rows_grad(a)
    return weight


def input_gradient_at(window: BandedList, upstream: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the input, in the precision of ``upstream``, at the elements of ``window``, 0 elsewhere.

    ``upstream`` [N, Cout, H, W] channels-last. Sums are float32.
    """
    lib = library()
    assert lib is not None
    out = torch.empty(window.shape, dtype=upstream.dtype, memory_format=torch.channels_last)
    table = _table(weight.to(upstream.dtype).float())
    a = _with_bands(window, upstream.dtype, len(weight))
    a.go = upstream.data_ptr()
    a.weight = table.data_ptr()
    a.out = out.data_ptr()
    lib.spikefed_events_input_grad(a)
    return out


def _table(weight: Tensor) -> Tensor:
    """``weight`` [Cout, Cin, K, K] as the input gradient reads it: [Cout / 16 (rounded up), Cin * K * K, 16]."""
    rows, columns = _padded(len(weight)), weight[0].numel()
    flat = weight.detach().reshape(len(weight), columns)
    if rows > len(weight):
        flat = torch.cat([flat, flat.new_zeros(rows - len(weight), columns)])
    blocks = rows // _LANES
    return fused.transpose(flat.contiguous(), flat.new_empty(blocks, columns, _LANES), blocks, _LANES, columns)
