"""The three products of a convolution and of a linear layer on dense tensors, in float32 and in bfloat16.

bfloat16 means everywhere: inputs, weights and biases rounded to bfloat16, sums in float32, results rounded to bfloat16;
a weight gradient goes to float32 weights. Where the processor has instructions for it, oneDNN does that; elsewhere its
bfloat16 loops are ten and more times slower than float32, and its weight gradient adds the images of a batch in
bfloat16 (error 1.8 % for 256 images, 5 % for 2,000). There the same numbers come from float32 products of rounded
inputs: by our own kernels, or by oneDNN a few images at a time, so that no float32 copy of a whole batch is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.neurons import processor
from spikefed.neurons.sides import Sides, pair, same_padding

CHUNK = 2**21
"""Numbers of the input or output that are turned into float32 at a time (8 MB)."""

WHY_EMULATED = "float32 products of rounded numbers, because this processor has no bfloat16 instructions"
"""For the path table."""


def emulated(dtype: torch.dtype) -> bool:
    """Whether products in ``dtype`` are float32 products of rounded numbers here."""
    return dtype == torch.bfloat16 and not processor.has_bf16()


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sides, padding: Sides, dtype: torch.dtype
) -> Tensor:
    """``conv2d`` of ``x`` [N, Cin, H, W] with ``weight`` [Cout, Cin, Kh, Kw] in ``dtype``; result channels-last.

    Args:
        x: input map.
        weight: kernels.
        bias: ``[Cout]`` or None.
        stride: of the convolution.
        padding: of the convolution.
        dtype: float32 or bfloat16.
    """
    last = torch.channels_last
    if not emulated(dtype):
        cast = weight.to(dtype).contiguous(memory_format=last)
        return F.conv2d(x.to(dtype), cast, None if bias is None else bias.to(dtype), stride=stride, padding=padding)
    w = _rounded(weight).contiguous(memory_format=last)
    b = None if bias is None else _rounded(bias)
    n = x.shape[0]
    sizes = zip(x.shape[2:], weight.shape[2:], pair(stride), pair(padding), strict=True)
    side = [(s + 2 * around - k) // step + 1 for s, k, step, around in sizes]
    out = torch.empty((n, len(weight), *side), dtype=dtype, memory_format=last)
    for part in _parts(n, x[:1].numel() + out[:1].numel()):
        out[part] = F.conv2d(_rounded(x[part]), w, b, stride=stride, padding=padding)
    return out


def input_gradient(
    upstream: Tensor, weight: Tensor, shape: torch.Size, stride: Sides = 1, padding: Sides | None = None
) -> Tensor:
    """Gradient of the input (of ``shape``), in the precision of ``upstream`` [N, Cout, H2, W2].

    Args:
        upstream: gradient of the output, channels-last.
        weight: ``[Cout, Cin, Kh, Kw]``.
        shape: of the input.
        stride: of the convolution.
        padding: of the convolution; half the kernel if None.
    """
    dtype = upstream.dtype
    last = torch.channels_last
    if not emulated(dtype):
        unread = torch.empty(shape, dtype=dtype, memory_format=last)  # only its shape matters
        return _backward(upstream, unread, weight.to(dtype), stride, padding, [True, False, False])[0]
    out = torch.empty(shape, dtype=dtype, memory_format=last)
    w = _rounded(weight)
    for part in _parts(len(out), upstream[:1].numel() + out[:1].numel()):
        unread = torch.empty_like(out[part], dtype=torch.float32)
        out[part] = _backward(upstream[part].float(), unread, w, stride, padding, [True, False, False])[0]
    return out


def weight_gradient(
    upstream: Tensor, x: Tensor, weight: Tensor, stride: Sides = 1, padding: Sides | None = None
) -> Tensor:
    """Gradient of the weight, in the weight's own precision, by dense products in that of ``upstream``.

    Arguments as in `input_gradient`; ``x`` is the input.

    Args:
        upstream: ``[N, Cout, Ho, Wo]``.
        x: ``[N, Cin, H, W]``.
        weight: ``[Cout, Cin, Kh, Kw]``; only shape and type are read.
        stride: of the convolution.
        padding: of the convolution.
    """
    wanted = [False, True, False]
    if not emulated(upstream.dtype):
        cast = weight.to(upstream.dtype)
        return _backward(upstream, x.to(upstream.dtype), cast, stride, padding, wanted)[1].to(weight.dtype)
    total = torch.zeros_like(weight, dtype=torch.float32)
    w = weight.float()
    for part in _parts(len(x), upstream[:1].numel() + x[:1].numel()):
        total += _backward(upstream[part].float(), _rounded(x[part]), w, stride, padding, wanted)[1]
    return total.to(weight.dtype)


def _backward(
    upstream: Tensor, x: Tensor, weight: Tensor, stride: Sides, padding: Sides | None, wanted: list[bool]
) -> tuple[Tensor, ...]:
    around = pair(same_padding(weight) if padding is None else padding)
    cast = weight.contiguous(memory_format=torch.channels_last)
    return torch.ops.aten.convolution_backward(
        upstream, x, cast, None, list(pair(stride)), list(around), [1, 1], False, [0, 0], 1, wanted
    )


def _rounded(x: Tensor) -> Tensor:
    """The nearest bfloat16 numbers, as float32."""
    return x.to(torch.bfloat16).float()


def _parts(count: int, numbers: int) -> Iterator[slice]:
    """Slices of ``count`` images of so many ``numbers`` each."""
    step = max(1, CHUNK // max(numbers, 1))
    for first in range(0, count, step):
        yield slice(first, first + step)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``linear`` in float32: by oneDNN if this torch shows its product.

    Torch's own is MKL's, which reaches 0.4 of oneDNN's speed on AMD processors (measured) and the same on Intel's.
    ``[N, Fin]`` by ``[Fout, Fin]`` gives ``[N, Fout]``.
    """
    product = onednn()
    return F.linear(x, weight, bias) if product is None else product(x, weight, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """``linear`` of ``x`` [N, Fin] with ``weight`` [Fout, Fin], float32 or emulated bfloat16.

    Args:
        x: ``[N, Fin]``.
        weight: ``[Fout, Fin]``.
        bias: ``[Fout]`` or None.
        dtype: float32 or bfloat16.
    """
    if dtype == torch.float32:
        return multiply(x, weight, bias)
    return multiply(_rounded(x), _rounded(weight), None if bias is None else _rounded(bias)).to(dtype)


def linear_weight_gradient(upstream: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Gradient of the weight in float32, whatever the inputs' precision.

    ``[N, Fout]`` and ``[N, Fin]`` give ``[Fout, Fin]``.
    """
    if dtype != torch.float32:
        upstream = upstream.float()
        x = _rounded(x)
    return multiply(upstream.t(), x.t(), None)


@cache
def onednn() -> Callable[[Tensor, Tensor, Tensor | None], Tensor] | None:
    """oneDNN's float32 ``F.linear``, ``None`` if this torch has none."""
    call = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
    return None if call is None else lambda x, w, b: call(x, w, b, "none", [], "")
