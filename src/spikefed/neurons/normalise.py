"""Normalisation alone, without the neurons behind it: for sums of branches, whose neurons come after the sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Literal["none", "bn", "tdbn", "bntt", "bn-step"]
NORMS: tuple[Norm, ...] = ("none", "bn", "tdbn", "bntt", "bn-step")
PER_STEP = ("bntt", "bn-step")
"""Norms whose statistics are those of each time step alone."""


def normalise(
    x: Float[Tensor, "N C *rest"],
    *,
    steps: int,
    norm: Norm,
    weight: Float[Tensor, "*steps C"] | None = None,
    bias: Float[Tensor, "*steps C"] | None = None,
    running_mean: Float[Tensor, "*steps C"] | None = None,
    running_var: Float[Tensor, "*steps C"] | None = None,
    training: bool = True,
    momentum: float | Sequence[float] = 0.1,
    eps: float = 1e-5,
    scale: float = 1.0,
) -> Float[Tensor, "N C *rest"]:
    """y = weight * scale * (x - mean) / sqrt(var + eps) + bias, with the statistics of `norm_lif`'s norms.

    Args:
        x: ``[T*B, C, ...]``, time-major.
        steps: T; a current that is the same at every step is given once, with ``steps=1``.
        norm: which statistics; ``none`` gives ``x`` back.
        weight: ``[C]``, or ``[T, C]`` for ``bntt``.
        bias: shaped as ``weight``.
        running_mean: shaped as ``weight``, moved in place when ``training``, else used.
        running_var: as ``running_mean``.
        training: statistics of the batch (True) or the running ones (False).
        momentum: weight of the batch in the running statistics; for ``bn-step`` one for each step, in order.
        eps: added to the variance.
        scale: alpha * theta for ``tdbn``.

    Returns:
        the normalised currents, in the shape and dtype of ``x``.
    """
    if norm == "none":
        return x
    gain = weight if scale == 1.0 or weight is None else weight * scale
    if scale != 1.0 and weight is None:
        gain = torch.full((x.shape[1],), scale, dtype=torch.float32, device=x.device)
    if norm not in PER_STEP:
        assert isinstance(momentum, float)
        return _batch_norm(x, gain, bias, running_mean, running_var, training, momentum, eps)
    each = [momentum] * steps if isinstance(momentum, float | int) else momentum

    def own(tensor: Tensor | None, t: int) -> Tensor | None:
        return tensor if tensor is None or norm == "bn-step" else tensor[t]

    parts = []
    for t, part in enumerate(x.chunk(steps)):
        mean, var = own(running_mean, t), own(running_var, t)
        parts.append(_batch_norm(part, own(gain, t), own(bias, t), mean, var, training, each[t], eps))
    return torch.cat(parts)


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    batch_statistics = training or running_mean is None
    return torch.batch_norm(x, weight, bias, running_mean, running_var, batch_statistics, momentum, eps, True)
