"""Convolution and linear layers whose input is (mostly) spikes; the fastest path is chosen inside.

Every path gives torch's result: in float32 up to the order of sums (1e-5 relative), in bf16 up to
the rounding of results (event lists keep their sums in float32).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed.neurons import events, fused, gpu, paths
from spikefed.neurons.kernels import kernels


def spike_conv2d(
    x: Float[Tensor, "N Cin H W"],
    weight: Float[Tensor, "Cout Cin K K"],
    bias: Float[Tensor, " Cout"] | None = None,
    *,
    padding: int = 0,
    stride: int = 1,
) -> Float[Tensor, "N Cout H2 W2"]:
    """2-D convolution, as ``torch.nn.functional.conv2d``, for inputs with many zeros (spikes, pooled spikes).

    Images work too. Give the tensor that ``norm_lif`` returned as it is: its measured density comes with it and
    decides between the dense kernel and event lists (``paths.convolution``).
    """
    dtype = _compute_dtype(x)
    if not _fast(x) or gpu.interpreted():
        learning = kernels() == "auto" and torch.is_grad_enabled() and weight.requires_grad
        kept = gpu.packed(x) if learning else None
        if kept is None:
            return F.conv2d(x, weight, bias, stride=stride, padding=padding)
        paths.note("spike_conv2d", "dense", "input spikes kept packed for backward", x)
        return gpu.PackedConv.apply(x, weight, bias, kept, dtype, stride, padding)  # type: ignore[return-value]
    path, reason = paths.convolution(x, weight, stride, padding, dtype)
    learning = torch.is_grad_enabled() and weight.requires_grad
    plan = _Plan(path == "events", path != "dense" and learning, None)
    if learning and x.requires_grad and paths.could_list(x, weight, stride, padding):
        inside = _narrow(paths.window_of(x), paths.window_limit(dtype))
        if inside is not None:
            plan = plan._replace(window=events.banded(inside, weight.shape[2]))
            reason += f"; input gradient for the {inside.density:.3f} of neurons inside the surrogate's window"
    paths.note("spike_conv2d", path, reason, x, paths.density_of(x) or float("nan"))
    if x.shape[1] > 1:
        x = x.contiguous(memory_format=torch.channels_last)
    if not plan.forward and not plan.weight and plan.window is None:
        return F.conv2d(x, weight, bias, stride=stride, padding=padding)
    return _EventConv.apply(x, weight, bias, dtype, plan)  # type: ignore[return-value]


def _narrow(window: Tensor | None, limit: float) -> events.EventList | None:
    """The window's list if it is narrow enough to pay."""
    if window is None or limit <= 0:
        return None
    listed = events.listed(window)
    return listed if listed.density < limit else None


def spike_linear(
    x: Float[Tensor, " N *rest"],
    weight: Float[Tensor, "Fout Fin"],
    bias: Float[Tensor, " Fout"] | None = None,
) -> Float[Tensor, "N Fout"]:
    """Linear layer on ``x`` flattened after its first axis in C, H, W order.

    Give the map ``[N, C, H, W]`` as it is: the reordering of a channels-last map is then done by a fast kernel.
    """
    density = paths.density_of(x) or float("nan")
    if not _fast(x):
        paths.note("spike_linear", "dense", "matrix product", x, density)
        return F.linear(x.flatten(1), weight, bias)
    mixed = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    reason = "matrix product after a native flatten" if mixed else "matrix product"
    flat: Tensor = _Flatten.apply(x) if mixed else x.flatten(1)  # type: ignore[assignment]
    if _product() is None or {_compute_dtype(x), weight.dtype} != {torch.float32}:
        paths.note("spike_linear", "dense", reason, x, density)
        return F.linear(flat, weight, bias)
    paths.note("spike_linear", "dense", f"{reason}, by oneDNN", x, density)
    return _Linear.apply(flat, weight, bias)  # type: ignore[return-value]


