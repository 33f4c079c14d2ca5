"""The native path of ``norm_lif``: one C++ kernel for normalisation, LIF over all steps and pool, forward and backward.

Saved for backward: the input (a convolution's output) and the per-channel statistics, nothing else; membranes are
recomputed.
Results repeat bit for bit, on any number of threads. The reference is ``norm_lif_reference``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_void_p
from functools import cache, lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed import native
from spikefed.neurons import processor
from spikefed.neurons.firing import Firing, NormState
from spikefed.neurons.parameters import LIFParameters

_POINTERS = (
    "x",
    "out",
    "grad_out",
    "grad_x",
    "weight",
    "bias",
    "running_mean",
    "running_var",
    "mean",
    "rstd",
    "grad_weight",
    "grad_bias",
    "window",
    "bits",
    "nonzero",
    "inside",
)
_SIZES = ("steps", "rows", "channels", "height", "width")
_FLAGS = ("dtype", "norm", "batch_statistics", "pool", "repeat", "soft", "surrogate", "detach_reset", "threads")
_NUMBERS = ("decay", "theta", "fire", "gain", "scale", "eps", "momentum", "surrogate_a", "surrogate_b")
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
LEAST_BITS = 2**16  # spikes from which it pays to note them as bits for event lists
_NORMS = {"none": 0, "bn": 1, "tdbn": 1, "bntt": 2}


class Arguments(ctypes.Structure):
    """Mirror of ``struct NormLif`` in native/norm_lif.h."""

    _fields_ = [
        *((name, c_void_p) for name in _POINTERS),
        *((name, c_int64) for name in _SIZES),
        *((name, c_int32) for name in _FLAGS),
        *((name, c_float) for name in _NUMBERS),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    """The library with signatures set and torch's thread pool lent to it."""
    lib = native.library()
    if lib is None:
        return None
    for name in ("spikefed_norm_lif_forward", "spikefed_norm_lif_backward"):
        function = getattr(lib, name)
        function.argtypes = [ctypes.POINTER(Arguments)]
        function.restype = None
    lib.spikefed_norm_lif_size.restype = c_int64
    lib.spikefed_transpose.argtypes = [c_void_p, c_void_p, c_int64, c_int64, c_int64, c_int32, c_int32]
    lib.spikefed_transpose.restype = None
    if lib.spikefed_norm_lif_size() != ctypes.sizeof(Arguments):
        return None
    native.lend_threads(lib)
    processor.hold_instruction_set(lib)
    return lib


def library() -> ctypes.CDLL | None:
    """The native library ready for use, or ``None`` (see ``spikefed.native.why_not``)."""
    return _prepared() if native.library() is not None else None


@lru_cache(maxsize=256)
def smallest_that_fires(p: LIFParameters) -> float:
    """The smallest float32 potential at which the reference fires.

    Comparing with it gives the same spikes bit for bit.
    """
    u = torch.tensor(p.v_threshold, dtype=torch.float32)
    up, down = torch.tensor(torch.inf), torch.tensor(-torch.inf)

    def fires(v: Tensor) -> bool:
        x = v - p.v_threshold if p.kind == "hard" else v / p.v_threshold - 1
        return bool(x > 0) if p.strict else bool(x >= 0)

    while fires(u):
        u = torch.nextafter(u, down)
    while not fires(u):
        u = torch.nextafter(u, up)
    return u.item()


def transformed() -> bool:
    """Whether this runs inside a ``torch.func`` transform, which our functions do not know."""
    return torch._C._functorch.maybe_current_level() is not None  # pyright: ignore


def suits(x: Tensor, *state: Tensor | None) -> bool:
    """Whether the native kernel can take these tensors; if not the reference does.

    ``x`` is ``[T * B, ...]``, ``state`` ``[B, ...]``.
    """
    if x.device.type != "cpu" or x.dtype not in _DTYPES or x.numel() == 0 or library() is None:
        return False
    if transformed():
        return False
    return all(s is None or (s.dtype == torch.float32 and s.is_contiguous() and s.device.type == "cpu") for s in state)


def norm_lif_native(x: Tensor, firing: Firing, state: NormState, momentum: float) -> Tensor:
    """``norm_lif`` on the native kernel. Call only if `suits`.

    Args:
        x: currents ``[T * B, C, ...]``, or ``[B, C, ...]`` with ``firing.repeat``.
        firing: how to normalise, fire and pool.
        state: tensors of the normalisation; running statistics move when training.
        momentum: of the running statistics.
    """
    p = firing.p
    x = _prepared_input(x, firing.norm, firing.pool)
    running = (state.running_mean, state.running_var)
    options = {
        "norm": firing.norm,
        "scale": firing.scale,
        "batch_statistics": firing.by_batch(state),
        "running": running if firing.training or state.running_mean is not None else (None, None),
        "momentum": momentum,
        "eps": firing.eps,
        "pool": firing.pool,
        "repeat": firing.repeat,
        "window": x.dim() == 4 and x.requires_grad and torch.is_grad_enabled() and narrow(x.dtype, p),
    }
    out: Any = _NormLIF.apply(x, state.weight, state.bias, p, firing.steps, options)
    out._spikefed_nonzero = options["nonzero"]  # read by paths.density_of
    # Read by paths.marks_of, window_of and inside_of; worthless once the tensor was written to.
    if options["bits"] is not None:
        out._spikefed_bits = (options["bits"], out._version, not firing.pool)
    if options["window"] is not None:
        out._spikefed_window = (options["window"], out._version, options["inside"])
    return out


