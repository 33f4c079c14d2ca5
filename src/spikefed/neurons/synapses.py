"""Products with the non-zero weights only, native: convolutions (stride 1, same padding) and linear layers.

Two ways, both exact up to the order of sums:
  by event   a spike adds the weights of its surviving synapses, and nothing else is touched
  by weight  a surviving weight meets a vector of inputs of many images at once

Which is faster than a dense product, and which of the two, follows from the two densities (`choose`). For inference: a
list of synapses is made once and used for as long as the weights stay as they are. (A change behind autograd's back,
through ``weight.data``, is not seen, as anywhere in torch.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from spikefed import native
from spikefed.neurons import fused, processor
from spikefed.neurons.kernels import kernels
from spikefed.neurons.sides import Sides

Way = Literal["by event", "by weight"]

MOST = 0.3
"""Part of weights that are not zero above which no list is made."""
FEW, LARGE = 0.05, 1 << 15
"""Part of weights left, and number of weights, at which a layer leaves the chain of small layers."""
LEAST_WEIGHTS = 4096
"""Weights below which a layer is too small for lists."""


class Arguments(ctypes.Structure):
    """Mirror of ``struct Synapses`` in native/synapses.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "out", "bias", "start", "channel", "tap", "value")),
        *((name, c_int64) for name in ("images", "height", "width", "in_channels", "out_channels", "kernel")),
        ("by_event", c_int32),
        ("threads", c_int32),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None or not hasattr(lib, "spikefed_synapses"):
        return None
    lib.spikefed_synapses.argtypes, lib.spikefed_synapses.restype = [ctypes.POINTER(Arguments)], None
    lib.spikefed_synapses_size.restype = c_int64
    return lib if lib.spikefed_synapses_size() == ctypes.sizeof(Arguments) else None


def library() -> ctypes.CDLL | None:
    """The native library with these kernels, or ``None``."""
    return _prepared() if native.library() is not None else None


