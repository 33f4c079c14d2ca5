"""Pruned spiking layers, one or many in a row, in one native call: products with the non-zero weights, norm, LIF, pool.

For inference. Maps stay planar between the layers and spikes are bytes, so that what a product gives is what neurons
take, and nothing is written down between them. At every step of a sample the weights that are left either meet vectors
of inputs, or each input that is not zero adds its synapses; its own inputs decide, so a sample's result depends neither
on the batch nor on threads. Results are those of the separate operations up to the order of sums.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from spikefed.neurons import fused, paths, processor, synapses
from spikefed.neurons.chain import ChainLayer
from spikefed.neurons.kernels import kernels

IMAGE_CHANNELS = 4
"""Input channels up to which a convolution has so few weights that it may keep them all."""
FEW_OUTPUTS = 16
"""Outputs up to which a linear layer may keep all of its weights."""
STEPS = 8
"""Steps that are worked on together: ``kSlots`` of native/pruned_steps.inl."""
NEAR = 2**17
"""Sums of output channels that are made together by event (512 kB)."""
_LISTS = ("outputs", "from_", "gathered", "inputs", "to", "scattered", "slope", "offset")
_SIZES = ("next", "group", "in_channels", "height", "width", "out_channels", "kernel", "pitch", "plane")


class LayerArguments(ctypes.Structure):
    """Mirror of ``struct PrunedLayer`` in native/pruned.h."""

    _fields_ = [
        *((name, c_void_p) for name in _LISTS),
        *((name, c_int64) for name in _SIZES),
        *((name, c_int32) for name in ("fires", "soft", "pool")),
        *((name, c_float) for name in ("decay", "theta", "fire")),
    ]


class Arguments(ctypes.Structure):
    """Mirror of ``struct Pruned`` in native/pruned.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("layers", "x", "out", "nonzero")),
        *((name, c_int64) for name in ("count", "samples", "steps")),
        *((name, c_int32) for name in ("repeat", "threads")),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None or not hasattr(lib, "spikefed_pruned"):
        return None
    lib.spikefed_pruned.argtypes, lib.spikefed_pruned.restype = [ctypes.POINTER(Arguments)], None
    lib.spikefed_pruned_size.restype = lib.spikefed_pruned_layer_size.restype = c_int64
    fits = lib.spikefed_pruned_size() == ctypes.sizeof(Arguments)
    return lib if fits and lib.spikefed_pruned_layer_size() == ctypes.sizeof(LayerArguments) else None


def library() -> ctypes.CDLL | None:
    """The native library with this kernel, or ``None``."""
    return _prepared() if synapses.library() is not None else None


ONE_BY_ONE = 4
"""Samples up to which a linear layer in a row of its own kind is faster a sample at a time."""


def most_kept(layers: Sequence[ChainLayer], samples: int) -> float:
    """Part of the weights left below which a row is faster than its layers one by one (benchmarks/sparse.py).

    Of few samples a dense product costs what its weights do, whatever it meets; of many a layer alone that is kept to a
    twentieth is where both cost the same, and a linear layer then shares its weights among samples.
    """
    if not any(layer.kind == "conv" for layer in layers):
        return synapses.FEW if samples <= ONE_BY_ONE else 0.0
    if len(layers) == 1 or processor.instruction_set() != "avx512":
        return synapses.FEW  # elsewhere not measured
    return 0.11 + 0.25 / samples


def suits(layer: ChainLayer, most: float = synapses.FEW) -> bool:
    """Whether a layer may be one of such a row: few weights are left, or there are few, and its statistics rest.

    Args:
        layer: any.
        most: part of the weights left that is few.
    """
    weight = layer.weight
    firing = layer.firing
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or not weight.is_contiguous():
        return False
    if any(t.is_inference() for t in _tensors(layer)):
        return False  # such tensors do not say whether they were written to since
    if weight.dim() == 4 and not (weight.shape[2] == weight.shape[3] and weight.shape[2] % 2):
        return False
    if firing is not None and (firing.norm not in ("none", "bn", "tdbn", "bntt") or firing.by_batch(layer.state)):
        return False
    few = weight.shape[1] <= IMAGE_CHANNELS if weight.dim() == 4 else len(weight) <= FEW_OUTPUTS
    return few or synapses.density_of_weight(weight) < most


