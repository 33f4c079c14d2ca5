"""The numbers of a leaky integrate-and-fire neuron, in one frozen record."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from spikefed.errors import ConfigError
from spikefed.neurons.surrogates import Rectangle, Surrogate
from spikefed.neurons.surrogates import surrogate as parse_surrogate


@dataclass(frozen=True, kw_only=True)
class LIFParameters:
    """Which LIF equation, with which numbers. Hashable and picklable.

    Attributes:
        kind: ``"hard"`` = reset to 0 through the factor (1 - o) (DTSNN, FSD); ``"soft"`` = subtract the threshold
            (V-SNN, BNTT).
        decay: part of the membrane potential kept from one step to the next, in [0, 1]; 1 = no leak (IF).
        v_threshold: firing threshold theta, > 0, in units of the input current.
        strict: fire at ``u > theta`` (True) or at ``u >= theta`` (False; eq. (2) of FSD's text, SpikingJelly).
        surrogate: object or text such as ``"atan:alpha=2"``; stands for d(spike)/du in backward.
        detach_reset: no gradient flows through the reset term (V-SNN's public code does this).
        gain: the input current is multiplied by this (SpikingJelly's ``decay_input`` is gain = 1 / tau).
        start: potential before the first step, as a share of the threshold, in [0, 1]; 1/2 in networks that were
            converted, whose spike counts are then rounded instead of cut off (Bu et al., ICLR 2022).
    """

    kind: Literal["hard", "soft"] = "hard"
    decay: float
    v_threshold: float
    strict: bool = True
    surrogate: Surrogate = field(default_factory=Rectangle)
    detach_reset: bool = False
    gain: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "surrogate", parse_surrogate(self.surrogate))
        if self.kind not in ("hard", "soft"):
            raise ConfigError(
                f"neuron kind is '{self.kind}'; use 'hard' (reset to 0) or 'soft' (subtract the threshold)"
            )
        if not 0.0 <= self.decay <= 1.0:
            raise ConfigError(
                f"neuron decay is {self.decay}; it is the kept part of the potential, so choose it in [0, 1]"
            )
        if not (math.isfinite(self.v_threshold) and self.v_threshold > 0):
            raise ConfigError(f"neuron v_threshold is {self.v_threshold}; it must be a positive finite number")
        if not math.isfinite(self.gain):
            raise ConfigError(f"neuron gain is {self.gain}; it must be a finite number")
        if not 0.0 <= self.start <= 1.0:
            raise ConfigError(f"neuron start is {self.start}; it is a share of the threshold, so choose it in [0, 1]")
