"""The fused operation networks are made of: normalisation, LIF over all T steps, optional 2x2 average pool.

``norm_lif`` takes the output of a convolution or linear layer with time folded into the batch. Its gradient needs
nothing but that output, so a fast kernel recomputes normalised currents and membranes in backward instead of storing
them for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from spikefed import native
from spikefed.errors import ConfigError
from spikefed.neurons import fused, gpu, paths
from spikefed.neurons.firing import Firing, NormState
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
    firing = Firing(p, steps, norm, training, eps, alpha, pool, repeat)
    state = NormState(weight, bias, running_mean, running_var)
    check_norm_lif(x, firing, state)
    if p.start:
        return _norm_lif_charged(x, firing, state, momentum)
    if norm == "bn-step":
        return _norm_lif_by_step(x, firing, state, momentum)
    assert isinstance(momentum, float)
    return _norm_lif(x, firing, state, momentum)


def _norm_lif(x: Tensor, firing: Firing, state: NormState, momentum: float) -> Tensor:
    """On the fastest path that takes these tensors.

    Args:
        x: as in `norm_lif`.
        firing: how to normalise and fire.
        state: tensors of the normalisation.
        momentum: of its running statistics.
    """
    run = norm_lif_reference
    path = "reference"
    reason = ""
    known = firing.p.surrogate.code >= 0  # a surrogate of one's own has no kernel
    if known and kernels() == "auto" and gpu.suits(x, firing.steps, *state):
        run = gpu.norm_lif_gpu
        path = "fused"
        reason = "Triton kernel"
    elif known and kernels() == "auto" and fused.suits(x, *state):
        run = fused.norm_lif_native
        path = "fused"
        reason = "native kernel"
    paths.note("norm_lif", path, reason or why_reference(x), x)
    return run(x, firing, state, momentum)


def _norm_lif_charged(x: Tensor, firing: Firing, state: NormState, momentum: float | Sequence[float]) -> Tensor:
    """Neurons that begin charged: with what is left of the charge at the first step as current of that step.

    Args:
        x: as in `norm_lif`.
        firing: how to normalise and fire.
        state: tensors of the normalisation.
        momentum: of its running statistics.
    """
    p = firing.p
    steps = firing.steps
    if firing.repeat:
        x = x.repeat(steps, *[1] * (x.dim() - 1))
    y = normalise(
        x,
        steps=steps,
        norm=cast(Norm, firing.norm),
        training=firing.training,
        momentum=momentum,
        eps=firing.eps,
        scale=firing.scale,
        **state._asdict(),
    )
    charge = p.decay * p.start * p.v_threshold / p.gain if p.gain else 0.0
    first, rest = y.split([len(y) // steps, len(y) - len(y) // steps])
    return norm_lif(torch.cat([first + charge, rest]), replace(p, start=0.0), steps=steps, pool=firing.pool)


def _norm_lif_by_step(x: Tensor, firing: Firing, state: NormState, momentum: float | Sequence[float]) -> Tensor:
    """``bn-step`` as ``bntt`` whose steps share their tensors.

    Args:
        x: as in `norm_lif`.
        firing: how to normalise and fire.
        state: tensors of the normalisation, of one step.
        momentum: of its running statistics, for all steps or each.
    """
    each = NormState(*(None if tensor is None else tensor.repeat(firing.steps, 1) for tensor in state))
    # With momentum 1 the running statistics of each step become those of its batch.
    out = _norm_lif(x, firing._replace(norm="bntt"), each, 1.0)
    if firing.training:
        _move(state.running_mean, each.running_mean, momentum)
        _move(state.running_var, each.running_var, momentum)
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


def norm_lif_reference(x: Tensor, firing: Firing, state: NormState, momentum: float = 0.1) -> Tensor:
    """`norm_lif` in plain torch operations and autograd: the definition that fast kernels are held against.

    Args:
        x: currents ``[T * B, C, ...]``, or ``[B, C, ...]`` with ``firing.repeat``.
        firing: how to normalise, fire and pool; any norm but ``bn-step``.
        state: tensors of the normalisation; running statistics move when training.
        momentum: of the running statistics.
    """
    steps = firing.steps
    repeat = firing.repeat
    current = x.to(torch.promote_types(x.dtype, torch.float32))  # statistics and membranes never below float32
    folded = current.reshape(1 if repeat else steps, -1, *x.shape[1:])
    if firing.norm != "none":
        per_step = firing.norm == "bntt"
        outer = steps if per_step else 1
        groups = folded.expand(steps, *folded.shape[1:]) if per_step and repeat else folded
        repeats = steps if repeat and not per_step else 1  # how often each value counts in the unbiased variance
        mean, var = _statistics(groups, per_step, state, firing.training, momentum, repeats)
        gain = firing.scale * torch.rsqrt(var + firing.eps)
        if state.weight is not None:
            gain = gain * state.weight.reshape(outer, -1)
        shape = (outer, 1, x.shape[1], *[1] * (x.dim() - 2))
        folded = (groups - mean.reshape(shape)) * gain.reshape(shape)
        if state.bias is not None:
            folded = folded + state.bias.reshape(shape)
    spikes, _ = lif(folded, None, firing.p, steps=steps)
    spikes = spikes.to(x.dtype).flatten(0, 1)
    return F.avg_pool2d(spikes, 2) if firing.pool else spikes


def _statistics(
    groups: Tensor, per_step: bool, state: NormState, training: bool, momentum: float, repeats: int
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, ``[T or 1, C]``; moves the running statistics when training."""
    _, _, running_mean, running_var = state
    if not training and running_mean is not None and running_var is not None:
        return running_mean.reshape(-1, groups.shape[2]), running_var.reshape(-1, groups.shape[2])
    if not groups.numel():  # no batch, no statistics: the running ones stay, and gradients are 0 instead of 0 / 0
        some = groups.new_zeros(len(groups) if per_step else 1, groups.shape[2])
        return some, some + 1
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


