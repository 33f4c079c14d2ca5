"""Convolution and linear layers as autograd functions whose three products take different paths."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed.neurons import events, fused, products, winograd
from spikefed.neurons.paths import Plan
from spikefed.neurons.sides import Sides, pair


class Convolution(torch.autograd.Function):
    """Convolution by the products of a plan.

    Where the input was listed for the weight gradient, its list is saved for backward instead of the input; of frozen
    weights neither is.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, plan: Plan,
        window: events.BandedList | None, stride: Sides, padding: Sides, marks: events.Marks | None,
    ) -> Tensor:  # fmt: skip
        learning = ctx.needs_input_grad[1]
        lists = learning and plan.weight == "events"
        listed = events.listed(x, marks) if lists or plan.forward == "events" else None
        with torch.autocast("cpu", enabled=False):
            if plan.forward == "events" and listed is not None:
                out = events.convolve(listed, weight, bias, dtype, pair(stride)[0])
            elif plan.forward == "winograd":
                out = winograd.convolve(x.to(dtype), weight, bias)
            else:
                out = fused.channels_last(products.convolve(x, weight, bias, stride, padding, dtype))
        saved: tuple[Tensor, ...] = (x,) if learning else ()
        if lists and listed is not None:
            saved = events.banded(listed, weight.shape[2], pair(stride)[0]).tensors()
        ctx.save_for_backward(weight, *saved, *(window.tensors() if window else ()))
        ctx.shape = x.shape
        ctx.dtype = dtype
        ctx.x_dtype = x.dtype
        ctx.plan = plan
        ctx.listed = lists
        ctx.windowed = window is not None
        ctx.stride = stride
        ctx.padding = padding
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
                grad_x = _input_gradient(ctx, upstream, weight, rest).to(ctx.x_dtype)
            if ctx.needs_input_grad[1]:
                grad_weight = _weight_gradient(ctx, upstream, weight, rest)
            if ctx.bias_dtype is not None and ctx.needs_input_grad[2]:
                grad_bias = upstream.sum((0, 2, 3), dtype=torch.float32).to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias, None, None, None, None, None, None


def _input_gradient(ctx, upstream: Tensor, weight: Tensor, rest: list[Tensor]) -> Tensor:
    if ctx.windowed:
        return events.input_gradient_at(events.BandedList(ctx.shape, weight.shape[2], 1, *rest[-3:]), upstream, weight)
    if ctx.plan.gradient == "winograd":
        return winograd.input_gradient(upstream, weight)
    return products.input_gradient(upstream, weight, ctx.shape, ctx.stride, ctx.padding)


def _weight_gradient(ctx, upstream: Tensor, weight: Tensor, rest: list[Tensor]) -> Tensor:
    if ctx.listed:
        listed = events.BandedList(ctx.shape, weight.shape[2], pair(ctx.stride)[0], *rest[:3])
        return events.weight_gradient(listed, upstream)
    if ctx.plan.weight == "direct":
        last = rest[0].to(upstream.dtype).contiguous(memory_format=torch.channels_last)
        return winograd.weight_gradient(upstream, last, weight, direct=True)
    if ctx.plan.gradient == "winograd":
        return winograd.weight_gradient(upstream, rest[0].to(upstream.dtype), weight)
    return products.weight_gradient(upstream, rest[0], weight, ctx.stride, ctx.padding)


class Linear(torch.autograd.Function):
    """Linear layer in float32, or in bfloat16 through it, its three products by oneDNN."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(weight, *((x,) if ctx.needs_input_grad[1] else ()))
        ctx.x_dtype = x.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.dtype = dtype
        with torch.autocast("cpu", enabled=False):
            return products.linear(x, weight, bias, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, *saved = ctx.saved_tensors
        dtype = ctx.dtype
        upstream = grads[0].to(dtype).contiguous()
        grad_x = grad_weight = grad_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                grad_x = products.linear(upstream, weight.t(), None, dtype).to(ctx.x_dtype)
            if ctx.needs_input_grad[1]:
                grad_weight = products.linear_weight_gradient(upstream, saved[0], dtype).to(weight.dtype)
            if ctx.bias_dtype is not None and ctx.needs_input_grad[2]:
                grad_bias = upstream.float().sum(0).to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias, None


class ListedLinear(torch.autograd.Function):
    """Linear layer on the non-zeros of its input, which is saved as a list; the input's gradient is dense.

    Maps ``[N, C, H, W]`` in channels-last memory are read as they lie; the lists' product and the weight gradient know
    the order of such maps.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, marks: events.Marks | None = None
    ) -> Tensor:
        shape = x.shape
        mixed = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        ctx.positions = shape[2:].numel() if mixed else 1
        rows = (x.permute(0, 2, 3, 1).flatten(1) if mixed else x.flatten(1)).to(dtype).contiguous()
        with torch.autocast("cpu", enabled=False):
            listed = events.listed_rows(rows, marks)
            out = events.rows_product(listed, weight, bias, dtype, ctx.positions)
        banded = events.banded(listed, 1).tensors() if ctx.needs_input_grad[1] else ()
        ctx.save_for_backward(weight, *banded)
        ctx.shape = shape
        ctx.mixed = mixed
        ctx.x_dtype = x.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.dtype = dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, *banded = ctx.saved_tensors
        upstream = grads[0].to(ctx.dtype).contiguous()
        grad_x = grad_weight = grad_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                grad_x = _rows_input_gradient(ctx, upstream, weight).to(ctx.x_dtype)
            if ctx.needs_input_grad[1]:
                one_pixel = torch.Size((len(upstream), weight.shape[1], 1, 1))
                lists = events.BandedList(one_pixel, 1, 1, *banded)
                grad_weight = events.rows_weight_gradient(lists, upstream, ctx.positions)
            if ctx.bias_dtype is not None and ctx.needs_input_grad[2]:
                grad_bias = upstream.float().sum(0).to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias, None, None


def _rows_input_gradient(ctx, upstream: Tensor, weight: Tensor) -> Tensor:
    """The dense product; maps come to channels-last memory by turning the rows or, where that is less, the weight."""
    if not ctx.mixed:
        return products.linear(upstream, weight.t(), None, ctx.dtype).view(ctx.shape)
    n, c, h, w = ctx.shape
    if n <= len(weight):
        return _as_map(products.linear(upstream, weight.t(), None, ctx.dtype), ctx.shape)
    turned = fused.transpose(weight.contiguous(), torch.empty_like(weight), len(weight), c, h * w)
    return products.linear(upstream, turned.t(), None, ctx.dtype).view(n, h, w, c).permute(0, 3, 1, 2)


def _as_map(rows: Tensor, shape: torch.Size) -> Tensor:
    """``[N, C * H * W]`` as a channels-last map."""
    n, c, h, w = shape
    out = torch.empty(shape, dtype=rows.dtype, memory_format=torch.channels_last)
    return fused.transpose(rows.contiguous(), out, n, c, h * w)


class Flatten(torch.autograd.Function):
    """``flatten(1)`` of a channels-last map, by a native transpose (torch's generic copy is several times slower)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        n, c, h, w = x.shape
        return fused.transpose(x, x.new_empty(n, c * h * w), n, h * w, c)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensor:
        return _as_map(grads[0], ctx.shape)
