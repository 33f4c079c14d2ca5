"""Which path a convolution takes, and why: a rule of shape, precision, processor and measured input density.

No clock decides: the same input takes the same path in every run, so results repeat bit for bit. The limits are
measured break-even points (``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spikefed.neurons import events, fused

Path = Literal["dense", "events", "events for the weight gradient"]

# Part of non-zeros below which event lists beat oneDNN's dense kernels, by the speed of the dense arithmetic. The
# weight gradient gains more than the forward product, because its sums stay in registers.
FLOAT32_LIMIT = 0.30
BF16_LIMIT = 0.20  # AVX-512 with bf16 instructions: forward
BF16_WEIGHT_LIMIT = 0.28  # the same: weight gradient
AMX_WEIGHT_LIMIT = 0.10  # matrix tiles: only the weight gradient of deep, small maps
# Part of neurons inside the surrogate's window below which their input gradient is computed one by one.
WINDOW_LIMIT = 0.30
BF16_WINDOW_LIMIT = 0.22
# Multiply-adds of the dense convolution below which lists are not worth their calls.
LEAST_WORK = 64 * 1024 * 1024


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

    >>> with record_paths() as choices:
    ...     net(images)
    """
    rows: list[Choice] = []
    _recorders.append(rows)
    try:
        yield rows
    finally:
        _recorders.remove(rows)


def note(operation: str, path: str, reason: str, x: Tensor, density: float = float("nan")) -> None:
    """Tell the recorders, if there are any."""
    for rows in _recorders:
        rows.append(Choice(operation, path, reason, tuple(x.shape), density))


def convolution(x: Tensor, weight: Tensor, stride: int, padding: int, dtype: torch.dtype) -> tuple[Path, str]:
    """The path of ``spike_conv2d`` and its reason. ``dtype``: the precision it computes in (autocast counts)."""
    density = density_of(x)
    if density is None:
        return "dense", "input density not known (no spikes of norm_lif)"
    if not events.suits(x, weight, stride, padding):
        return "dense", "event lists need stride 1, same padding, a 1x1 or 3x3 kernel and float32 weights"
    if _work(x, weight) < LEAST_WORK:
        return "dense", "too small for event lists to pay"
    if dtype == torch.float32:
        return _by(density, FLOAT32_LIMIT, "float32", "events")
    if not fused.has_amx():
        if density < BF16_LIMIT:
            return _by(density, BF16_LIMIT, "bf16", "events")
        return _by(density, BF16_WEIGHT_LIMIT, "bf16", "events for the weight gradient")
    if x.shape[2] * x.shape[3] > 64 or x.shape[1] < 128:
        return "dense", "bf16 matrix tiles are faster here"
    return _by(density, AMX_WEIGHT_LIMIT, "bf16 matrix tiles", "events for the weight gradient")


def window_limit(dtype: torch.dtype) -> float:
    """Part of neurons inside a surrogate's window below which their gradient is computed one by one; 0 = never."""
    if dtype == torch.float32:
        return WINDOW_LIMIT
    return 0.0 if fused.has_amx() else BF16_WINDOW_LIMIT


def could_list(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether event kernels can take this convolution and it is large enough for them to pay."""
    return events.suits(x, weight, stride, padding) and _work(x, weight) >= LEAST_WORK


def _work(x: Tensor, weight: Tensor) -> int:
    """Multiply-adds of the dense convolution (same padding)."""
    return x.shape[0] * x.shape[2] * x.shape[3] * weight.numel()


def _by(density: float, limit: float, name: str, path: Path) -> tuple[Path, str]:
    if density < limit:
        return path, f"density {density:.3f} is below {limit:g} ({name})"
    return "dense", f"density {density:.3f} is not below {limit:g} ({name})"


def window_of(x: Tensor) -> Tensor | None:
    """Bytes shaped as ``x``: 1 where a gradient of ``x`` can matter; ``None`` if (nearly) everywhere, or not known.

    Outside the window a neuron's surrogate is zero, so ``norm_lif`` ignores what arrives there. A convolution that uses
    the window leaves zeros in those places of ``x.grad``.
    """
    window, version = getattr(x, "_spikefed_window", (None, 0))
    return None if window is None or x._version != version else window


def density_of(x: Tensor) -> float | None:
    """Part of ``x`` that is not zero, if ``norm_lif`` made it."""
    nonzero = getattr(x, "_spikefed_nonzero", None)
    return None if nonzero is None else nonzero / max(x.numel(), 1)
