"""Normalisation alone, without the neurons behind it: for sums of branches, whose neurons come after the sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikefed.neurons import fused, gpu
from spikefed.neurons import steps as stepwise
from spikefed.neurons.kernels import kernels

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
    if _native(x, steps, norm, weight, bias, running_mean, running_var):
        o = {"norm": norm, "running_mean": running_mean, "running_var": running_var, "training": training}
        groups = Groups.of({**o, "momentum": momentum, "eps": eps, "scale": scale}, steps)
        return _Normalise.apply(stepwise.laid_out(x), weight, bias, groups)  # type: ignore[return-value]
    gain = weight if scale == 1.0 or weight is None else weight * scale
    if scale != 1.0 and weight is None:
        gain = torch.full(
            (steps, x.shape[1]) if norm == "bntt" else (x.shape[1],), scale, dtype=torch.float32, device=x.device
        )
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


def normalise_pooled(x: Tensor, pool: Callable[[Tensor], Tensor], *, steps: int, **options: Any) -> Tensor:
    """``pool(normalise(x))`` for a pool of means without padding, up to rounding: the norm comes behind the pool.

    Statistics are those of the whole map, and a mean of normalised values is the normalised mean, so that the whole map
    is never written again. Without a gradient; where a gradient is wanted, or no kernel takes ``x``, the plain way.

    Args:
        x: ``[T*B, C, H, W]``, time-major.
        pool: means over windows, ``[N, C, H, W]`` to ``[N, C, H2, W2]``.
        steps: as in `normalise`.
        options: as in `normalise`.
    """
    told = {**_DEFAULTS, **options}
    if _plainly(x, steps, told):
        return pool(normalise(x, steps=steps, **told))
    groups = Groups.of(told, steps)
    x = stepwise.laid_out(x)
    made = groups.statistics(x, told["weight"], told["bias"])
    out = stepwise.laid_out(pool(x))
    for part, of_part in zip(out.chunk(len(made)), made, strict=True):
        stepwise.total([stepwise.Term(part, of_part)], part)
    return out


def normalise_each(
    currents: Callable[[Tensor], Tensor],
    x: Tensor,
    pool: Callable[[Tensor], Tensor] | None,
    *,
    steps: int,
    **options: Any,
) -> Tensor:
    """``normalise_pooled(currents(x))`` one step after another, where statistics are those of each step.

    A step's map is read twice more while the processor's cache still holds it, and lies in the memory of the step
    before. Without a gradient; where one is wanted, or the norm is another, all steps at once.

    Args:
        currents: of each row apart, ``[N, C, H, W]`` to ``[N, C2, H2, W2]``.
        x: ``[T*B, C, H, W]``, time-major.
        pool: as in `normalise_pooled`; None for none.
        steps: T.
        options: as in `normalise`.
    """
    told = {**_DEFAULTS, **options}
    if told["norm"] not in PER_STEP or _plainly(x, steps, told):
        y = currents(x)
        return normalise(y, steps=steps, **told) if pool is None else normalise_pooled(y, pool, steps=steps, **told)
    groups = Groups.of(told, steps)
    given: Tensor | None = None
    for t, part in enumerate(x.chunk(steps)):
        y = stepwise.laid_out(currents(part))
        made = groups.statistics_at(t, y, told["weight"], told["bias"])
        small = y if pool is None else stepwise.laid_out(pool(y))
        if given is None:
            shape = (len(x), *small.shape[1:])
            given = torch.empty(shape, dtype=small.dtype, memory_format=torch.channels_last)
        stepwise.total([stepwise.Term(small, made)], given[t * len(small) : (t + 1) * len(small)])
        del y, small  # the next step's take their place
    assert given is not None
    return given


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("weight", "bias", "running_mean", "running_var")),
    "training": True,
    "momentum": 0.1,
    "eps": 1e-5,
    "scale": 1.0,
}


def _plainly(x: Tensor, steps: int, told: dict[str, Any]) -> bool:
    """Whether a norm with these arguments is left to `normalise`: a gradient is wanted, or no kernel takes it."""
    state = (told[key] for key in ("weight", "bias", "running_mean", "running_var"))
    return torch.is_grad_enabled() or told["norm"] == "none" or not _native(x, steps, told["norm"], *state)


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
    if training and running_mean is not None and running_var is not None and x.numel() == x.shape[1]:
        _move_by_one(x, running_mean, running_var, momentum)
        running_mean = running_var = None
    return torch.batch_norm(x, weight, bias, running_mean, running_var, batch_statistics, momentum, eps, True)


@torch.no_grad()
def _move_by_one(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float) -> None:
    """Running statistics over a batch of one value a channel, of which torch would make the unbiased variance 0 / 0.

    Args:
        x: that batch, ``[1, C]`` or ``[1, C, 1, 1]``.
        running_mean: ``[C]``, moved in place.
        running_var: likewise; the variance of one value is 0, as in `norm_lif`.
        momentum: weight of the batch.
    """
    running_mean.lerp_(x.detach().flatten().to(running_mean.dtype), momentum)
    running_var.mul_(1 - momentum)


def _native(x: Tensor, steps: int, norm: Norm, *state: Tensor | None) -> bool:
    """Whether the native kernels take these tensors; torch says what is wrong with sizes that do not fit."""
    own = (steps, x.shape[1]) if norm == "bntt" else (x.shape[1],)
    if any(t is not None and t.shape != own for t in state):
        return False
    return kernels() == "auto" and not gpu.interpreted() and fused.suits(x, *state) and stepwise.library() is not None


class Groups(NamedTuple):
    """How a norm's statistics are cut over time, and what stays the same for all groups.

    Attributes:
        momenta: of each group in the running statistics.
        own: each group has tensors of its own, rows of the norm's.
        running_mean, running_var, training, eps, scale: as in `normalise`.
    """

    momenta: Sequence[float]
    own: bool
    running_mean: Tensor | None
    running_var: Tensor | None
    training: bool
    eps: float
    scale: float

    @classmethod
    def of(cls, options: dict[str, Any], steps: int) -> Groups:
        """From the arguments of `normalise`."""
        norm = options["norm"]
        momentum = options["momentum"]
        count = steps if norm in PER_STEP else 1
        momenta: Sequence[float] = [momentum] * count if isinstance(momentum, float | int) else list(momentum)
        kept = {key: options[key] for key in ("running_mean", "running_var", "training", "eps", "scale")}
        return cls(momenta, norm == "bntt", **kept)

    def statistics(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> list[Tensor]:
        """What `spikefed.neurons.steps.statistics` makes of every group of ``x``, ``[4, C]`` each."""
        parts = x.chunk(len(self.momenta))
        return [self.statistics_at(t, part, weight, bias) for t, part in enumerate(parts)]

    def statistics_at(self, t: int, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Those of one group alone, ``[4, C]``.

        Args:
            t: which group.
            x: its rows, ``[N, C, ...]``.
            weight: the norm's.
            bias: the norm's.
        """
        tensors = (weight, bias, self.running_mean, self.running_var)
        of_weight, of_bias, mean, var = (tensor[t] if self.own and tensor is not None else tensor for tensor in tensors)
        options = stepwise.NormOptions(
            of_weight, of_bias, mean, var, self.training, self.momenta[t], self.eps, self.scale
        )
        return stepwise.statistics(x, options)

    def backward(self, x: Tensor, made: list[Tensor], upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of ``x`` ``[T*B, C, ...]``, weight and bias."""
        grad_x = torch.empty_like(x)
        sums = []
        count = len(made)
        of_batch = self.training or self.running_mean is None
        pieces = zip(x.chunk(count), made, upstream.chunk(count), grad_x.chunk(count), strict=True)
        for part, of_part, grad, to in pieces:
            sums.append(stepwise.norm_backward(part, of_part, grad, of_batch, to)[1])
        both = torch.stack(sums, 1) if self.own else torch.stack(sums, 1).sum(1)
        return grad_x, (both[1] * self.scale).float(), both[0].float()


class _Normalise(torch.autograd.Function):
    """All groups of statistics in turn; saved for backward: the input and what `spikefed.neurons.steps` made of it."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: Groups) -> Tensor:
        out = torch.empty_like(x)
        made = groups.statistics(x, weight, bias)
        for part, of_part, to in zip(x.chunk(len(made)), made, out.chunk(len(made)), strict=True):
            stepwise.total([stepwise.Term(part, of_part)], to)
        ctx.save_for_backward(x, weight, bias, *made)
        ctx.groups = groups
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, *made = ctx.saved_tensors
        grad_x, of_weight, of_bias = ctx.groups.backward(x, made, stepwise.laid_out(grads[0].to(x.dtype)))
        wanted = ctx.needs_input_grad
        return (
            grad_x,
            of_weight if weight is not None and wanted[1] else None,
            of_bias if bias is not None and wanted[2] else None,
            None,
        )
