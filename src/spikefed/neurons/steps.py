"""One time step of networks that feed back, native: sums before neurons, neurons with a carried membrane, norms alone.

A normalised map is never written down: a norm is a gain and a shift per channel (`statistics`), which the sum behind it
applies as it reads (`total`, `fire`). For the way back the potentials before reset are kept, from which the spikes
follow, and what entered the norms. Equations as in `spikefed.neurons.lif_step` and `spikefed.neurons.normalise`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from spikefed import native
from spikefed.neurons import fused, gpu
from spikefed.neurons.kernels import kernels
from spikefed.neurons.parameters import LIFParameters

MOST_TERMS = 8
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
_Pointers = c_void_p * MOST_TERMS


class SumArguments(ctypes.Structure):
    """Mirror of ``struct StepSum`` in native/steps.h."""

    _fields_ = [
        *((name, _Pointers) for name in ("x", "gain", "shift")),
        *((name, c_void_p) for name in ("out", "before", "potential", "carried", "grad", "nonzero")),
        *((name, c_int64) for name in ("terms", "rows", "channels")),
        *((name, c_int32) for name in ("dtype", "soft", "surrogate", "detach_reset", "threads", "last")),
        *((name, c_float) for name in ("decay", "theta", "fire", "neuron_gain", "surrogate_a", "surrogate_b")),
    ]


class NormArguments(ctypes.Structure):
    """Mirror of ``struct StepNorm`` in native/steps.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "grad", "grad_x", "weight", "bias")),
        *((name, c_void_p) for name in ("running_mean", "running_var", "made", "sums")),
        *((name, c_int64) for name in ("rows", "channels")),
        *((name, c_int32) for name in ("dtype", "batch_statistics", "threads")),
        *((name, c_float) for name in ("scale", "eps", "momentum")),
    ]


class JoinArguments(ctypes.Structure):
    """Mirror of ``struct Join`` in native/steps.h."""

    _fields_ = [
        *((name, _Pointers) for name in ("x", "gain", "shift")),
        ("next", c_int64 * MOST_TERMS),
        *((name, c_void_p) for name in ("out", "grad_out", "grad", "nonzero")),
        *((name, c_int64) for name in ("terms", "steps", "rows", "channels")),
        *((name, c_int32) for name in ("dtype", "soft", "surrogate", "detach_reset", "threads")),
        *((name, c_float) for name in ("decay", "theta", "fire", "neuron_gain", "surrogate_a", "surrogate_b")),
    ]


class Term(NamedTuple):
    """What a sum adds up: ``x`` as it is, or the normalised ``x``.

    Attributes:
        x: ``[B, C, H, W]`` channels-last, or ``[B, C]``.
        made: ``[4, C]`` by `statistics` (mean, 1 / deviation, gain, shift), or None.
    """

    x: Tensor
    made: Tensor | None = None


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = fused.library()
    if lib is None:
        return None
    for name in ("sum", "sum_backward"):
        function = getattr(lib, f"spikefed_step_{name}")
        function.argtypes = [ctypes.POINTER(SumArguments)]
        function.restype = None
    for name in ("norm", "norm_backward"):
        function = getattr(lib, f"spikefed_step_{name}")
        function.argtypes = [ctypes.POINTER(NormArguments)]
        function.restype = None
    for name in ("join", "join_backward"):
        function = getattr(lib, f"spikefed_{name}")
        function.argtypes = [ctypes.POINTER(JoinArguments)]
        function.restype = None
    records = {"step_sum": SumArguments, "step_norm": NormArguments, "join": JoinArguments}
    for name, record in records.items():
        size = getattr(lib, f"spikefed_{name}_size")
        size.restype = c_int64
        if size() != ctypes.sizeof(record):
            return None
    return lib


def library() -> ctypes.CDLL | None:
    """The native library with these kernels, or ``None``."""
    return _prepared() if native.library() is not None else None


def available() -> bool:
    """Whether the library and the kernel mode allow these kernels at this moment."""
    return kernels() == "auto" and library() is not None and not fused.transformed() and not gpu.interpreted()