def check_norm_lif(x: Tensor, firing: Firing, state: NormState) -> None:
    """Refuse what `norm_lif` cannot mean, of currents ``x [T*B, C, ...]``.

    Raises:
        ConfigError: the first of it.
    """
    steps = firing.steps
    norm = firing.norm
    if x.dim() not in (2, 4):
        raise ConfigError(f"norm_lif input has shape {tuple(x.shape)}; give [T*B, C, H, W] or [T*B, F]")
    if steps < 1 or (not firing.repeat and x.shape[0] % steps):
        raise ConfigError(
            f"norm_lif input has {x.shape[0]} rows, no multiple of steps={steps}; fold [T, B, ...] into [T*B, ...]"
        )
    if norm not in NORMS:
        raise ConfigError(f"unknown norm '{norm}'; use one of {', '.join(NORMS)}")
    if firing.pool and x.dim() != 4:
        raise ConfigError(f"norm_lif cannot pool an input of shape {tuple(x.shape)}; pooling needs [T*B, C, H, W]")
    if firing.pool and min(x.shape[2:]) < 2:
        raise ConfigError(f"norm_lif cannot pool maps of {x.shape[2]}x{x.shape[3]}; 2x2 pooling needs at least 2x2")
    wanted = (steps, x.shape[1]) if norm == "bntt" else (x.shape[1],)
    for name, tensor in state._asdict().items():
        if tensor is not None and norm != "none" and tuple(tensor.shape) != wanted:
            raise ConfigError(
                f"norm_lif {name} has shape {tuple(tensor.shape)}; norm '{norm}' with {steps} steps needs {wanted}"
            )
    if norm != "none" and (state.running_mean is None) != (state.running_var is None):
        raise ConfigError("norm_lif got only one of running_mean and running_var; give both or neither")