def narrow(dtype: torch.dtype, p: LIFParameters) -> bool:
    """Whether it pays to note where the surrogate of neurons with currents in ``dtype`` is not zero.

    Only windows that leave out the resting potential are narrow enough, and matrix tiles are faster than any.
    """
    rest = p.v_threshold if p.kind == "hard" else 1.0  # distance of potential 0 from the threshold, for the surrogate
    return p.surrogate.support < rest and (dtype == torch.float32 or not processor.has_amx())


def _arguments(x: Tensor, p: LIFParameters, steps: int, o: dict[str, Any]) -> Arguments:
    return arguments(x.shape, x.dtype, p, steps, o)


def arguments(shape: torch.Size, dtype: torch.dtype, p: LIFParameters, steps: int, o: dict[str, Any]) -> Arguments:
    """The kernel's arguments for currents of ``shape``, all but the pointers.

    ``o``: ``norm``, ``pool``, ``repeat``, ``batch_statistics``, ``scale``, ``eps``, ``momentum``.

    Args:
        shape: of the currents, ``[T * B, C, ...]``.
        dtype: of the currents.
        p: dynamics of the neuron.
        steps: T.
        o: options of the call.
    """
    a = Arguments()
    a.steps = steps
    a.repeat = o["repeat"]
    images = shape[0] if o["repeat"] else shape[0] // steps
    if len(shape) == 4:
        a.channels, a.height, a.width = shape[1:]
        a.rows = images * a.height * a.width
    else:
        a.channels = shape[1]
        a.rows = images
    if o["norm"] == "none" and not o["pool"]:  # channels do not matter: one long row of numbers per step
        a.rows = a.rows * a.channels
        a.channels = 1
    a.dtype = _DTYPES[dtype]
    a.norm = _NORMS[o["norm"]]
    a.pool = o["pool"]
    a.batch_statistics = o["batch_statistics"]
    a.soft = p.kind == "soft"
    a.detach_reset = p.detach_reset
    a.threads = torch.get_num_threads()
    a.decay = p.decay
    a.theta = p.v_threshold
    a.fire = smallest_that_fires(p)
    a.gain = p.gain
    a.scale = o["scale"]
    a.eps = o["eps"]
    a.momentum = o["momentum"]
    a.surrogate = p.surrogate.code
    a.surrogate_a, a.surrogate_b = p.surrogate.constants()
    return a


def _prepared_input(x: Tensor, norm: str, pool: bool) -> Tensor:
    """``x`` in a memory layout that the kernel reads."""
    if x.dim() == 4 and (norm != "none" or pool or not x.is_contiguous()):
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous() if x.dim() == 2 else x


def _out_form(x: Tensor, options: dict[str, Any]) -> torch.memory_format:
    """Memory layout of the spikes."""
    by_channel = options["norm"] != "none" or options["pool"]
    if x.dim() == 4 and by_channel and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return _layout(x)


