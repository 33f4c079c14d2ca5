"""The fused operation networks are made of: normalisation, LIF over all T steps, optional 2x2 average pool.

``norm_lif`` takes the output of a convolution or linear layer with time folded into the batch. Its gradient needs
nothing but that output, so a fast kernel recomputes normalised currents and membranes in backward instead of storing
them for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from spikefed import native
from spikefed.errors import ConfigError
from spikefed.neurons import fused, gpu, paths
from spikefed.neurons.functional import lif
from spikefed.neurons.kernels import kernels
from spikefed.neurons.normalise import NORMS, Norm, normalise
from spikefed.neurons.parameters import LIFParameters


def norm_lif(
    x: Float[Tensor, "N C *rest"],
    p: LIFParameters,
    *,
    steps: int,
    norm: Norm = "none",
    weight: Float[Tensor, "*steps C"] | None = None,
    bias: Float[Tensor, "*steps C"] | None = None,
    running_mean: Float[Tensor, "*steps C"] | None = None,
    running_var: Float[Tensor, "*steps C"] | None = None,
    training: bool = True,
    momentum: float | Sequence[float] = 0.1,
    eps: float = 1e-5,
    alpha: float = 1.0,
    pool: bool = False,
    repeat: bool = False,
) -> Float[Tensor, "M C *rest2"]:
    """Normalise, fire, pool.

    y = weight * scale * (x - mean) / sqrt(var + eps) + bias, then the LIF of ``p`` over T steps, then (``pool``) the
    mean over 2x2 windows. The norms:

    * ``none``: y = x.
    * ``bn``: one mean and variance per channel over T, B, H, W; scale 1.
    * ``tdbn`` (Zheng et al., AAAI 2021, eq. 5): as ``bn`` with scale = alpha * theta.
    * ``bntt`` (Kim & Panda 2021): mean, variance, weight and bias per channel *and* time step; scale 1.
    * ``bn-step``: one BatchNorm called at every step, as in code that runs step by step: mean and variance of each
      step alone, one weight and bias, one pair of running statistics that moves T times; scale 1.

    The variance is the biased one, as in torch's BatchNorm; the running variance takes the unbiased one.

    Args:
        x: ``[T*B, C, H, W]`` or ``[T*B, F]``, time-major (row t*B + b). With ``repeat``: ``[B, C, H, W]`` or ``[B,
            F]``, the same current at every step (first layer under direct coding), not materialised T times by fast
            kernels.
        p: the neuron.
        steps: T, at least 1.
        norm: which normalisation.
        weight: ``[C]`` (bn, tdbn) or ``[T, C]`` (bntt), float32; ``None``: factor 1.
        bias: shaped as ``weight``; ``None``: shift 0.
        running_mean: shaped as ``weight``; when ``training`` it is updated in place, new = (1 - momentum) * old +
            momentum * batch; when not it is used. ``None`` for both: batch statistics always.
        running_var: as ``running_mean``.
        training: batch statistics (True) or running ones (False).
        momentum: weight of the batch in the running statistics; for ``bn-step`` one for each step, in order.
        eps: added to the variance.
        alpha: factor of tdBN's threshold.
        pool: 2x2 average pool of the spikes, stride 2, odd last row or column dropped (``F.avg_pool2d(o, 2)``);
            needs ``[.., C, H, W]``.
        repeat: see ``x``.

    Returns:
        spikes (averages of spikes if pooled) ``[T*B, C, H', W']`` or ``[T*B, F]``, dtype of ``x``.

    Raises:
        ConfigError: shapes that do not fit.
    """
    options = {
        "steps": steps,
        "norm": norm,
        "weight": weight,
        "bias": bias,
        "running_mean": running_mean,
        "running_var": running_var,
        "training": training,
        "pool": pool,
        "repeat": repeat,
    }
    check_norm_lif(x, **options)
    if p.start:
        return _norm_lif_charged(x, p, **options, momentum=momentum, eps=eps, alpha=alpha)
    if norm == "bn-step":
        return _norm_lif_by_step(x, p, **options, momentum=momentum, eps=eps)
    assert isinstance(momentum, float)
    run = norm_lif_reference
    path = "reference"
    reason = ""
    known = p.surrogate.code >= 0  # a surrogate of one's own has no kernel
    if known and kernels() == "auto" and gpu.suits(x, steps, weight, bias, running_mean, running_var):
        run = gpu.norm_lif_gpu
        path = "fused"
        reason = "Triton kernel"
    elif known and kernels() == "auto" and fused.suits(x, weight, bias, running_mean, running_var):
        run = fused.norm_lif_native
        path = "fused"
        reason = "native kernel"
    paths.note("norm_lif", path, reason or why_reference(x), x)
    return run(x, p, **options, momentum=momentum, eps=eps, alpha=alpha)


def _norm_lif_charged(
    x: Tensor, p: LIFParameters, *, steps: int, norm: Norm, alpha: float, pool: bool, repeat: bool, **options: Any
) -> Tensor:
    """Neurons that begin charged: with what is left of the charge at the first step as current of that step.

    Args:
        x: as in `norm_lif`, like the rest.
        p: the neuron.
        steps: T.
        norm: which normalisation.
        alpha: of tdBN.
        pool: 2x2 average pool.
        repeat: the same current at every step.
        options: of the normalisation.
    """
    if repeat:
        x = x.repeat(steps, *[1] * (x.dim() - 1))
    scale = alpha * p.v_threshold if norm == "tdbn" else 1.0
    y = normalise(x, steps=steps, norm=norm, scale=scale, **options)
    charge = p.decay * p.start * p.v_threshold / p.gain if p.gain else 0.0
    first, rest = y.split([len(y) // steps, len(y) - len(y) // steps])
    return norm_lif(torch.cat([first + charge, rest]), replace(p, start=0.0), steps=steps, pool=pool)


def _norm_lif_by_step(
    x: Tensor,
    p: LIFParameters,
    *,
    steps: int,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float | Sequence[float],
    **options: Any,
) -> Tensor:
    """``bn-step`` as ``bntt`` whose steps share their tensors."""

    def spread(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.repeat(steps, 1)

    means = spread(running_mean)
    variances = spread(running_var)
    options |= {"weight": spread(weight), "bias": spread(bias), "norm": "bntt", "training": training}
    # With momentum 1 the running statistics of each step become those of its batch.
    out = norm_lif(x, p, steps=steps, running_mean=means, running_var=variances, momentum=1.0, **options)
    if training:
        _move(running_mean, means, momentum)
        _move(running_var, variances, momentum)
    return out


@torch.no_grad()
def _move(running: Tensor | None, seen: Tensor | None, momentum: float | Sequence[float]) -> None:
    """Running statistics over those of each step, in order."""
    if running is None or seen is None:
        return
    for t, of_step in enumerate(seen):
        running.lerp_(of_step, momentum if isinstance(momentum, float | int) else momentum[t])


def why_reference(x: Tensor) -> str:
    """Why ``x`` goes to the reference, in words. ``x`` is ``[T * B, ...]``."""
    if kernels() == "reference":
        return "kernels are set to 'reference'"
    if native.why_not():
        return native.why_not()
    return (
        f"no native kernel for {x.dtype} tensors on {x.device.type} (float32 and bfloat16 on cpu, float32 parameters)"
    )


def norm_lif_reference(
    x: Tensor,
    p: LIFParameters,
    *,
    steps: int,
    norm: Norm = "none",
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    alpha: float = 1.0,
    pool: bool = False,
    repeat: bool = False,
) -> Tensor:
    """`norm_lif` in plain torch operations and autograd: the definition that fast kernels are held against.

    Args:
        x: currents ``[T * B, C, ...]``, or ``[B, C, ...]`` with ``repeat``.
        p: dynamics of the neuron.
        steps: T.
        norm: ``none``, ``bn``, ``tdbn`` or ``bntt``.
        weight: scale ``[C]`` (``[T, C]`` for ``bntt``), or None.
        bias: shift of the same shape, or None.
        running_mean: tracked mean of the same shape, changed when training, or None.
        running_var: tracked variance, likewise.
        training: use the batch's statistics and track them.
        momentum: of the tracked statistics.
        eps: added to the variance.
        alpha: tdBN's scale.
        pool: average spikes over 2x2 windows.
        repeat: show the same currents at every step.
    """
    current = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics and membranes never below float32
    folded = current.reshape(1 if repeat else steps, -1, *x.shape[1:])
    if norm != "none":
        per_step = norm == "bntt"
        scale = alpha * p.v_threshold if norm == "tdbn" else 1.0
        outer = steps if per_step else 1
        groups = folded.expand(steps, *folded.shape[1:]) if per_step and repeat else folded
        repeats = steps if repeat and not per_step else 1  # how often each value counts in the unbiased variance
        mean, var = _statistics(groups, per_step, running_mean, running_var, training, momentum, repeats)
        gain = scale * torch.rsqrt(var + eps)
        if weight is not None:
            gain = gain * weight.reshape(outer, -1)
        shape = (outer, 1, x.shape[1], *[1] * (x.dim() - 2))
        folded = (groups - mean.reshape(shape)) * gain.reshape(shape)
        if bias is not None:
            folded = folded + bias.reshape(shape)
    spikes, _ = lif(folded, None, p, steps=steps)
    spikes = spikes.to(x.dtype).flatten(0, 1)
    return F.avg_pool2d(spikes, 2) if pool else spikes


def _statistics(
    groups: Tensor,
    per_step: bool,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    repeats: int,
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, ``[T or 1, C]``; moves the running statistics when training."""
    if not training and running_mean is not None and running_var is not None:
        return running_mean.reshape(-1, groups.shape[2]), running_var.reshape(-1, groups.shape[2])
    over = tuple(d for d in range(groups.dim()) if d != 2 and not (per_step and d == 0))
    var, mean = torch.var_mean(groups, dim=over, correction=0)
    if training and running_mean is not None and running_var is not None:
        count = groups.numel() // mean.numel() * repeats
        with torch.no_grad():
            running_mean.lerp_(mean.detach().reshape(running_mean.shape).to(running_mean.dtype), momentum)
            unbiased = var.detach() * (count / max(count - 1, 1))
            running_var.lerp_(unbiased.reshape(running_var.shape).to(running_var.dtype), momentum)
    width = groups.shape[2]
    return mean.reshape(-1, width), var.reshape(-1, width)