def laid_out(x: Tensor) -> Tensor:
    """``x`` (``[B, C, H, W]`` or ``[B, C]``) as the kernels read it: maps channels-last."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def total(terms: Sequence[Term], out: Tensor | None = None) -> Tensor:
    """The sum of the terms, ``[B, C, H, W]`` or ``[B, C]``.

    A single one that needs no arithmetic is given back as it is, unless ``out`` is wanted.
    """
    if len(terms) == 1 and terms[0].made is None and out is None:
        return terms[0].x
    lib, a = _sum(terms)
    out = torch.empty_like(terms[0].x) if out is None else out
    a.out = out.data_ptr()
    lib.spikefed_step_sum(a)
    return out


def fire(
    terms: Sequence[Term], before: Tensor | None, p: LIFParameters, out: Tensor | None = None
) -> tuple[Tensor, Tensor, int]:
    """Charge with the sum of the terms, fire.

    Args:
        terms: at least one.
        before: potentials before reset of the step before, ``[B, C, H, W]`` or ``[B, C]``, float32; None at the first.
        p: the neuron.
        out: where to write the spikes; None for new memory.

    Returns:
        spikes in the precision of the terms, potentials before reset (float32), and how many spikes there are.
    """
    lib, a = _sum(terms)
    x = terms[0].x
    spikes = torch.empty_like(x) if out is None else out
    potential = torch.empty_like(x, dtype=torch.float32)
    nonzero = c_int64(0)
    _neuron(a, p)
    a.out = spikes.data_ptr()
    a.potential = potential.data_ptr()
    a.nonzero = ctypes.addressof(nonzero)
    a.before = None if before is None else before.data_ptr()
    lib.spikefed_step_sum(a)
    return spikes, potential, nonzero.value


def spikes_of(potential: Tensor, p: LIFParameters, dtype: torch.dtype) -> Tensor:
    """The spikes of potentials before reset (``[B, C, H, W]`` or ``[B, C]``), as `fire` gave them."""
    return (potential >= fused.smallest_that_fires(p)).to(dtype)


def fire_backward(
    potential: Tensor,
    grads: Sequence[Tensor],
    carried: Tensor | None,
    p: LIFParameters,
    dtype: torch.dtype,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The way back through `fire`.

    Args:
        potential: before reset, of this step, ``[B, C, H, W]`` or ``[B, C]``.
        grads: what adds up to the gradient of the spikes, laid out as they are.
        carried: what the call for the step after gave, which is overwritten; None at the last step.
        p: the neuron.
        dtype: of the spikes.
        out: where to write the gradient of the sum; None for new memory.

    Returns:
        the gradient of the sum of the terms, and what the step before needs.
    """
    lib = _prepared()
    assert lib is not None
    a = SumArguments()
    _neuron(a, p)
    a.last = carried is None
    carried = torch.empty_like(potential) if carried is None else carried
    out = torch.empty_like(potential, dtype=dtype) if out is None else out
    a.rows = out.numel()
    a.channels = 1
    a.dtype = _DTYPES[dtype]
    a.threads = torch.get_num_threads()
    a.potential = potential.data_ptr()
    a.carried = carried.data_ptr()
    a.grad = out.data_ptr()
    a.terms = len(grads)
    for k, grad in enumerate(grads):
        a.x[k] = grad.data_ptr()
    lib.spikefed_step_sum_backward(a)
    return out, carried


class NormOptions(NamedTuple):
    """Arguments of `spikefed.neurons.normalise` for one step; tensors ``[C]`` float32."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    training: bool
    momentum: float
    eps: float
    scale: float

    @property
    def of_batch(self) -> bool:
        """Whether the statistics are the batch's."""
        return self.training or self.running_mean is None


def statistics(x: Tensor, o: NormOptions) -> Tensor:
    """Mean, 1 / deviation, gain and shift ``[4, C]`` of a norm on ``x``; in training running statistics move."""
    lib, a = _norm(x, o.of_batch)
    made = torch.empty(4, x.shape[1])
    used = o.running_mean is not None and (o.training or not o.of_batch)
    a.weight = native.pointer(o.weight)
    a.bias = native.pointer(o.bias)
    a.made = made.data_ptr()
    a.running_mean, a.running_var = (
        (native.pointer(o.running_mean), native.pointer(o.running_var)) if used else (None, None)
    )
    a.scale = o.scale
    a.eps = o.eps
    a.momentum = o.momentum
    lib.spikefed_step_norm(a)
    return made


