"""A convolution, a norm with statistics of each step, and means over 2x2: the whole map is never written.

A mean of normalised values is the normalised mean, and the norm asks of the whole map for two sums a channel only,
which the convolution adds up as it goes. Without a gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikefed.neurons import paths, winograd
from spikefed.neurons import steps as stepwise
from spikefed.neurons.kernels import kernels


def suits(x: Tensor, weight: Tensor, bias: Tensor | None, options: dict[str, Any]) -> bool:
    """Whether `normalised_halves` takes this layer, and nobody needs its gradient.

    Args:
        x: ``[N, Cin, H, W]``.
        weight: ``[Cout, Cin, Kh, Kw]`` of a convolution with stride 1 and same padding.
        bias: of the convolution; none is taken.
        options: of its norm, as in `normalise`; ``bn-step`` with the statistics of the batch is taken.
    """
    if torch.is_grad_enabled() or kernels() != "auto" or not stepwise.available() or bias is not None:
        return False
    plain = x.dim() == 4 and x.dtype == torch.float32 and x.device.type == "cpu"
    if not plain or x.shape[2] % 2 or x.shape[3] % 2 or weight.shape[2:] != (3, 3):
        return False
    of_batch = options["norm"] == "bn-step" and (options["training"] or options["running_mean"] is None)
    return of_batch and paths.by_winograd(weight, 1, 1, x.dtype)


def normalised_halves(x: Tensor, weight: Tensor, steps: int, options: dict[str, Any]) -> Tensor:
    """Means over 2x2 of the normalised convolution, ``[T*B, Cout, H / 2, W / 2]``; running statistics stay as they are.

    Args:
        x: ``[T*B, Cin, H, W]``, time-major.
        weight: ``[Cout, Cin, 3, 3]``.
        steps: T.
        options: as in `suits`.
    """
    x = stepwise.laid_out(x)
    gain_of, shift_of = options["weight"], options["bias"]
    shape = (len(x), len(weight), x.shape[2] // 2, x.shape[3] // 2)
    given = torch.empty(shape, memory_format=torch.channels_last)
    for part, to in zip(x.chunk(steps), given.chunk(steps), strict=True):
        means, sums = winograd.convolve_halved(part, weight)
        mean, square = sums / (4 * means[:, 0].numel())
        deviation = ((square - mean * mean).clamp_min(0) + options["eps"]).sqrt()
        gain = (1.0 if gain_of is None else gain_of.double()) / deviation
        shift = (0.0 if shift_of is None else shift_of.double()) - mean * gain
        made = torch.stack([mean, 1 / deviation, gain, shift]).float()
        stepwise.total([stepwise.Term(means, made)], to)
    return given
