"""Which path a convolution takes, and why: a rule of shape, precision, processor and measured input density.

No clock decides: the same input takes the same path in every run, so results repeat bit for bit. The limits are
measured break-even points (``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from spikefed.neurons import events, processor, products, winograd
from spikefed.neurons.sides import Sides, pair

Path = Literal["dense", "winograd", "events", "events for the weight gradient"]

# Part of non-zeros below which event lists beat the dense product beside them. The weight gradient gains more than the
# forward product, because its sums stay in registers. Forward:
FLOAT32_LIMIT = 0.30  # beside oneDNN
BF16_LIMIT = 0.20  # beside oneDNN on bf16 instructions
WINOGRAD_LIMIT = {"portable": 0.0, "avx2": 0.18, "avx512": 0.14}  # beside Winograd, float32
BF16_WINOGRAD_LIMIT = 0.16
NARROW_LIMIT = 0.25  # beside Winograd in layers of fewer than 64 channels, where its transforms weigh more
# Weight gradient:
FLOAT32_WEIGHT_LIMIT = 0.45
BF16_WEIGHT_LIMIT = 0.33
AMX_WEIGHT_LIMIT = 0.10  # matrix tiles: only the weight gradient of deep, small maps
# Part of neurons inside the surrogate's window below which their input gradient is computed one by one.
WINDOW_LIMIT = 0.30
BF16_WINDOW_LIMIT = 0.22
WINOGRAD_WINDOW_LIMIT = {"avx2": 0.17, "avx512": 0.19}  # beside Winograd
# Part of non-zeros below which a linear layer takes lists, beside oneDNN in float32.
LINEAR_LIMIT = {"portable": 0.0, "avx2": 0.25, "avx512": 0.15}
LEAST_ROWS = 128  # of them, below which turning the weights into the lists' order and back costs what lists save
LARGE_LINEAR = 2**20  # weights from which lists gain nothing beside AVX-512's products
# Multiply-adds of the dense convolution below which lists are not worth their calls.
LEAST_WORK = 64 * 1024 * 1024
# Channels on both sides below which Winograd's transforms cost more than they save.
LEAST_CHANNELS = 16
LEAST_CHANNELS_BF16 = 64  # beside oneDNN on bf16 instructions
# Channels of an image up to which its weight gradient is taken tap by tap, and the least multiply-adds of that.
MOST_DIRECT_CHANNELS = 4
LEAST_DIRECT_WORK = 1024 * 1024


@dataclass(frozen=True)
class Choice:
    """What was done with one operation. ``density``: part of the input that is not zero (``nan`` if not measured)."""

    operation: str
    path: str
    reason: str
    shape: tuple[int, ...]
    density: float


_recorders: list[list[Choice]] = []


@contextmanager
def record_paths() -> Iterator[list[Choice]]:
    """Collect the choice of every ``norm_lif``, ``spike_conv2d`` and ``spike_linear`` called inside, in order.

    >>> from spikefed.neurons import spike_linear
    >>> with record_paths() as choices:
    ...     out = spike_linear(torch.zeros(1, 2), torch.ones(3, 2), None)
    >>> choices[0].operation
    'spike_linear'
    """
    rows: list[Choice] = []
    _recorders.append(rows)
    try:
        yield rows
    finally:
        _recorders.remove(rows)


def recording() -> bool:
    """Whether anybody listens."""
    return bool(_recorders)


def note(operation: str, path: str, reason: str, x: Tensor, density: float = float("nan")) -> None:
    """Tell the recorders, if there are any.

    Args:
        operation: its name.
        path: the one taken.
        reason: why, in words.
        x: its input, of any shape.
        density: part of the input that is not zero.
    """
    for rows in _recorders:
        rows.append(Choice(operation, path, reason, tuple(x.shape), density))


@dataclass(frozen=True)
class Plan:
    """How the three products of a convolution are computed, and why.

    ``window``: whether the input gradient may be taken at the neurons inside the surrogate's window only.
    """

    forward: Literal["dense", "winograd", "events"]
    weight: Literal["dense", "events", "direct"]
    gradient: Literal["dense", "winograd"]
    reason: str

    @property
    def path(self) -> Path:
        """In a word."""
        if self.forward != "events" and self.weight == "events":
            return "events for the weight gradient"
        return self.forward


def convolution(x: Tensor, weight: Tensor, stride: Sides, padding: Sides, dtype: torch.dtype) -> Plan:
    """The path of ``spike_conv2d``. ``dtype``: the precision it computes in (autocast counts).

    Args:
        x: ``[N, Cin, H, W]``.
        weight: ``[Cout, Cin, K, K]``.
        stride: of the convolution.
        padding: of the convolution.
        dtype: precision of the products.
    """
    dense = "winograd" if by_winograd(weight, stride, padding, dtype) else "dense"
    density = density_of(x)
    reason = ""
    forward, by_weight = _limits(x, weight, stride, padding, dtype)
    if density is None:
        forward = by_weight = 0.0
        reason = "input density not known (no spikes of norm_lif)"
    elif not events.suits(x, weight, stride, padding):
        forward = by_weight = 0.0
        reason = (
            "event lists need stride 1 or 2, same padding, a 1x1 or 3x3 kernel, float32 weights and image rows of "
            "at most 65,536 numbers"
        )
    elif _work(x, weight, stride) < LEAST_WORK:
        forward = by_weight = 0.0
        reason = "too small for event lists to pay"
    elif by_weight <= 0:
        reason = "bf16 matrix tiles are faster here"
    else:
        limit = forward if density < forward else by_weight
        reason = f"density {density:.3f} is {'' if density < limit else 'not '}below {limit:g} ({_name(dtype)})"
    if products.emulated(dtype):
        reason += f"; {products.WHY_EMULATED}"
    density = 1.0 if density is None else density
    rest = "direct" if by_direct(x, weight, stride, padding, dtype) else "dense"
    return Plan("events" if density < forward else dense, "events" if density < by_weight else rest, dense, reason)


def by_direct(x: Tensor, weight: Tensor, stride: Sides, padding: Sides, dtype: torch.dtype) -> bool:
    """Whether the weight gradient of images with few channels is taken tap by tap, by a kernel of our own.

    Args:
        x: ``[N, Cin, H, W]``.
        weight: ``[Cout, Cin, K, K]``.
        stride: of the convolution.
        padding: of the convolution.
        dtype: precision of the products.
    """
    return (
        weight.shape[1] <= MOST_DIRECT_CHANNELS
        and _work(x, weight, stride) >= LEAST_DIRECT_WORK
        and winograd.suits(weight, stride, padding)
        and not (_bf16_instructions(dtype) and processor.has_amx())
    )


def linear_by_lists(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether a linear layer goes by the non-zeros of its input.

    Args:
        x: ``[N, *rest]``.
        weight: ``[Fout, Fin]``.
        dtype: precision of the products.
    """
    density = density_of(x)
    return (
        density is not None
        and density < LINEAR_LIMIT[processor.instruction_set()]
        and not _bf16_instructions(dtype)
        and not (weight.numel() >= LARGE_LINEAR and processor.instruction_set() == "avx512")
        and x.dim() in (2, 4)
        and len(x) >= LEAST_ROWS
        and len(x) * weight.numel() >= LEAST_WORK
        and weight.shape[1] < 2**16  # an event's place has 16 bits
        and x.numel() < 2**31
        and weight.dtype == torch.float32
        and events.library() is not None
    )


