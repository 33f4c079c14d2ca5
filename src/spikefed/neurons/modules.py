"""Neurons as stateless modules: they hold numbers, no parameters and no buffers, and forget everything
between calls.
"""

from __future__ import annotations

from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.neurons import fused
from spikefed.neurons.functional import lif
from spikefed.neurons.kernels import kernels
from spikefed.neurons.parameters import LIFParameters
from spikefed.neurons.surrogates import Rectangle, Surrogate


class LIF(nn.Module):
    """Leaky integrate-and-fire layer: currents ``[T, B, ...]`` in, spikes ``[T, B, ...]`` out, any rest shape.

    Args:
        tau: time constant in steps, decay = 1 - 1/tau (SpikingJelly's meaning); or give ``decay``.
            Exactly one of the two.
        decay: kept part of the potential per step, in [0, 1].
        v_threshold: firing threshold, > 0.
        v_reset: ``0.0`` = hard reset to 0, ``None`` = soft reset (subtract the threshold).
        surrogate: object or text, see `surrogate`.
        decay_input: multiply the current by 1 - decay (with ``tau``: 1 / tau, SpikingJelly's default; ours is False).
        strict: fire at ``u > theta`` (default) or ``u >= theta``.
        detach_reset: no gradient through the reset.

    Raises:
        ConfigError: numbers out of range.
    """

    def __init__(
        self,
        tau: float | None = None,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate: Surrogate | str | None = None,
        *,
        decay: float | None = None,
        decay_input: bool = False,
        strict: bool = True,
        detach_reset: bool = False,
    ) -> None:
        super().__init__()
        if (tau is None) == (decay is None):
            raise ConfigError(f"LIF got tau={tau} and decay={decay}; give exactly one of them")
        if tau is not None and tau < 1:
            raise ConfigError(f"LIF tau is {tau}; it counts time steps, so choose it from 1 up")
        if v_reset not in (0.0, None):
            raise ConfigError(f"LIF v_reset is {v_reset}; use 0.0 (hard reset) or None (soft reset)")
        kept = decay if decay is not None else 1 - 1 / (tau or 1.0)
        self.parameters_ = LIFParameters(
            kind="soft" if v_reset is None else "hard",
            decay=kept,
            v_threshold=v_threshold,
            strict=strict,
            surrogate=Rectangle() if surrogate is None else cast(Any, surrogate),
            detach_reset=detach_reset,
            gain=1 - kept if decay_input else 1.0,
        )

    def forward(self, x: Float[Tensor, "T B *rest"]) -> Float[Tensor, "T B *rest"]:
        if kernels() == "auto" and self.parameters_.surrogate.code >= 0 and fused.suits(x):
            return fused.lif_native(x, self.parameters_)
        return lif(x, None, self.parameters_)[0]

    def extra_repr(self) -> str:
        p = self.parameters_
        reset = "0.0" if p.kind == "hard" else "None"
        return f"decay={p.decay:g}, v_threshold={p.v_threshold:g}, v_reset={reset}, surrogate='{p.surrogate}'"


class IF(LIF):
    """Integrate-and-fire layer: `LIF` without leak."""

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate: Surrogate | str | None = None,
        *,
        strict: bool = True,
        detach_reset: bool = False,
    ) -> None:
        super().__init__(None, v_threshold, v_reset, surrogate, decay=1.0, strict=strict, detach_reset=detach_reset)
