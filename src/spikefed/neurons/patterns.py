"""A first layer under rate coding in one pass: draws, 3x3 product on one channel, normalisation, LIF, pool.

A patch of 3x3 binary pixels is one of 512, so the layer's currents are rows of a table and no map of them is written;
what is kept for the way back is the patch of every pixel, in two bytes. The way back gives the gradient of the
currents added up over draws and steps, which is all that a gradient straight through the coder needs: one map an image.
Only this gradient is computed. Forward gives the bits of the product by table followed by `norm_lif`.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int64, c_void_p
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from spikefed import native
from spikefed.neurons import fused
from spikefed.neurons.chain import ChainLayer
from spikefed.neurons.kernels import kernels


class Arguments(ctypes.Structure):
    """Mirror of ``struct Patterns`` in native/patterns.h."""

    _fields_ = [
        ("neuron", fused.Arguments),
        *((name, c_void_p) for name in ("table", "pixels", "uniform", "patch")),
        *((name, c_int64) for name in ("images", "draws")),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None:
        return None
    for function in (lib.spikefed_patterns_forward, lib.spikefed_patterns_backward):
        function.argtypes = [ctypes.POINTER(Arguments)]
        function.restype = None
    lib.spikefed_patterns_size.restype = c_int64
    return lib if lib.spikefed_patterns_size() == ctypes.sizeof(Arguments) else None


def table_of_patches(weight: Float[Tensor, "C 1 3 3"], bias: Float[Tensor, " C"] | None) -> Float[Tensor, "512 C"]:
    """Weighted sums of every patch of 3x3 pixels that are 0 or 1.

    Bit 3 * row + column of a patch's number is that pixel's.
    """
    numbers = torch.arange(512, device=weight.device)
    pixels = (numbers[:, None] >> torch.arange(9, device=weight.device)) & 1
    return functional.conv2d(pixels.view(512, 1, 3, 3).to(weight.dtype), weight, bias).flatten(1)


def patterns_suit(layer: ChainLayer) -> bool:
    """Whether this path takes a layer: 3x3 on one channel, with neurons, and with statistics that do not move."""
    firing = layer.firing
    if kernels() != "auto" or native.library() is None or _prepared() is None or fused.transformed():
        return False
    if firing is None or layer.kind != "conv" or layer.weight.shape[1:] != (1, 3, 3) or firing.repeat:
        return False
    if firing.norm not in ("none", "bn", "tdbn") or firing.by_batch(layer.state) or firing.p.surrogate.code < 0:
        return False
    tensors = (layer.weight, layer.bias, *layer.state)
    return all(
        t is None or (t.dtype == torch.float32 and t.is_contiguous() and t.device.type == "cpu") for t in tensors
    )


class Traced(NamedTuple):
    """What the way back reads: the call's arguments, and the tensors that they point to."""

    arguments: Arguments
    held: tuple[Tensor | None, ...]
    shape: tuple[int, int, int, int]


@torch.no_grad()
def pattern_spikes(
    pixels: Float[Tensor, "B 1 H W"],
    uniform: Float[Tensor, "B D T 1 H W"],
    layer: ChainLayer,
    table: Float[Tensor, "512 C"],
) -> tuple[Float[Tensor, "N C H2 W2"], Traced]:
    """Spikes of the layer for D draws of each image. Call only if `patterns_suit`.

    Args:
        pixels: probabilities; one spikes where it is above its random number.
        uniform: random numbers in [0, 1).
        layer: the first of a network.
        table: `table_of_patches` of its weights.

    Returns:
        spikes (means of four, if pooled) ``[T * D * B, C, H', W']``, row ``(t * D + d) * B + b``, and what
        `pattern_gradient` needs.
    """
    lib = _prepared()
    firing = layer.firing
    assert lib is not None and firing is not None
    images, draws, steps = uniform.shape[:3]
    height, width = pixels.shape[-2:]
    channels = table.shape[1]
    options = {"norm": firing.norm, "pool": firing.pool, "repeat": False, "batch_statistics": False}
    options |= {"scale": firing.scale, "eps": firing.eps, "momentum": 0.0}
    currents = torch.Size((steps * draws * images, channels, height, width))
    a = Arguments(neuron=fused.arguments(currents, torch.float32, firing.p, steps, options))
    neuron = a.neuron
    neuron.channels = channels  # `arguments` leaves them out where nothing depends on them
    sides = (height // 2, width // 2) if firing.pool else (height, width)
    out = torch.empty((currents[0], channels, *sides), memory_format=torch.channels_last)
    patch = torch.empty(images, draws, steps, height, width, dtype=torch.int16)
    statistics = torch.empty(2, channels)
    nonzero = c_int64(0)
    held = (patch, table.contiguous(), pixels.contiguous(), uniform.contiguous(), statistics, *layer.state)
    a.patch, a.table, a.pixels, a.uniform = (t.data_ptr() for t in held[:4] if t is not None)
    neuron.mean = statistics.data_ptr()
    neuron.rstd = statistics[1].data_ptr()
    neuron.weight, neuron.bias, neuron.running_mean, neuron.running_var = map(native.pointer, layer.state)
    neuron.out = out.data_ptr()
    neuron.nonzero = ctypes.addressof(nonzero)
    a.images = images
    a.draws = draws
    lib.spikefed_patterns_forward(a)
    out._spikefed_nonzero = nonzero.value  # type: ignore[attr-defined]  # read by paths.density_of
    return out, Traced(a, held, (images, channels, height, width))


def pattern_gradient(traced: Traced, upstream: Float[Tensor, "N C H2 W2"]) -> Float[Tensor, "B C H W"]:
    """Gradient of the currents of each image, added up over draws and steps.

    Args:
        traced: what `pattern_spikes` left.
        upstream: gradient of its spikes.
    """
    lib = _prepared()
    assert lib is not None
    upstream = upstream.contiguous(memory_format=torch.channels_last)
    found = torch.empty(traced.shape, memory_format=torch.channels_last)
    traced.arguments.neuron.grad_out = upstream.data_ptr()
    traced.arguments.neuron.grad_x = found.data_ptr()
    lib.spikefed_patterns_backward(traced.arguments)
    return found
