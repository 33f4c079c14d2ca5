"""Convolution and linear layers whose input is (mostly) spikes; the fastest path is chosen inside.

Every path gives torch's result: in float32 up to the order of sums (1e-5 relative), in bf16 up to
the rounding of results (event lists keep their sums in float32).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from spikefed.neurons import events, fused, gpu, paths, products, synapses
from spikefed.neurons.autograd import Convolution, Flatten, Linear, ListedLinear
from spikefed.neurons.kernels import kernels
from spikefed.neurons.sides import Sides


def spike_conv2d(
    x: Float[Tensor, "N Cin H W"],
    weight: Float[Tensor, "Cout Cin Kh Kw"],
    bias: Float[Tensor, " Cout"] | None = None,
    *,
    padding: Sides = 0,
    stride: Sides = 1,
) -> Float[Tensor, "N Cout H2 W2"]:
    """2-D convolution, as ``torch.nn.functional.conv2d``, for inputs with many zeros (spikes, pooled spikes).

    Images work too. Give the tensor that ``norm_lif`` returned as it is: its measured density comes with it and
    decides between the dense kernel and event lists (``paths.convolution``).

    Args:
        x: input map.
        weight: kernels.
        bias: one number an output channel, or None.
        padding: zeros around the map; a pair ``(rows, columns)`` where they differ.
        stride: step of the window; likewise.
    """
    if not _fits(x, weight, bias, 4, x.shape[1] if x.dim() == 4 else -1):
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)  # which says what is wrong
    dtype = _compute_dtype(x)
    way = _sparse(x, weight, dtype, stride, padding)
    if way is not None:
        _note_sparse("spike_conv2d", way, x, weight)
        return synapses.convolution(x, weight, bias, way)
    if not _fast(x, dtype) or gpu.interpreted():
        learning = kernels() == "auto" and torch.is_grad_enabled() and weight.requires_grad
        kept = gpu.packed(x) if learning else None
        if kept is None:
            return F.conv2d(x, weight, bias, stride=stride, padding=padding)
        paths.note("spike_conv2d", "dense", "input spikes kept packed for backward", x)
        return cast(Tensor, gpu.PackedConv.apply(x, weight, bias, kept, dtype, stride, padding))
    plan = paths.convolution(x, weight, stride, padding, dtype)
    learning = torch.is_grad_enabled() and weight.requires_grad
    window = None
    reason = plan.reason
    if learning and x.requires_grad and paths.could_list(x, weight, stride, padding):
        inside = _narrow(x, paths.window_limit(weight, dtype))
        if inside is not None:
            window = events.banded(inside, weight.shape[2])
            reason += f"; input gradient for the {inside.density:.3f} of neurons inside the surrogate's window"
    paths.note("spike_conv2d", plan.path, reason, x, paths.density_of(x) or float("nan"))
    marks = paths.marks_of(x)
    if x.shape[1] > 1:
        x = x.contiguous(memory_format=torch.channels_last)
    plain = plan.forward == "dense" and not products.emulated(dtype)
    if plain and (not learning or (plan.weight == plan.gradient == "dense" and window is None)):
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)
    taught = weight if learning else weight.detach()  # a parameter asks for a gradient under no_grad too
    return cast(Tensor, Convolution.apply(x, taught, bias, dtype, plan, window, stride, padding, marks))


def _narrow(x: Tensor, limit: float) -> events.EventList | None:
    """The list of ``x``'s window if it is narrow enough to pay."""
    window, inside = paths.window_of(x), paths.inside_of(x)
    return None if window is None or inside is None or inside >= limit else events.listed(window)


def spike_linear(
    x: Float[Tensor, " N *rest"],
    weight: Float[Tensor, "Fout Fin"],
    bias: Float[Tensor, " Fout"] | None = None,
) -> Float[Tensor, "N Fout"]:
    """Linear layer on ``x`` flattened after its first axis in C, H, W order.

    Give the map ``[N, C, H, W]`` as it is: the reordering of a channels-last map is then done by a fast kernel.
    """
    if not _fits(x, weight, bias, 2, x.shape[1:].numel() if x.dim() > 1 else -1):
        return F.linear(x.flatten(1), weight, bias)  # likewise
    density = paths.density_of(x) or float("nan")
    dtype = _compute_dtype(x)
    way = _sparse(x, weight, dtype)
    if way is not None:
        _note_sparse("spike_linear", way, x, weight)
        return synapses.linear(x, weight, bias, way)
    if not _fast(x, dtype):
        paths.note("spike_linear", "dense", "matrix product", x, density)
        return F.linear(x.flatten(1), weight, bias)
    if paths.linear_by_lists(x, weight, dtype):
        paths.note("spike_linear", "events", f"density {density:.3f}: sums over the non-zeros alone", x, density)
        return cast(Tensor, ListedLinear.apply(x, weight, bias, dtype, paths.marks_of(x)))
    mixed = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    mixed = mixed and fused.suits(x)
    reason = "matrix product after a native flatten" if mixed else "matrix product"
    flat = cast(Tensor, Flatten.apply(x)) if mixed else x.flatten(1)
    if products.emulated(dtype):
        paths.note("spike_linear", "dense", f"{reason}; {products.WHY_EMULATED}", x, density)
        return cast(Tensor, Linear.apply(flat, weight, bias, dtype))
    if products.onednn() is None or {dtype, weight.dtype} != {torch.float32}:
        paths.note("spike_linear", "dense", reason, x, density)
        return F.linear(flat, weight, bias)
    paths.note("spike_linear", "dense", f"{reason}, by oneDNN", x, density)
    return cast(Tensor, Linear.apply(flat, weight, bias, dtype))


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None, axes: int, inputs: int) -> bool:
    """Whether sizes and devices fit together: kernels read as much memory as ``x`` and the weight say there is.

    Args:
        x: ``[N, Cin, H, W]`` or ``[N, *rest]``.
        weight: ``[Cout, Cin, Kh, Kw]`` or ``[Fout, Fin]``.
        bias: ``[Cout]`` or ``[Fout]``.
        axes: how many the weight is to have.
        inputs: Cin or Fin of ``x``.
    """
    if weight.dim() != axes or weight.shape[1] != inputs or weight.device != x.device:
        return False
    return bias is None or (bias.shape == weight.shape[:1] and bias.device == x.device)


def _sparse(
    x: Tensor, weight: Tensor, dtype: torch.dtype, stride: Sides = 1, padding: Sides = 0
) -> synapses.Way | None:
    """The way of a product with the non-zero weights only, where it pays."""
    if dtype != torch.float32 or not synapses.suits(x, weight, stride, padding) or not _fast(x, dtype):
        return None
    return synapses.choose(x, weight, paths.density_of(x))


def _note_sparse(operation: str, way: synapses.Way, x: Tensor, weight: Tensor) -> None:
    kept = synapses.density_of_weight(weight)
    density = paths.density_of(x)
    paths.note(operation, f"synapses {way}", f"{kept:.3f} of the weights are left", x, density or float("nan"))


def _fast(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether our own functions take ``x``: with the library, or for bfloat16 that torch is slow at."""
    if x.device.type != "cpu" or kernels() != "auto" or dtype not in (torch.float32, torch.bfloat16):
        return False
    return fused.suits(x) or (products.emulated(dtype) and x.numel() > 0 and not fused.transformed())


def _compute_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