def norm_backward(
    x: Tensor, made: Tensor, grad: Tensor, of_batch: bool, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The way back through a norm.

    Args:
        x: what entered.
        made: by `statistics`.
        grad: of the normalised ``x``, laid out as ``x``.
        of_batch: whether the statistics were the batch's.
        out: where to write the gradient of ``x``; None for new memory.

    Returns:
        the gradient of ``x``, and the sums ``[2, C]`` (float64) of ``grad`` and of ``grad`` times the normalised ``x``:
        the gradients of shift and of weight / scale.
    """
    lib, a = _norm(x, of_batch)
    out = torch.empty_like(x) if out is None else out
    sums = torch.empty(2, x.shape[1], dtype=torch.float64)
    a.grad = grad.data_ptr()
    a.grad_x = out.data_ptr()
    a.made = made.data_ptr()
    a.sums = sums.data_ptr()
    lib.spikefed_step_norm_backward(a)
    return out, sums


def join(xs: Sequence[Tensor], mades: Sequence[Tensor | None], p: LIFParameters, count: int) -> tuple[Tensor, int]:
    """Neurons behind the sum of branches, over all steps.

    Args:
        xs: branches ``[T*B, C, H, W]``, time-major, laid out alike.
        mades: of each branch ``[T, 4, C]`` by `statistics`, ``[1, 4, C]`` if all steps have the same, or None.
        p: the neuron.
        count: T.

    Returns:
        spikes, and how many there are.
    """
    lib, a = _join(xs, mades, p, count)
    out = torch.empty_like(xs[0])
    nonzero = c_int64(0)
    a.out = out.data_ptr()
    a.nonzero = ctypes.addressof(nonzero)
    lib.spikefed_join(a)
    return out, nonzero.value


def join_backward(
    xs: Sequence[Tensor], mades: Sequence[Tensor | None], upstream: Tensor, p: LIFParameters, count: int
) -> Tensor:
    """The way back through `join`.

    Args:
        xs: as in `join`.
        mades: as in `join`.
        upstream: gradient of the spikes, ``[T*B, C, H, W]``.
        p: the neuron.
        count: T.

    Returns:
        the gradient of the sum, ``[T*B, C, H, W]``.
    """
    lib, a = _join(xs, mades, p, count)
    out = torch.empty_like(upstream)
    a.grad_out = upstream.data_ptr()
    a.grad = out.data_ptr()
    lib.spikefed_join_backward(a)
    return out


def _join(
    xs: Sequence[Tensor], mades: Sequence[Tensor | None], p: LIFParameters, count: int
) -> tuple[ctypes.CDLL, JoinArguments]:
    lib = _prepared()
    assert lib is not None
    a = JoinArguments()
    first = xs[0]
    _neuron(a, p)
    a.terms = len(xs)
    a.steps = count
    a.channels = first.shape[1]
    a.rows = first.numel() // first.shape[1] // count
    a.dtype = _DTYPES[first.dtype]
    a.threads = torch.get_num_threads()
    for k, (x, made) in enumerate(zip(xs, mades, strict=True)):
        a.x[k] = x.data_ptr()
        if made is not None:
            a.gain[k] = made[0, 2].data_ptr()
            a.shift[k] = made[0, 3].data_ptr()
            a.next[k] = made.stride(0) if len(made) > 1 else 0
    return lib, a


def _sum(terms: Sequence[Term]) -> tuple[ctypes.CDLL, SumArguments]:
    lib = _prepared()
    assert lib is not None
    x = terms[0].x
    a = SumArguments()
    a.terms = len(terms)
    a.rows = x.numel() // x.shape[1]
    a.channels = x.shape[1]
    a.dtype = _DTYPES[x.dtype]
    a.threads = torch.get_num_threads()
    for k, term in enumerate(terms):
        a.x[k] = term.x.data_ptr()
        if term.made is not None:
            a.gain[k] = term.made[2].data_ptr()
            a.shift[k] = term.made[3].data_ptr()
    return lib, a


def _neuron(a: SumArguments | JoinArguments, p: LIFParameters) -> None:
    a.soft = p.kind == "soft"
    a.detach_reset = p.detach_reset
    a.surrogate = p.surrogate.code
    a.decay = p.decay
    a.theta = p.v_threshold
    a.fire = fused.smallest_that_fires(p)
    a.neuron_gain = p.gain
    a.surrogate_a, a.surrogate_b = p.surrogate.constants()


def _norm(x: Tensor, of_batch: bool) -> tuple[ctypes.CDLL, NormArguments]:
    lib = _prepared()
    assert lib is not None
    a = NormArguments()
    a.x = x.data_ptr()
    a.rows = x.numel() // x.shape[1]
    a.channels = x.shape[1]
    a.dtype = _DTYPES[x.dtype]
    a.batch_statistics = of_batch
    a.threads = torch.get_num_threads()
    return lib, a