def check_norm_lif(
    x: Tensor,
    *,
    steps: int,
    norm: str,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    pool: bool,
    repeat: bool,
) -> None:
    """Refuse what `norm_lif` cannot mean.

    Args:
        x: currents, as `norm_lif` takes them.
        steps: T.
        norm: kind of normalisation.
        weight: scale, or None.
        bias: shift, or None.
        running_mean: tracked mean, or None.
        running_var: tracked variance, or None.
        training: whether batch statistics are used.
        pool: whether spikes are pooled 2x2.
        repeat: whether every step sees the same currents.
    """
    if x.dim() not in (2, 4):
        raise ConfigError(f"norm_lif input has shape {tuple(x.shape)}; give [T*B, C, H, W] or [T*B, F]")
    if steps < 1 or (not repeat and x.shape[0] % steps):
        raise ConfigError(
            f"norm_lif input has {x.shape[0]} rows, no multiple of steps={steps}; fold [T, B, ...] into [T*B, ...]"
        )
    if norm not in NORMS:
        raise ConfigError(f"unknown norm '{norm}'; use one of {', '.join(NORMS)}")
    if pool and x.dim() != 4:
        raise ConfigError(f"norm_lif cannot pool an input of shape {tuple(x.shape)}; pooling needs [T*B, C, H, W]")
    if pool and min(x.shape[2:]) < 2:
        raise ConfigError(f"norm_lif cannot pool maps of {x.shape[2]}x{x.shape[3]}; 2x2 pooling needs at least 2x2")
    wanted = (steps, x.shape[1]) if norm == "bntt" else (x.shape[1],)
    tensors = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, tensor in tensors.items():
        if tensor is not None and norm != "none" and tuple(tensor.shape) != wanted:
            raise ConfigError(
                f"norm_lif {name} has shape {tuple(tensor.shape)}; norm '{norm}' with {steps} steps needs {wanted}"
            )
    if norm != "none" and (running_mean is None) != (running_var is None):
        raise ConfigError("norm_lif got only one of running_mean and running_var; give both or neither")
