"""Small spiking layers, one or many in a row, in one native call each way.

Where a layer's product takes less time than the calls around it (digits, sensor frames, small batches) separate
operations spend most of a step on dispatch. Here a chain of layers (product, normalisation, LIF over all steps, pool)
is one autograd node with one native call each way, on one thread. Its products are dense (Winograd, or a plain matrix
product), so the path depends on sizes alone. Results are those of the separate operations up to the order of sums, and
a chain gives the bits of its layers one by one.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed import native
from spikefed.neurons import fused, gpu, paths, products, winograd
from spikefed.neurons.chainplan import MOST_WORK, Arguments, ChainLayer, Plan, planned
from spikefed.neurons.kernels import kernels


@cache
def chain_library() -> ctypes.CDLL | None:
    """The native library with the calls of a chain; None where it has none, or records that differ from ours."""
    lib = fused.library()
    if lib is None:
        return None
    lib.spikefed_chain_forward.argtypes = [c_void_p, c_int64]
    lib.spikefed_chain_backward.argtypes = [c_void_p, c_int64, c_void_p]
    lib.spikefed_chain_forward.restype = lib.spikefed_chain_backward.restype = None
    lib.spikefed_layer_size.restype = c_int64
    return lib if lib.spikefed_layer_size() == ctypes.sizeof(Arguments) else None


def available() -> bool:
    """Whether the library, its instruction set and the kernel mode allow chains at this moment."""
    if kernels() != "auto" or winograd.library() is None or chain_library() is None:
        return False
    return not fused.transformed() and not gpu.interpreted()


def run_chain(x: Tensor, layers: Sequence[ChainLayer], *, large: bool = False) -> Tensor | None:
    """Layers in a row, each ``norm_lif`` of ``spike_conv2d`` or ``spike_linear``, if all are small; else None.

    Args:
        x: ``[N, C, H, W]`` or ``[N, F]``, time folded into the batch as in `norm_lif`.
        layers: at least one.
        large: take layers that are not small too: on several threads where torch has them, all but the linear ones.

    Returns:
        the last layer's output; None (and nothing has moved) where a layer is not small, or of a kind that this path
        does not know.

    Raises:
        ConfigError: as ``norm_lif``.
    """
    plan = plan_for(x, layers, large=large)
    if plan is None:
        return None
    if x.dtype != plan.dtype:
        x = x.to(plan.dtype)
    x = x.contiguous(memory_format=form_of(x.shape))
    if paths.recording() and len(layers) == 1:
        _note(x, layers[0], plan.dtype)
    learnt = [t for a in layers for t in (a.weight, a.bias, a.state.weight, a.state.bias)]
    call = _Call(plan, layers)
    out: Any = _Chain.apply(call, x, *learnt)
    out._spikefed_nonzero = call.nonzero  # read by paths.density_of
    if call.window is not None:
        out._spikefed_window = (call.window, out._version, call.inside)  # read by paths.window_of and paths.inside_of
    return out


def plan_for(x: Tensor, layers: Sequence[ChainLayer], *, large: bool = False) -> Plan | None:
    """What a chain does with such an input; None where this path does not take it (arguments of `run_chain`)."""
    if x.device.type != "cpu" or not available():
        return None
    if any(a.firing is not None and a.firing.p.surrogate.code < 0 for a in layers):
        return None  # a surrogate of one's own has no kernel
    asked = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    threads = torch.get_num_threads() if large else 1
    plan = planned(x.shape, asked, tuple(map(_shapes, layers)), sys.maxsize if large else MOST_WORK, threads)
    return plan if all(_plain(t) for a in layers for t in (a.weight, a.bias, *a.state)) else None


def form_of(shape: Sequence[int]) -> torch.memory_format:
    """How tensors of this shape lie at both ends of a chain."""
    return torch.channels_last if len(shape) == 4 else torch.contiguous_format


def _note(x: Tensor, layer: ChainLayer, dtype: torch.dtype) -> None:
    why = "one native call for the whole small layer"
    if products.emulated(dtype):
        why += f"; {products.WHY_EMULATED}"
    name, path = ("spike_conv2d", "winograd") if layer.kind == "conv" else ("spike_linear", "dense")
    paths.note(name, path, why, x, paths.density_of(x) or float("nan"))
    if layer.firing is not None:
        paths.note("norm_lif", "fused", "native kernel", x)


def _shapes(a: ChainLayer) -> tuple:
    sizes = tuple(None if t is None else t.shape for t in a.state)
    return a.weight.shape, None if a.bias is None else a.bias.shape, a.kind, a.firing, sizes


def _plain(t: Tensor | None) -> bool:
    return t is None or (t.dtype == torch.float32 and t.is_contiguous() and t.device.type == "cpu")


class _Call:
    """One call's plan and layers, and what it leaves beside the spikes."""

    __slots__ = ("inside", "layers", "learning", "nonzero", "plan", "window")

    def __init__(self, plan: Plan, layers: Sequence[ChainLayer]) -> None:
        self.plan = plan
        self.layers = layers
        self.nonzero = self.inside = 0
        self.learning = torch.is_grad_enabled()  # inside `_Chain` it never is
        self.window: Tensor | None = None


