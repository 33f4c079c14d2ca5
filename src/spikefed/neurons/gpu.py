"""The CUDA path of ``norm_lif`` and the saved inputs of convolutions: Triton kernels over all T steps.

Saved for backward: the input (a convolution's output) and the per-channel statistics; membranes are computed again.
A convolution behind ``norm_lif`` keeps its input spikes in one bit each (in one byte after a pool) instead of the map.
The reference is ``norm_lif_reference``; sums have a fixed order, so results repeat bit for bit.
"""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed.neurons.firing import Firing, NormState
from spikefed.neurons.fused import smallest_that_fires
from spikefed.neurons.parameters import LIFParameters
from spikefed.neurons.sides import Sides, pair

MOST_STEPS = 32  # the time loop is unrolled, its membranes live in registers
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@cache
def _module() -> ModuleType | None:
    try:
        from spikefed.neurons import triton_kernels
    except ImportError:  # Triton comes with CUDA builds of torch only
        return None
    return triton_kernels


def interpreted() -> bool:
    """Whether Triton runs its kernels in Python on CPU tensors (``TRITON_INTERPRET=1``; tests only)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def suits(x: Tensor, steps: int, *state: Tensor | None) -> bool:
    """Whether the kernels can take these tensors; if not the reference does.

    ``x`` is ``[T * B, ...]``, ``state`` ``[B, ...]``.
    """
    here = x.device.type == "cuda" or (interpreted() and x.device.type == "cpu")
    if not here or x.dtype not in _DTYPES or x.numel() == 0 or steps > MOST_STEPS:
        return False
    if torch._C._functorch.maybe_current_level() is not None:  # pyright: ignore  (inside a torch.func transform)
        return False
    return _module() is not None and all(t is None or t.dtype == torch.float32 for t in state)


def norm_lif_gpu(x: Tensor, firing: Firing, state: NormState, momentum: float) -> Tensor:
    """``norm_lif`` by Triton; call only if `suits`.

    Args:
        x: currents ``[T * B, C, ...]``, or ``[B, C, ...]`` with ``firing.repeat``.
        firing: how to normalise, fire and pool.
        state: tensors of the normalisation; running statistics move when training.
        momentum: of the running statistics.
    """
    options = {
        "norm": firing.norm,
        "scale": firing.scale,
        "batch_statistics": firing.by_batch(state),
        "running": (state.running_mean, state.running_var),
        "momentum": momentum,
        "eps": firing.eps,
        "pool": firing.pool,
        "repeat": firing.repeat,
    }
    out: Any = _NormLIF.apply(x, state.weight, state.bias, firing.p, firing.steps, options)
    out._spikefed_levels = 4 if firing.pool else 1  # read by `packed`
    return out


def _tile(channels: int, kernel: int) -> tuple[int, int]:
    """Rows and channels of a tile: 512 neurons, at most 64 channels wide."""
    wide = min(64, 1 << max(channels - 1, 0).bit_length())
    return max(1, 512 // (wide * kernel)), wide


def _exact() -> dict[str, bool]:
    """Options that keep products and sums apart: a potential on the threshold then fires as in the reference."""
    return {} if interpreted() else {"enable_fp_fusion": False}


def _shape(x: Tensor, steps: int, o: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """S (rows of a step), rows of the output of a step, C, H, W."""
    height, width = x.shape[2:] if x.dim() == 4 else (1, 1)
    images = x.shape[0] if o["repeat"] else x.shape[0] // steps
    rows = images * height * width
    return rows, images * (height // 2) * (width // 2) if o["pool"] else rows, x.shape[1], height, width


def _statistics(x: Tensor, steps: int, o: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(var + eps), ``[groups, C]`` float32; moves the running statistics."""
    running_mean, running_var = o["running"]
    if not o["batch_statistics"]:
        width = x.shape[1]
        return running_mean.reshape(-1, width), torch.rsqrt(running_var.reshape(-1, width) + o["eps"])
    kernels = _module()
    assert kernels is not None
    rows, _, channels, _, _ = _shape(x, steps, o)
    groups = 1 if o["norm"] != "bntt" or o["repeat"] else steps
    rows = rows if o["repeat"] or groups > 1 else steps * rows
    tile, wide = _tile(channels, 1)
    span = tile * max(1, -(-rows // (256 * tile)))
    chunks = -(-rows // span)
    partial = torch.empty(groups, chunks, 2, channels, device=x.device)
    kernels.moments[(chunks, groups, -(-channels // wide))](x, partial, rows, channels, span, R=tile, CB=wide)
    s1, s2 = partial.sum(1, dtype=torch.float64).unbind(1)
    shift = _first_rows(x, groups).double()
    mean, var = s1 / rows, (s2 / rows - (s1 / rows) ** 2).clamp(min=0)
    mean = mean + shift
    if running_mean is not None:
        counted = rows * steps if o["repeat"] and o["norm"] != "bntt" else rows
        unbiased = var * (counted / max(counted - 1, 1))
        running_mean.lerp_(mean.expand(_groups(steps, o), -1).reshape(running_mean.shape).float(), o["momentum"])
        running_var.lerp_(unbiased.expand(_groups(steps, o), -1).reshape(running_var.shape).float(), o["momentum"])
    rstd = torch.rsqrt(var.float() + o["eps"])
    return mean.float().expand(_groups(steps, o), -1).contiguous(), rstd.expand(_groups(steps, o), -1).contiguous()


def _groups(steps: int, o: dict[str, Any]) -> int:
    return steps if o["norm"] == "bntt" else 1


def _first_rows(x: Tensor, groups: int) -> Tensor:
    """The first channels-last row of every group, ``[groups, C]``."""
    first = x.unflatten(0, (groups, -1))[:, 0]
    return first if x.dim() == 2 else first[:, :, 0, 0]


class _NormLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, p: LIFParameters, steps: int, o: dict[str, Any]
    ) -> Tensor:
        kernels = _module()
        assert kernels is not None
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()
        rows, out_rows, channels, height, width = _shape(x, steps, o)
        shape = [x.shape[0] * (steps if o["repeat"] else 1), *x.shape[1:]]
        shape[2:] = [side // 2 for side in shape[2:]] if o["pool"] else shape[2:]
        form = torch.channels_last if x.dim() == 4 else torch.contiguous_format
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=form)
        normed = o["norm"] != "none"
        mean, rstd = _statistics(x, steps, o) if normed else (x.new_empty(0), x.new_empty(0))
        gain, shift = _affine(mean, rstd, weight, bias, o["scale"]) if normed else (mean, mean)
        kernel = 4 if o["pool"] else 1
        tile, wide = _tile(channels, kernel)
        kernels.lif_forward[(-(-out_rows // tile), -(-channels // wide))](
            x, out, mean, gain, shift, rows, out_rows, channels, height, width,
            p.decay, smallest_that_fires(p), p.v_threshold, p.gain,
            T=steps, NORM=normed, PER_STEP=o["norm"] == "bntt", SOFT=p.kind == "soft", REPEAT=o["repeat"],
            K=kernel, R=tile, CB=wide, **_exact(),
        )  # fmt: skip
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.p = p
        ctx.steps = steps
        ctx.options = o
        ctx.form = form
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kernels = _module()
        assert kernels is not None
        x, weight, bias, mean, rstd = ctx.saved_tensors
        p = ctx.p
        steps = ctx.steps
        o = ctx.options
        rows, out_rows, channels, height, width = _shape(x, steps, o)
        normed = o["norm"] != "none"
        groups = _groups(steps, o)
        gain, shift = _affine(mean, rstd, weight, bias, o["scale"]) if normed else (mean, mean)
        upstream = grads[0].to(x.dtype).contiguous(memory_format=ctx.form)
        kernel = 4 if o["pool"] else 1
        tile, wide = _tile(channels, kernel)
        tiles = -(-out_rows // tile)
        odd = o["pool"] and (height % 2 or width % 2)  # neurons outside every window
        grad_x = torch.zeros_like(x) if odd else torch.empty_like(x)
        partial = torch.empty(tiles if normed else 0, groups, 2, channels, device=x.device)
        kernels.lif_backward[(tiles, -(-channels // wide))](
            x, upstream, grad_x, partial, mean, rstd, gain, shift, rows, out_rows, channels, height, width,
            p.decay, smallest_that_fires(p), p.v_threshold, p.gain, *p.surrogate.constants(),
            0.0 if p.detach_reset else 1.0,
            T=steps, NORM=normed, PER_STEP=o["norm"] == "bntt", SOFT=p.kind == "soft", REPEAT=o["repeat"],
            SCALED=normed and (o["repeat"] or not o["batch_statistics"]), SURROGATE=p.surrogate.code,
            K=kernel, R=tile, CB=wide, **_exact(),
        )  # fmt: skip
        if not normed:
            return grad_x, None, None, None, None, None
        s1, s2 = partial.sum(0, dtype=torch.float64).unbind(1)  # [groups, C]: dy, dy * xhat
        if o["batch_statistics"]:
            _through_statistics(x, grad_x, mean, rstd, gain, s1, s2, steps, o)
        grad_weight = None if weight is None else (s2 * o["scale"]).reshape(weight.shape).to(weight.dtype)
        grad_bias = None if bias is None else s1.reshape(bias.shape).to(bias.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None


def _affine(
    mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Gain and shift of the normalisation, ``[groups, C]`` float32."""
    gain = rstd * scale if weight is None else rstd * scale * weight.detach().reshape(rstd.shape)
    return gain, torch.zeros_like(mean) if bias is None else bias.detach().reshape(mean.shape).contiguous()


def _through_statistics(
    x: Tensor,
    grad_x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    gain: Tensor,
    s1: Tensor,
    s2: Tensor,
    steps: int,
    o: dict[str, Any],
) -> None:
    """Adds what flows through the batch statistics: dx = gain * (dy - mean(dy) - xhat * mean(dy * xhat)), in place."""
    kernels = _module()
    assert kernels is not None
    rows, _, channels, _, _ = _shape(x, steps, o)
    n = rows if o["norm"] == "bntt" else steps * rows
    times = steps if o["repeat"] and o["norm"] != "bntt" else 1
    b = -times * gain * rstd * s2 / n
    d = -times * gain * s1 / n
    a = gain
    if o["repeat"]:  # gains are in already; steps add up
        a = torch.ones_like(gain[:1])
        b = b.sum(0, keepdim=True)
        d = d.sum(0, keepdim=True)
    sets = len(a)
    each = rows if sets > 1 or o["repeat"] else steps * rows
    tile, wide = _tile(channels, 1)
    kernels.finish[(-(-each // tile), sets, -(-channels // wide))](
        x, grad_x, mean, a.float().contiguous(), b.float(), d.float(), each, channels, R=tile, CB=wide
    )


def packed(x: Tensor) -> Tensor | None:
    """``x`` in bytes if ``norm_lif_gpu`` made it: one bit a spike, one byte (0 to 4) a pooled mean; else ``None``.

    ``x`` is ``[N, C, H, W]``, the result flat.
    """
    levels = getattr(x, "_spikefed_levels", 0)
    kernels = _module()
    if not levels or kernels is None or x.dtype not in _DTYPES:
        return None
    if levels > 1:
        return x.mul(levels).to(torch.uint8)
    out = torch.empty(-(-x.numel() // 8), dtype=torch.uint8, device=x.device)
    kernels.pack_bits[(-(-len(out) // 256),)](x, out, x.numel(), BLOCK=256)
    return out


def unpacked(kept: Tensor, levels: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Inverse of `packed`, channels-last.

    Args:
        kept: bytes ``[n]``.
        levels: 1 for spikes, 4 for pooled means.
        shape: ``[N, C, H, W]`` of the result.
        dtype: of the result.
    """
    kernels = _module()
    assert kernels is not None
    if levels > 1:
        return kept.to(dtype).div_(levels)
    form = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    out = torch.empty(shape, dtype=dtype, device=kept.device, memory_format=form)
    kernels.unpack_bits[(-(-out.numel() // 1024),)](kept, out, out.numel(), BLOCK=1024)
    return out


class PackedConv(torch.autograd.Function):
    """Convolution that keeps its input packed for the weight gradient."""

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor | None, kept: Tensor, dtype: torch.dtype,
        stride: Sides, padding: Sides,
    ) -> Tensor:  # fmt: skip
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(kept, weight)
        ctx.levels = x._spikefed_levels  # type: ignore[attr-defined]
        ctx.shape = x.shape
        ctx.dtype = dtype
        ctx.x_dtype = x.dtype
        ctx.sizes = list(pair(stride)), list(pair(padding))
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        with torch.autocast(x.device.type, enabled=False):
            cast = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            return torch.nn.functional.conv2d(
                x.to(dtype), cast, None if bias is None else bias.to(dtype), stride=stride, padding=padding
            )

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept, weight = ctx.saved_tensors
        upstream = grads[0].to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        x = unpacked(kept, ctx.levels, ctx.shape, ctx.dtype)
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.bias_sizes is not None]
        cast = weight.to(ctx.dtype).contiguous(memory_format=torch.channels_last)
        stride, padding = ctx.sizes
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            upstream, x, cast, ctx.bias_sizes, stride, padding, [1, 1], False, [0, 0], 1, wanted
        )
        return (
            grad_x.to(ctx.x_dtype) if wanted[0] else None,
            grad_weight.to(weight.dtype) if wanted[1] else None,
            grad_bias.to(weight.dtype) if wanted[2] else None,
            None,
            None,
            None,
            None,
        )