def run_pruned(x: Tensor, layers: Sequence[ChainLayer]) -> Tensor | None:
    """Layers in a row by their non-zero weights, if all of them suit and one large one is pruned; else None.

    Args:
        x: ``[T * B, C, H, W]`` or ``[T * B, F]``, or ``[B, ...]`` where the first layer repeats its currents.
        layers: at least one; the first and the last may keep all weights where these are few.

    Returns:
        the last layer's output, planar; None where another path is to be taken.
    """
    if not _possible(x):
        return None
    steps = next((a.firing.steps for a in layers if a.firing is not None), 1)
    repeat = layers[0].firing is not None and layers[0].firing.repeat
    samples = max(len(x) if repeat else len(x) // steps, 1)
    most = most_kept(layers, samples)
    if not any(synapses.few_weights(layer.weight, most) for layer in layers):
        return None
    if not all(suits(layer, most) for layer in layers):
        return None
    if 4 * samples < torch.get_num_threads():
        return None  # products cut among threads are faster than a sample a thread
    row = _row(tuple(x.shape[1:]), layers, steps, repeat)
    if row is None:
        return None
    out: Any = torch.empty((steps * samples, *row.out_shape))
    nonzero = c_int64(0)
    _note(x, layers)
    x = _planar(x)
    a = Arguments()
    a.layers, a.x, a.out = ctypes.addressof(row.filled), x.data_ptr(), out.data_ptr()
    a.nonzero = ctypes.addressof(nonzero)
    a.count, a.samples, a.steps, a.repeat, a.threads = len(layers), samples, steps, repeat, torch.get_num_threads()
    lib = library()
    assert lib is not None
    lib.spikefed_pruned(a)
    if layers[-1].firing is not None:
        out._spikefed_nonzero = nonzero.value  # read by paths.density_of
    return out


def _possible(x: Tensor) -> bool:
    if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu" or not x.numel():
        return False
    if kernels() != "auto" or fused.transformed() or torch.is_autocast_enabled("cpu"):
        return False
    return library() is not None


def _note(x: Tensor, layers: Sequence[ChainLayer]) -> None:
    """Tell recorders of a layer; with them the layers of a network are called one by one."""
    if not paths.recording():
        return
    for layer in layers:
        name = "spike_conv2d" if layer.kind == "conv" else "spike_linear"
        kept = synapses.density_of_weight(layer.weight)
        why = f"{kept:.3f} of the weights are left; by event or by weight at each step, neurons in the same call"
        paths.note(name, "synapses", why, x, paths.density_of(x) or float("nan"))
        if layer.firing is not None:
            paths.note("norm_lif", "fused", "in the call of the product", x)


def _planar(x: Tensor) -> Tensor:
    """``x`` ``[N, ...]``, contiguous; a native transpose where channels lie last."""
    if x.is_contiguous() or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return x.contiguous()
    n, c, h, w = x.shape
    return fused.transpose(x, torch.empty((n, c, h, w)), n, h * w, c)


@dataclass
class _Row:
    """Layers ready to be called.

    Attributes:
        shape: of a sample that enters.
        seen: tensors, versions and places that this was made from; of the first, which has the entry, no tensor.
        told: how each layer fires.
        held: whatever the arguments point to.
        filled: the arguments.
        out_shape: of a sample that leaves.
    """

    shape: tuple[int, ...]
    seen: list[tuple[Tensor | None, int, int]]
    told: list[tuple]
    held: list[Tensor]
    filled: ctypes.Array
    out_shape: tuple[int, ...]

    def fresh(self, shape: tuple[int, ...], layers: Sequence[ChainLayer]) -> bool:
        tensors = [t for layer in layers for t in _tensors(layer)]
        if shape != self.shape or len(tensors) != len(self.seen) or self.told != [_told(layer) for layer in layers]:
            return False
        return all(
            (old is None or t is old) and t._version == version and t.data_ptr() == place
            for t, (old, version, place) in zip(tensors, self.seen, strict=True)
        )


_rows: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _tensors(layer: ChainLayer) -> list[Tensor]:
    return [t for t in (layer.weight, layer.bias, *layer.state) if t is not None]


def _told(layer: ChainLayer) -> tuple:
    return layer.kind, layer.firing


def _row(shape: tuple[int, ...], layers: Sequence[ChainLayer], steps: int, repeat: bool) -> _Row | None:
    """The arguments of layers on samples of a shape, made once for as long as no tensor changes."""
    known = _rows.get(layers[0].weight)
    if known is not None and known.fresh(shape, layers):
        return known
    filled = (LayerArguments * len(layers))()
    held: list[Tensor] = []
    place = shape
    share = 1.0
    for i, (a, layer) in enumerate(zip(filled, layers, strict=True)):
        slots = 1 if repeat and not i else min(steps, STEPS)
        after = _fill(a, layer, _Input(place, slots, share), held)
        if after is None or (layer.firing is None and layer is not layers[-1]):
            return None
        place = after
        share = 0.25 if layer.firing is not None and layer.firing.pool else 1.0
    tensors = [t for layer in layers for t in _tensors(layer)]
    seen = [(t if i else None, t._version, t.data_ptr()) for i, t in enumerate(tensors)]
    made = _Row(shape, seen, [_told(layer) for layer in layers], held, filled, place)
    _rows[layers[0].weight] = made
    return made


class _Input(NamedTuple):
    """What enters a layer.

    Attributes:
        shape: of a sample at a step.
        slots: steps that lie side by side.
        share: what a count of 1 stands for.
    """

    shape: tuple[int, ...]
    slots: int
    share: float


def _fill(a: LayerArguments, layer: ChainLayer, given: _Input, held: list[Tensor]) -> tuple[int, ...] | None:
    """One layer's arguments for such inputs; the shape behind it, or None if it does not fit."""
    weight = layer.weight.detach()
    conv = layer.kind == "conv"
    shape = given.shape
    if conv and (len(shape) != 3 or shape[0] != weight.shape[1]):
        return None
    if not conv:
        weight = weight.reshape(len(weight), -1, 1, 1)
        shape = (torch.Size(shape).numel(), 1, 1)
        if shape[0] != weight.shape[1]:
            return None
    channels, height, width = shape
    kernel = weight.shape[2]
    pad = kernel // 2
    pitch = width + pad  # a row's border is the next row's too
    plane = 1 if height * width == 1 and not pad else -(-((height + 2 * pad) * pitch + pad) // 16) * 16 + 16
    a.in_channels, a.height, a.width, a.out_channels, a.kernel = channels, height, width, len(weight), kernel
    a.pitch, a.plane = pitch, plane
    a.group = group = len(weight) if plane == 1 else max(NEAR // (STEPS * plane), 1)
    a.outputs, a.from_, a.gathered = _listed(
        weight, lambda other, row, column: other * given.slots * plane + row * pitch + column, held
    )
    grouped = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, -len(weight) % group)).unflatten(0, (-1, group)).transpose(1, 2)
    a.inputs, a.to, a.scattered = _listed(
        grouped.flatten(0, 1), lambda other, row, column: other * plane + (pad - row) * pitch + pad - column, held
    )
    _fill_neurons(a, layer, given.share, held)
    if layer.firing is not None and layer.firing.pool:
        height, width = height // 2, width // 2
    return (len(weight), height, width) if conv else (len(weight),)


def _fill_neurons(a: LayerArguments, layer: ChainLayer, share: float, held: list[Tensor]) -> None:
    """Normalisation, bias and the neurons' gain as one line, ``slope * sum + offset``."""
    firing, state = layer.firing, layer.state
    slope = torch.ones(len(layer.weight), dtype=torch.float64)
    offset = torch.zeros_like(slope) if layer.bias is None else layer.bias.detach().double()
    if firing is not None:
        p = firing.p
        a.fires, a.soft, a.pool = 1, p.kind == "soft", firing.pool
        a.decay, a.theta, a.fire = p.decay, p.v_threshold, fused.smallest_that_fires(p)
        if firing.norm != "none":
            assert state.running_mean is not None and state.running_var is not None
            slope = firing.scale / (state.running_var.detach().double() + firing.eps).sqrt()
            slope = slope if state.weight is None else slope * state.weight.detach().double()
            offset = (offset - state.running_mean.detach().double()) * slope
            offset = offset if state.bias is None else offset + state.bias.detach().double()
            a.next = a.out_channels if firing.norm == "bntt" else 0
        slope, offset = p.gain * slope, p.gain * offset
    held += [(share * slope).float().contiguous(), offset.float().contiguous()]
    a.slope, a.offset = held[-2].data_ptr(), held[-1].data_ptr()


def _listed(weight: Tensor, place: Any, held: list[Tensor]) -> tuple[int, int, int]:
    """Pointers to the non-zeros of ``[G, C, K, K]`` by G: where each begins, its distance, its value."""
    groups, others, rows, columns = weight.nonzero(as_tuple=True)
    counts = torch.bincount(groups, minlength=len(weight)).cumsum(0)
    start = torch.cat([counts.new_zeros(1), counts]).to(torch.int32)
    distance = place(others, rows, columns).to(torch.int32)
    held += [start, distance, weight[groups, others, rows, columns].contiguous()]
    begins, away, value = (t.data_ptr() for t in held[-3:])
    return begins, away, value