def _layout(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def transpose(source: Tensor, target: Tensor, n: int, rows: int, columns: int) -> Tensor:
    """Memory of ``source`` read as [n, rows, columns], written to ``target`` as [n, columns, rows].

    Returns ``target``.

    Args:
        source: memory of n * rows * columns numbers.
        target: of the same size.
        n: independent matrices.
        rows: of each in ``source``.
        columns: of each in ``source``.
    """
    lib = library()
    assert lib is not None
    lib.spikefed_transpose(
        source.data_ptr(), target.data_ptr(), n, rows, columns, source.element_size(), torch.get_num_threads()
    )
    return target


def channels_last(x: Tensor) -> Tensor:
    """``x`` ``[N, C, H, W]``, float32 or bfloat16, in that memory layout; a native transpose where it has the other."""
    if x.is_contiguous(memory_format=torch.channels_last) or library() is None:
        return x.contiguous(memory_format=torch.channels_last)
    n, c, h, w = x.shape
    return transpose(x.contiguous(), torch.empty_like(x, memory_format=torch.channels_last), n, c, h * w)


def lif_native(x: Tensor, p: LIFParameters) -> Tensor:
    """Spikes of the LIF alone, from potential 0: x ``[T, B, ...]`` of any shape. Call only if `suits`."""
    x = x.contiguous()
    options = {
        "norm": "none",
        "scale": 1.0,
        "batch_statistics": False,
        "running": (None, None),
        "momentum": 0.0,
        "eps": 0.0,
        "pool": False,
        "repeat": False,
        "window": False,
    }
    flat = x.reshape(x.shape[0], -1)
    return cast(Tensor, _NormLIF.apply(flat, None, None, p, x.shape[0], options)).reshape(x.shape)


class _NormLIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, p: LIFParameters, steps: int, o: dict
    ) -> Tensor:
        lib = library()
        assert lib is not None
        a = _arguments(x, p, steps, o)
        shape = [x.shape[0] * (steps if o["repeat"] else 1), *x.shape[1:]]
        if o["pool"]:
            shape[2:] = [side // 2 for side in shape[2:]]
        form = _out_form(x, o)
        out = torch.empty(shape, dtype=x.dtype, memory_format=form)
        groups = 0 if o["norm"] == "none" else steps if o["norm"] == "bntt" else 1
        statistics = torch.empty(2, groups, x.shape[1])
        nonzero = c_int64(0)
        inside = c_int64(0)
        bits = torch.empty(out.numel() // 16, dtype=torch.int16) if _listable(out) else None
        a.x = x.data_ptr()
        a.out = out.data_ptr()
        a.bits = native.pointer(bits)
        a.weight = native.pointer(weight)
        a.bias = native.pointer(bias)
        a.running_mean, a.running_var = map(native.pointer, o["running"])
        a.mean = statistics.data_ptr()
        a.rstd = statistics[1].data_ptr()
        a.nonzero = ctypes.addressof(nonzero)
        window = torch.empty(shape, dtype=torch.uint8, memory_format=form) if o["window"] else None
        a.window = native.pointer(window)
        a.inside = ctypes.addressof(inside)
        lib.spikefed_norm_lif_forward(a)
        o["nonzero"] = nonzero.value
        o["inside"] = inside.value
        o["bits"] = bits
        o["window"] = window
        ctx.save_for_backward(x, weight, bias, statistics)
        ctx.p = p
        ctx.steps = steps
        ctx.options = o
        ctx.form = form
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, statistics = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:3]
        found = _gradients(x, weight, bias, statistics, grads[0], ctx.p, ctx.steps, ctx.options, ctx.form, wanted)
        return *found, None, None, None


def _listable(out: Tensor) -> bool:
    """Whether the bits of spikes in this form say all that event lists ask, and are worth a tensor."""
    if out.is_inference():
        return False  # such tensors do not say whether they were written to since
    rows = out.dim() == 2 or (out.dim() == 4 and out.is_contiguous(memory_format=torch.channels_last))
    return rows and out.shape[1] % 16 == 0 and out.numel() >= LEAST_BITS


def _gradients(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor,
    upstream: Tensor,
    p: LIFParameters,
    steps: int,
    options: dict[str, Any],
    form: torch.memory_format,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias, the latter two if ``wanted``."""
    lib = library()
    assert lib is not None
    a = _arguments(x, p, steps, options)
    upstream = upstream.to(x.dtype).contiguous(memory_format=form)
    grad_x = torch.empty_like(x)
    grad_weight = torch.empty_like(weight) if weight is not None and wanted[0] else None
    grad_bias = torch.empty_like(bias) if bias is not None and wanted[1] else None
    a.x = x.data_ptr()
    a.grad_out = upstream.data_ptr()
    a.grad_x = grad_x.data_ptr()
    a.weight = native.pointer(weight)
    a.bias = native.pointer(bias)
    a.mean = statistics.data_ptr()
    a.rstd = statistics[1].data_ptr()
    a.grad_weight = native.pointer(grad_weight)
    a.grad_bias = native.pointer(grad_bias)
    lib.spikefed_norm_lif_backward(a)
    return grad_x, grad_weight, grad_bias


def input_gradient(x: Tensor, upstream: Tensor, firing: Firing, state: NormState) -> Tensor:
    """Gradient of ``x`` with running statistics, without a forward pass or a graph. Call only if `suits`.

    Args:
        x: currents ``[T * B, C, ...]``, or ``[B, C, ...]`` with ``firing.repeat``.
        upstream: gradient of the spikes.
        firing: how to normalise, fire and pool.
        state: tensors of the normalisation.
    """
    x = _prepared_input(x, firing.norm, firing.pool)
    options = {
        "norm": firing.norm,
        "scale": firing.scale,
        "batch_statistics": False,
        "momentum": 0.0,
        "eps": firing.eps,
        "pool": firing.pool,
        "repeat": firing.repeat,
    }
    statistics = torch.empty(2, 0, x.shape[1])
    if firing.norm != "none":
        assert state.running_mean is not None and state.running_var is not None
        statistics = torch.stack([state.running_mean, 1 / (state.running_var + firing.eps).sqrt()])
    form = _out_form(x, options)
    both = (state.weight, state.bias)
    return _gradients(x, *both, statistics, upstream, firing.p, firing.steps, options, form, (False, False))[0]