@cache
def _product() -> Callable[[Tensor, Tensor, Tensor | None], Tensor] | None:
    """oneDNN's float32 ``F.linear``, ``None`` if this torch has none.

    Torch's own product is MKL's, which reaches 0.4 of oneDNN's speed on AMD processors (measured) and the same on
    Intel's.
    """
    call = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
    return None if call is None else lambda x, w, b: call(x, w, b, "none", [], "")


def _fast(x: Tensor) -> bool:
    return x.device.type == "cpu" and kernels() == "auto" and fused.suits(x)


def _compute_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class _Plan(NamedTuple):
    """Which products use lists. ``window``: where the input gradient is needed, ``None`` = everywhere."""

    forward: bool
    weight: bool
    window: events.BandedList | None


class _EventConv(torch.autograd.Function):
    """Convolution that may use event lists in each of its three products.

    Where the input was listed, its list is saved for backward instead of the input.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, plan: _Plan) -> Tensor:
        listed = events.listed(x) if plan.forward or plan.weight else None
        with torch.autocast("cpu", enabled=False):
            if plan.forward and listed is not None:
                out = events.convolve(listed, weight, bias, dtype)
            else:
                cast = weight.to(dtype).contiguous(memory_format=torch.channels_last)
                out = F.conv2d(
                    x.to(dtype), cast, None if bias is None else bias.to(dtype), padding=weight.shape[2] // 2
                )
        saved: tuple[Tensor, ...] = (x,) if listed is None else ()
        if listed is not None and plan.weight:
            saved = events.banded(listed, weight.shape[2]).tensors()
        ctx.save_for_backward(weight, *saved, *(plan.window.tensors() if plan.window else ()))
        ctx.shape, ctx.dtype, ctx.x_dtype, ctx.plan = x.shape, dtype, x.dtype, plan._replace(window=None)
        ctx.listed, ctx.windowed = listed is not None, plan.window is not None
        ctx.bias_dtype = None if bias is None else bias.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, *rest = ctx.saved_tensors
        upstream = grads[0].to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = grad_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                if ctx.windowed:
                    grad_x = events.input_gradient_at(
                        events.BandedList(ctx.shape, weight.shape[2], *rest[-3:]), upstream, weight
                    )
                else:
                    grad_x = events.input_gradient(upstream, weight, ctx.shape)
                grad_x = grad_x.to(ctx.x_dtype)
            if ctx.needs_input_grad[1]:
                if ctx.listed:
                    grad_weight = events.weight_gradient(
                        events.BandedList(ctx.shape, weight.shape[2], *rest[:3]), upstream
                    )
                else:
                    grad_weight = events.dense_weight_gradient(upstream, rest[0].to(ctx.dtype), weight)
            if ctx.bias_dtype is not None and ctx.needs_input_grad[2]:
                grad_bias = upstream.sum((0, 2, 3), dtype=torch.float32).to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias, None, None


class _Linear(torch.autograd.Function):
    """Linear layer in float32, its three products by oneDNN."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        product = _product()
        assert product is not None
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), product = ctx.saved_tensors, _product()
        assert product is not None
        upstream = grads[0].contiguous()
        grad_x = product(upstream, weight.t(), None) if ctx.needs_input_grad[0] else None
        grad_weight = product(upstream.t(), x.t(), None) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight, upstream.sum(0) if ctx.biased and ctx.needs_input_grad[2] else None


class _Flatten(torch.autograd.Function):
    """``flatten(1)`` of a channels-last map, by a native transpose (torch's generic copy is several times slower)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        n, c, h, w = x.shape
        return fused.transpose(x, x.new_empty(n, c * h * w), n, h * w, c)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        n, c, h, w = ctx.shape
        out = torch.empty(ctx.shape, dtype=grads[0].dtype, memory_format=torch.channels_last)
        return fused.transpose(grads[0].contiguous(), out, n, c, h * w)