class _Chain(torch.autograd.Function):
    """Everything between input and output lies in one piece of memory, ``kept``."""

    @staticmethod
    def forward(ctx, call: _Call, x: Tensor, *learnt: Tensor | None) -> Tensor:
        lib = chain_library()
        plan = call.plan
        assert lib is not None
        form = form_of(plan.out)
        kept = torch.empty(plan.size, dtype=torch.uint8)
        out = torch.empty(plan.out, dtype=plan.dtype, memory_format=form)
        nonzero, inside = c_int64(0), c_int64(0)
        filled = arguments(plan, x.data_ptr(), learnt, kept)
        put_states(filled, plan, call.layers, nonzero)
        put_momenta(filled, call.layers)
        put_out(filled[-1], out.data_ptr())
        if plan.window and call.learning and any(ctx.needs_input_grad) and not out.is_inference():
            window = torch.empty(plan.out, dtype=torch.uint8, memory_format=form)
            filled[-1].neuron.window = window.data_ptr()
            filled[-1].neuron.inside = ctypes.addressof(inside)
            call.window = window
        lib.spikefed_chain_forward(filled, len(filled))
        call.inside = inside.value
        call.nonzero = nonzero.value if call.layers[-1].firing is not None else out.numel()
        ctx.save_for_backward(x, kept, *learnt)
        ctx.plan = plan
        ctx.form = form
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, *learnt = ctx.saved_tensors
        lib = chain_library()
        plan = ctx.plan
        assert lib is not None
        upstream = grads[0].to(plan.dtype).contiguous(memory_format=ctx.form)
        results = [
            torch.empty_like(t) if t is not None and wanted else None
            for t, wanted in zip((x, *learnt), ctx.needs_input_grad[1:], strict=True)
        ]
        pointers = [native.pointer(t) for t in results]
        filled = arguments(plan, x.data_ptr(), learnt, kept)
        filled[0].grad_x = pointers[0]
        put_gradients(filled, pointers[1:])
        lib.spikefed_chain_backward(filled, len(filled), upstream.data_ptr())
        return None, *results


def arguments(plan: Plan, x: int, learnt: Sequence[Tensor | None], kept: Tensor) -> ctypes.Array:
    """The chain's arguments with the pointers that both ways need.

    Args:
        plan: of this input's shape.
        x: where the input begins.
        learnt: weight, bias, and those of the normalisation, of every layer.
        kept: the chain's memory.
    """
    filled = plan.call.from_buffer_copy(plan.template)
    base = kept.data_ptr()
    before = x
    for i, step in enumerate(plan.steps):
        a = filled[i]
        neuron = a.neuron
        a.weight, a.bias, neuron.weight, neuron.bias = map(native.pointer, learnt[4 * i : 4 * i + 4])
        a.x = before
        a.currents = base + step.currents
        neuron.x = a.currents
        before = base + step.out
        neuron.out = before
        neuron.mean = base + step.statistics
        neuron.rstd = base + step.rstd
    return filled


def put_states(filled: ctypes.Array, plan: Plan, layers: Sequence[ChainLayer], nonzero: c_int64) -> None:
    """Let the way there move the running statistics and count spikes.

    Args:
        filled: from `arguments`.
        plan: of them.
        layers: of the chain.
        nonzero: gets the count; the caller keeps it alive.
    """
    for a, step, layer in zip(filled, plan.steps, layers, strict=True):
        a.neuron.nonzero = ctypes.addressof(nonzero)
        if step.updates:
            a.neuron.running_mean = native.pointer(layer.state.running_mean)
            a.neuron.running_var = native.pointer(layer.state.running_var)


def put_momenta(filled: ctypes.Array, layers: Sequence[ChainLayer]) -> None:
    """By how much a step moves the running statistics; counts the step where a layer counts them."""
    for a, layer in zip(filled, layers, strict=True):
        a.neuron.momentum = layer.momentum() if layer.momentum else 0.0


def put_gradients(filled: ctypes.Array, pointers: Sequence[int | None]) -> None:
    """Let the way back write its gradients there: four of every layer, in the order of ``learnt``."""
    for i, a in enumerate(filled):
        a.grad_weight, a.grad_bias, a.neuron.grad_weight, a.neuron.grad_bias = pointers[4 * i : 4 * i + 4]


def put_out(a: Arguments, out: int) -> None:
    """Let the last layer write its output there."""
    if a.neuron.steps:
        a.neuron.out = out
    else:
        a.currents = out
