"""What a layer's normalisation, neurons and pool are told, as two frozen values: how, and with which tensors."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from spikefed.neurons.parameters import LIFParameters


class NormState(NamedTuple):
    """What a normalisation learns and remembers; tensors as in `norm_lif`, None where it has none."""

    weight: Tensor | None = None
    bias: Tensor | None = None
    running_mean: Tensor | None = None
    running_var: Tensor | None = None


class Firing(NamedTuple):
    """How a layer normalises and fires; numbers as in `norm_lif`."""

    p: LIFParameters
    steps: int
    norm: str = "none"
    training: bool = True
    eps: float = 1e-5
    alpha: float = 1.0
    pool: bool = False
    repeat: bool = False

    @property
    def scale(self) -> float:
        """tdBN's alpha * theta, 1 for the others."""
        return self.alpha * self.p.v_threshold if self.norm == "tdbn" else 1.0

    def by_batch(self, state: NormState) -> bool:
        """Whether the statistics are those of the batch."""
        return self.norm != "none" and (self.training or state.running_mean is None)
