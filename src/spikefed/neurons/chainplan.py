"""What a chain of layers asks of memory and of its native call, from shapes alone: made once and looked up again."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_int32, c_int64, c_void_p
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from spikefed.neurons import fused, processor
from spikefed.neurons.firing import Firing, NormState
from spikefed.neurons.norm_lif import check_norm_lif

MOST_WORK = 64 * 1024 * 1024
"""Multiply-adds of a layer's dense product up to which it is small: about a third of a millisecond."""

Kind = Literal["conv", "linear"]
_ALIGN = 64


class ChainLayer(NamedTuple):
    """One layer.

    Attributes:
        weight: ``[Cout, Cin, K, K]`` (stride 1, padding K // 2) or ``[Fout, Fin]``.
        bias: of the product, ``[Cout]``.
        kind: of the product.
        firing: how to normalise and fire; None: the output is the product.
        state: tensors of the normalisation; the running statistics move.
        momentum: counts this batch and gives its weight in them; called once when the chain runs, else not.
    """

    weight: Tensor
    bias: Tensor | None
    kind: Kind
    firing: Firing | None
    state: NormState = NormState()
    momentum: Callable[[], float] | None = None


class Arguments(ctypes.Structure):
    """Mirror of ``struct Layer`` in native/linear.h."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "grad_x", "weight", "bias", "grad_weight", "grad_bias", "currents")),
        *((name, c_int64) for name in ("images", "in_channels", "height", "width", "out_channels")),
        ("linear", c_int32),
        ("neuron", fused.Arguments),
    ]


class Step(NamedTuple):
    """One layer's places in the memory of a chain, in bytes, and what its call needs."""

    currents: int
    out: int
    statistics: int
    rstd: int
    updates: bool  # the running statistics are read or moved


class Plan(NamedTuple):
    """What is the same in every call with tensors of these shapes.

    Attributes:
        template: the arguments without pointers.
        steps: places of every layer.
        size: bytes of the chain's memory.
        dtype: of products and activations.
        out: shape of the last layer's output.
        window: the last surrogate is narrow enough to note where it is not zero.
        call: type of the arguments.
    """

    template: bytes
    steps: tuple[Step, ...]
    size: int
    dtype: torch.dtype
    out: tuple[int, ...]
    window: bool
    call: type[ctypes.Array]


@lru_cache(maxsize=1024)
def planned(shape: torch.Size, dtype: torch.dtype, layers: tuple[tuple, ...], most: int, threads: int) -> Plan | None:
    """None: not for this path. Arguments are shapes, so that a call costs one look-up.

    Args:
        shape: of the input.
        dtype: of products and activations.
        layers: of each the shapes of its weight and bias, its kind, its firing, and the shapes of its state.
        most: multiply-adds of a layer's product that this path takes.
        threads: of convolutions and neurons.
    """
    if dtype not in (torch.float32, torch.bfloat16) or (dtype == torch.bfloat16 and processor.has_amx()):
        return None
    call = Arguments * len(layers)
    filled = call()
    steps = []
    end = 0
    for i, (weight, bias, kind, firing, state) in enumerate(layers):
        currents = _currents(shape, weight, kind, most)
        if currents is None or bias not in (None, weight[:1]):
            return None
        a = filled[i]
        number = 2 if dtype == torch.bfloat16 else 4
        a.images = shape[0]
        a.in_channels = shape[1]
        a.out_channels = weight[0]
        a.linear = kind == "linear"
        a.height, a.width = shape[2:] if len(shape) == 4 else (1, 1)
        a.neuron.dtype = dtype == torch.bfloat16
        first = end
        size = currents.numel() * number
        end = _up(first + size)
        shape = currents
        groups = 0
        out = first
        if firing is not None and firing.norm not in ("none", "bn", "tdbn", "bntt"):
            return None
        if firing is not None:
            _check(currents, firing, state)
            a.neuron = _neuron(currents, dtype, firing, state)
            a.neuron.threads = threads
            out, shape, groups = end, *_fired(currents, firing)
            end = _up(out + shape.numel() * number)
        statistics = end
        end = _up(end + 2 * groups * weight[0] * 4)
        updates = firing is not None and firing.norm != "none" and state[2] is not None
        steps.append(Step(first, out, statistics, statistics + groups * weight[0] * 4, updates))
    *_, last, _ = layers[-1]
    window = last is not None and len(shape) == 4 and fused.narrow(dtype, last.p)
    return Plan(bytes(filled), tuple(steps), end, dtype, tuple(shape), window, call)


def _up(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN


def _currents(shape: torch.Size, weight: torch.Size, kind: Kind, most: int) -> torch.Size | None:
    """Shape of a product; None where this path does not take it.

    Args:
        shape: of the input.
        weight: its shape.
        kind: of the product.
        most: multiply-adds that this path takes.
    """
    if not shape.numel() or len(shape) not in ((4,) if kind == "conv" else (2, 4)):
        return None
    work = shape[0] * weight.numel() * (shape[2] * shape[3] if kind == "conv" else 1)
    if work > most:
        return None
    if kind == "conv":
        return torch.Size((shape[0], weight[0], *shape[2:])) if weight[1:] == (shape[1], 3, 3) else None
    return torch.Size((shape[0], weight[0])) if weight[1] == shape[1:].numel() else None


def _check(currents: torch.Size, firing: Firing, state: tuple[torch.Size | None, ...]) -> None:
    meta = [None if size is None else torch.empty(size, device="meta") for size in state]
    check_norm_lif(torch.empty(currents, device="meta"), firing, NormState(*meta))


def _neuron(
    currents: torch.Size, dtype: torch.dtype, firing: Firing, state: tuple[torch.Size | None, ...]
) -> fused.Arguments:
    options = {
        "norm": firing.norm,
        "pool": firing.pool,
        "repeat": firing.repeat,
        "batch_statistics": firing.norm != "none" and (firing.training or state[2] is None),
        "scale": firing.scale,
        "eps": firing.eps,
        "momentum": 0.0,
    }
    return fused.arguments(currents, dtype, firing.p, firing.steps, options)


def _fired(currents: torch.Size, firing: Firing) -> tuple[torch.Size, int]:
    """Shape of the spikes, and how many groups have statistics of their own."""
    sides = [side // 2 for side in currents[2:]] if firing.pool else currents[2:]
    rows = currents[0] * (firing.steps if firing.repeat else 1)
    groups = 0 if firing.norm == "none" else firing.steps if firing.norm == "bntt" else 1
    return torch.Size((rows, currents[1], *sides)), groups