def by_winograd(weight: Tensor, stride: Sides, padding: Sides, dtype: torch.dtype) -> bool:
    """Whether dense products with the weight go by Winograd's filtering.

    Args:
        weight: ``[Cout, Cin, K, K]``.
        stride: of the convolution.
        padding: of the convolution.
        dtype: precision of the products.
    """
    least = LEAST_CHANNELS_BF16 if _bf16_instructions(dtype) else LEAST_CHANNELS
    return (
        min(weight.shape[:2]) >= least
        and winograd.suits(weight, stride, padding)
        and not (_bf16_instructions(dtype) and processor.has_amx())
    )


def _bf16_instructions(dtype: torch.dtype) -> bool:
    return dtype == torch.bfloat16 and not products.emulated(dtype)


def _name(dtype: torch.dtype) -> str:
    if not _bf16_instructions(dtype):
        return "float32"
    return "bf16 matrix tiles" if processor.has_amx() else "bf16"


def _limits(x: Tensor, weight: Tensor, stride: Sides, padding: Sides, dtype: torch.dtype) -> tuple[float, float]:
    """Densities below which lists do the forward product and the weight gradient."""
    fast = by_winograd(weight, stride, padding, dtype)
    if not _bf16_instructions(dtype):
        rival = NARROW_LIMIT if min(weight.shape[:2]) < 64 else WINOGRAD_LIMIT[processor.instruction_set()]
        return min(FLOAT32_LIMIT, rival) if fast else FLOAT32_LIMIT, FLOAT32_WEIGHT_LIMIT
    if not processor.has_amx():
        return min(BF16_LIMIT, BF16_WINOGRAD_LIMIT) if fast else BF16_LIMIT, BF16_WEIGHT_LIMIT
    return 0.0, 0.0 if x.shape[2] * x.shape[3] > 64 or x.shape[1] < 128 else AMX_WEIGHT_LIMIT