@dataclass(frozen=True)
class SynapseList:
    """The non-zeros of a weight ``[Cout, Cin, K, K]``, grouped.

    Attributes:
        shape: of the weight.
        start: int32 ``[groups + 1]``: where those of an input channel (by event) or output channel (by weight) begin.
        channel: int32: output channel (by event) or input channel (by weight).
        tap: int32: row of the kernel * K + column.
        value: float32.
    """

    shape: torch.Size
    way: Way
    start: Tensor
    channel: Tensor
    tap: Tensor
    value: Tensor

    @classmethod
    def of(cls, weight: Tensor, way: Way) -> SynapseList:
        """The list of a weight ``[Cout, Cin, K, K]``."""
        outputs, inputs, kernel = weight.shape[0], weight.shape[1], weight.shape[2]
        taps = weight.detach().reshape(outputs, inputs, kernel * kernel)
        by_group = taps.permute(1, 2, 0) if way == "by event" else taps.permute(0, 2, 1)  # group, tap, other channel
        flat = by_group.reshape(by_group.shape[0], -1)
        group, place = flat.nonzero(as_tuple=True)
        counts = torch.bincount(group, minlength=len(flat)).cumsum(0)
        start = torch.cat([counts.new_zeros(1), counts]).to(torch.int32)
        others = by_group.shape[2]
        channel, tap = (place % others).to(torch.int32), (place // others).to(torch.int32)
        return cls(weight.shape, way, start, channel, tap, flat[group, place].float().contiguous())


class _Known:
    """What is known of a weight as it was at a version."""

    def __init__(self, weight: Tensor) -> None:
        self.version = (weight._version, weight.data_ptr())
        self.density = int(weight.count_nonzero()) / max(weight.numel(), 1)
        self.lists: dict[tuple[Way, tuple[int, ...]], SynapseList] = {}


_known: WeakIdKeyDictionary = WeakIdKeyDictionary()
_off = False


@contextmanager
def dense_weights() -> Iterator[None]:
    """No sparse products inside: what pruned networks cost before, for comparisons."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


def _of(weight: Tensor) -> _Known:
    known = _known.get(weight)
    if known is None or known.version != (weight._version, weight.data_ptr()):
        known = _Known(weight)
        _known[weight] = known
    return known


def density_of_weight(weight: Tensor) -> float:
    """Part of a weight that is not zero; counted once, as long as it is not changed in place."""
    return _of(weight).density


def suits(x: Tensor, weight: Tensor, stride: Sides = 1, padding: Sides = 0) -> bool:
    """Whether these kernels can take this product, and nobody needs its gradient.

    Args:
        x: ``[N, C, H, W]``, or ``[N, F]`` for a linear layer.
        weight: ``[C_out, C_in, Kh, Kw]`` (only square ones are taken) or ``[F_out, F_in]``.
        stride: of the convolution; only 1 is taken.
        padding: of the convolution; only K // 2 is taken.
    """
    if _off or kernels() == "reference" or torch.is_grad_enabled() or not x.dtype == weight.dtype == torch.float32:
        return False
    if weight.is_inference():
        return False  # such tensors do not say whether they were written to since
    conv = weight.dim() == 4
    if conv and not (weight.shape[2] == weight.shape[3] and weight.shape[2] in (1, 3, 5, 7) and stride == 1):
        return False
    if (conv and (padding != weight.shape[2] // 2 or x.dim() != 4)) or weight.numel() < LEAST_WEIGHTS:
        return False
    return x.device.type == weight.device.type == "cpu" and x.numel() > 0 and library() is not None


def few_weights(weight: Tensor, most: float = FEW) -> bool:
    """Whether a large weight has so few entries left, outside training, that lists of them pay at most sizes.

    Args:
        weight: of any shape.
        most: part of its entries below which they are few.
    """
    if _off or torch.is_grad_enabled() or weight.numel() < LARGE or weight.dtype != torch.float32:
        return False
    if fused.transformed() or kernels() == "reference" or weight.is_inference():
        return False
    return weight.device.type == "cpu" and library() is not None and density_of_weight(weight) < most


@dataclass(frozen=True)
class Costs:
    """Nanoseconds on one thread, measured (benchmarks/sparse.py): what decides between ways.

    Attributes:
        filtered: a multiply-add of the dense convolution, by Winograd's filtering or oneDNN.
        multiplied: a multiply-add of the dense linear layer.
        listed: a multiply-add of an input that is not zero, by event lists with dense weights.
        handled: a weight, whatever is computed with it, in a dense convolution.
        read: the same in a linear layer.
        synapse: an addition by event.
        event: an input that is not zero, by event.
        gathered: a multiply-add by weight.
        moved: an input looked at or a sum set down.
    """

    filtered: float
    multiplied: float
    listed: float
    handled: float
    read: float
    synapse: float
    event: float
    gathered: float
    moved: float


COSTS = {
    "avx512": Costs(0.0033, 0.0085, 0.02, 1.6, 0.3, 0.5, 9.0, 0.036, 0.35),
    "avx2": Costs(0.006, 0.012, 0.04, 1.6, 0.3, 0.6, 10.0, 0.08, 0.4),
    "portable": Costs(0.02, 0.02, 0.1, 1.6, 0.3, 0.8, 12.0, 0.3, 0.6),
}
MARGIN = 0.8
"""A sparse product is taken where its cost is below this part of the dense one's."""


def choose(x: Tensor, weight: Tensor, density: float | None) -> Way | None:
    """The faster way of a product that `suits`; None where a dense one is.

    Args:
        x: ``[N, Cin, H, W]`` or ``[N, F]``.
        weight: ``[Cout, Cin, K, K]`` or ``[Cout, F]``.
        density: part of ``x`` that is not zero; None if not known.
    """
    kept = density_of_weight(weight)
    if kept > MOST:
        return None
    conv = weight.dim() == 4
    places = x.shape[0] * (x.shape[2] * x.shape[3] if conv else 1)
    work, moved = places * weight.numel(), x.numel() + places * len(weight)
    cost, known = COSTS[processor.instruction_set()], 1.0 if density is None else density
    setting_out = moved * cost.moved + kept * weight.numel()
    ways: dict[Way, float] = {
        "by event": kept * work * known * cost.synapse + known * x.numel() * cost.event + setting_out,
        "by weight": kept * work * cost.gathered * (1 if conv else 1.4) + setting_out,
    }
    dense = work * (cost.filtered if conv else cost.multiplied) + weight.numel() * (cost.handled if conv else cost.read)
    if conv and density is not None:
        by_list = work * density * cost.listed + moved * cost.moved + weight.numel() * cost.handled
        dense = min(dense, by_list)
    best = min(ways, key=lambda way: ways[way])
    return best if ways[best] < MARGIN * dense else None


def listed(weight: Tensor, way: Way, map_shape: tuple[int, ...] = ()) -> SynapseList:
    """The synapses of a weight, made once for as long as it stays as it is.

    Args:
        weight: ``[Cout, Cin, K, K]``, or ``[Cout, F]`` of a linear layer.
        way: of the product.
        map_shape: of a linear layer on a channels-last map: ``(C, H, W)``, F = C * H * W.
    """
    known = _of(weight)
    key = (way, tuple(map_shape))
    if key not in known.lists:
        known.lists[key] = SynapseList.of(_as_convolution(weight, map_shape), way)
    return known.lists[key]


def _as_convolution(weight: Tensor, map_shape: tuple[int, ...]) -> Tensor:
    if weight.dim() == 4:
        return weight
    if map_shape:  # columns in the order of memory: row, column, channel
        weight = weight.detach().unflatten(1, map_shape).permute(0, 2, 3, 1)
    return weight.reshape(len(weight), -1, 1, 1)


def multiply(x: Tensor, synapses: SynapseList, bias: Tensor | None) -> Tensor:
    """The product of ``x``, channels-last ``[N, Cin, H, W]`` float32, with listed weights: ``[N, Cout, H, W]``."""
    lib = library()
    assert lib is not None
    outputs, inputs, kernel = synapses.shape[:3]
    n, _, h, w = x.shape
    out = torch.empty((n, outputs, h, w), memory_format=torch.channels_last)
    bias = None if bias is None else bias.detach().float().contiguous()
    a = Arguments()
    a.x, a.out, a.bias = x.data_ptr(), out.data_ptr(), None if bias is None else bias.data_ptr()
    a.start, a.value = synapses.start.data_ptr(), synapses.value.data_ptr()
    a.channel, a.tap = synapses.channel.data_ptr(), synapses.tap.data_ptr()
    a.images, a.in_channels, a.height, a.width, a.out_channels, a.kernel = n, inputs, h, w, outputs, kernel
    a.by_event, a.threads = synapses.way == "by event", torch.get_num_threads()
    lib.spikefed_synapses(a)
    return out


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, way: Way) -> Tensor:
    """``conv2d`` with padding K // 2 and stride 1: ``[N, C_out, H, W]``.

    Args:
        x: ``[N, C_in, H, W]`` in any layout.
        weight: ``[C_out, C_in, K, K]``.
        bias: ``[C_out]``.
        way: by event or by weight.
    """
    return multiply(x.detach().contiguous(memory_format=torch.channels_last), listed(weight, way), bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, way: Way) -> Tensor:
    """``linear`` of ``x`` flattened after its first axis in C, H, W order: ``[N, F_out]``.

    Args:
        x: ``[N, F_in]``, or maps ``[N, C, H, W]`` with C H W = F_in.
        weight: ``[F_out, F_in]``.
        bias: ``[F_out]``.
        way: by event or by weight.
    """
    x = x.detach()
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        flat, map_shape = x.permute(0, 2, 3, 1).reshape(len(x), -1, 1, 1), tuple(x.shape[1:])
    else:
        flat, map_shape = x.flatten(1).contiguous().reshape(len(x), -1, 1, 1), ()
    return multiply(flat, listed(weight, way, map_shape), bias).flatten(1)
