"""Neurons as pure functions of their input current: the reference that every fused kernel is tested against.

``x`` is ``[T, B, ...]``, or ``[1, B, ...]`` with ``steps=T``: the same current at every step (direct coding, computed
once).
Membranes are kept in float32 (or float64 for float64 input); spikes come back in the dtype of ``x``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.neurons.parameters import LIFParameters
from spikefed.neurons.surrogates import Surrogate


class _Spike(torch.autograd.Function):
    """Step function forward, surrogate backward; `torch.func` transforms it (vmap takes it element by element)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, strict: bool, shape: Surrogate) -> Tensor:
        return (x > 0).to(x.dtype) if strict else (x >= 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, bool, Surrogate], output: Tensor) -> None:
        x, _, ctx.shape = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.shape.grad(x), None, None


def spike(x: Float[Tensor, "*shape"], p: LIFParameters) -> Float[Tensor, "*shape"]:
    """1 where ``x`` (distance from the threshold) is above 0 (from 0 on if ``p.strict`` is False), gradient
    ``p.surrogate``.
    """
    return cast(Tensor, _Spike.apply(x, p.strict, p.surrogate))


def lif_hard(
    x: Float[Tensor, "T B *rest"], v0: Float[Tensor, " B *rest"] | None, p: LIFParameters, *, steps: int | None = None
) -> tuple[Float[Tensor, "T2 B *rest"], Float[Tensor, " B *rest"]]:
    """LIF with hard reset (Wu et al., AAAI 2019, eqs. 4-5; used by FSD).

    u_t = decay * u_{t-1} * (1 - o_{t-1}) + gain * x_t;   o_t = 1[u_t > theta];   do/du = surrogate(u_t - theta)

    Args:
        x: input current.
        v0: potential carried in, already reset; None: ``p.start`` thresholds.
        p: numbers of the neuron; ``p.kind`` is not looked at.
        steps: T when ``x`` is ``[1, B, ...]``.

    Returns:
        spikes ``[T, B, ...]`` and the potential after the last step and its reset, u_T * (1 - o_T), to be passed on
        as ``v0``.
    """
    v = _start(x, v0, p)
    spikes = []
    for current in _currents(x, steps):
        u = p.decay * v + _gained(current, p).to(v.dtype)
        o = spike(u - p.v_threshold, p)
        v = u * (1 - (o.detach() if p.detach_reset else o))
        spikes.append(o)
    return torch.stack(spikes).to(x.dtype), v


def lif_soft(
    x: Float[Tensor, "T B *rest"], v0: Float[Tensor, " B *rest"] | None, p: LIFParameters, *, steps: int | None = None
) -> tuple[Float[Tensor, "T2 B *rest"], Float[Tensor, " B *rest"]]:
    """LIF with soft reset (V-SNN, Venkatesha et al. 2021; BNTT, Kim & Panda 2021).

    u_t = decay * v_{t-1} + gain * x_t;   o_t = 1[u_t / theta - 1 > 0];   v_t = u_t - theta * o_t

    The surrogate sees the scaled distance: do/du = surrogate(u_t / theta - 1) / theta. The public V-SNN code detaches
        the reset
    (``detach_reset=True``). Arguments and results as in `lif_hard`; the potential returned is v_T.

    Args:
        x: input currents.
        v0: potential before the first step; None: ``p.start`` thresholds.
        p: dynamics of the neuron.
        steps: T, where ``x`` is one step shown again.
    """
    v = _start(x, v0, p)
    spikes = []
    for current in _currents(x, steps):
        u = p.decay * v + _gained(current, p).to(v.dtype)
        o = spike(u / p.v_threshold - 1, p)
        v = u - p.v_threshold * (o.detach() if p.detach_reset else o)
        spikes.append(o)
    return torch.stack(spikes).to(x.dtype), v


def if_(
    x: Float[Tensor, "T B *rest"], v0: Float[Tensor, " B *rest"] | None, p: LIFParameters, *, steps: int | None = None
) -> tuple[Float[Tensor, "T2 B *rest"], Float[Tensor, " B *rest"]]:
    """Integrate and fire: the LIF of ``p.kind`` with decay 1 (``p.decay`` is not looked at).

    Args:
        x: input currents.
        v0: potential before the first step; None: ``p.start`` thresholds.
        p: dynamics of the neuron.
        steps: T, where ``x`` is one step shown again.
    """
    return lif(x, v0, replace(p, decay=1.0), steps=steps)


def lif(
    x: Float[Tensor, "T B *rest"], v0: Float[Tensor, " B *rest"] | None, p: LIFParameters, *, steps: int | None = None
) -> tuple[Float[Tensor, "T2 B *rest"], Float[Tensor, " B *rest"]]:
    """`lif_hard` or `lif_soft`, as ``p.kind`` says.

    Args:
        x: input currents.
        v0: potential before the first step; None: ``p.start`` thresholds.
        p: dynamics of the neuron.
        steps: T, where ``x`` is one step shown again.
    """
    return (lif_hard if p.kind == "hard" else lif_soft)(x, v0, p, steps=steps)


def lif_step(
    x: Float[Tensor, " B *rest"], v0: Float[Tensor, " B *rest"] | None, p: LIFParameters
) -> tuple[Float[Tensor, " B *rest"], Float[Tensor, " B *rest"]]:
    """One step of `lif`: spikes of the current ``x``, and the potential to be passed on as ``v0``."""
    spikes, v = lif(x.unsqueeze(0), v0, p)
    return spikes[0], v


def _gained(current: Tensor, p: LIFParameters) -> Tensor:
    return current if p.gain == 1.0 else current * p.gain


def _start(x: Tensor, v0: Tensor | None, p: LIFParameters) -> Tensor:
    """Potential before the first step; never below float32, so that bf16 currents integrate without loss."""
    kept = torch.promote_types(x.dtype, torch.float32)
    if v0 is not None:
        return v0.to(kept)
    return torch.full_like(x[0], p.start * p.v_threshold, dtype=kept)


def _currents(x: Tensor, steps: int | None) -> list[Tensor]:
    if steps is None or x.shape[0] == steps:
        return list(x.unbind(0))
    if x.shape[0] != 1 or steps < 1:
        raise ConfigError(
            f"input current has {x.shape[0]} time steps but steps is {steps}; give [T, B, ...] or [1, B, ...]"
        )
    return [x[0]] * steps