def window_limit(weight: Tensor, dtype: torch.dtype) -> float:
    """Part of neurons inside a surrogate's window below which their gradient is computed one by one; 0 = never.

    ``weight`` is ``[Cout, Cin, K, K]``.
    """
    if _bf16_instructions(dtype) and processor.has_amx():
        return 0.0
    limit = BF16_WINDOW_LIMIT if _bf16_instructions(dtype) else WINDOW_LIMIT
    if by_winograd(weight, 1, 1, dtype):
        return min(limit, WINOGRAD_WINDOW_LIMIT[processor.instruction_set()])
    return limit


def could_list(x: Tensor, weight: Tensor, stride: Sides, padding: Sides) -> bool:
    """Whether event kernels can take its input gradient too, and it is large enough for them to pay.

    Args:
        x: ``[N, Cin, H, W]``.
        weight: ``[Cout, Cin, K, K]``.
        stride: of the convolution.
        padding: of the convolution.
    """
    return stride == 1 and events.suits(x, weight, stride, padding) and _work(x, weight, stride) >= LEAST_WORK


def _work(x: Tensor, weight: Tensor, stride: Sides) -> int:
    """Multiply-adds of the dense convolution (same padding)."""
    return x.shape[0] * x.shape[2] * x.shape[3] * weight.numel() // prod(pair(stride))


def _by(density: float, limit: float, name: str) -> str:
    return f"density {density:.3f} is {'' if density < limit else 'not '}below {limit:g} ({name})"


def window_of(x: Tensor) -> Tensor | None:
    """Bytes shaped as ``x``: 1 where a gradient of ``x`` can matter; ``None`` if (nearly) everywhere, or not known.

    Outside the window a neuron's surrogate is zero, so ``norm_lif`` ignores what arrives there. A convolution that uses
    the window leaves zeros in those places of ``x.grad``. The shape is that of ``x``.
    """
    window, version, _ = getattr(x, "_spikefed_window", (None, 0, 0))
    return None if window is None or x._version != version else window


def inside_of(x: Tensor) -> float | None:
    """Part of `window_of` that is 1. ``x`` as there."""
    return None if window_of(x) is None else x._spikefed_window[2] / max(x.numel(), 1)  # type: ignore[attr-defined]


def marks_of(x: Tensor) -> events.Marks | None:
    """Where ``x`` is not zero, if ``norm_lif`` noted it.

    ``x`` is ``[N, C]``, or ``[N, C, H, W]`` in channels-last memory; C is a multiple of 16.
    """
    bits, version, ones = getattr(x, "_spikefed_bits", (None, 0, False))
    return None if bits is None or x._version != version else events.Marks(bits, ones)


def density_of(x: Tensor) -> float | None:
    """Part of ``x`` that is not zero, if ``norm_lif`` made it. ``x`` of any shape."""
    nonzero = getattr(x, "_spikefed_nonzero", None)
    return None if nonzero is None else nonzero / max(x.numel(), 1)
