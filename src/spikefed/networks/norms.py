"""Parameters and running statistics of the three normalisations; the arithmetic lives in `spikefed.neurons.norm_lif`.

========  ============================================  =======================================================
name      statistics over                               learnt
========  ============================================  =======================================================
``bn``    batch, positions and all time steps           scale and shift per channel (Ioffe and Szegedy 2015)
``tdbn``  as ``bn``, output times ``alpha * v_th``      scale and shift per channel (Zheng et al. 2021, eq. 6-8)
``bntt``  batch and positions, each time step alone     scale per time step and channel (Kim and Panda 2021)
========  ============================================  =======================================================
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError

Mode = Literal["bn", "tdbn", "bntt"]
NORMS = ("none", "bn", "tdbn", "bntt")
"""Normalisations by the name that a config uses."""


class Norm(nn.Module):
    """Batch statistics with an affine map, shared by all time steps or one set per time step.

    Args:
        mode: ``bn``, ``tdbn`` or ``bntt``.
        channels: C, size of dimension 2 of ``[T, B, C, ...]``.
        steps: T for one set of tensors per time step (``[T, C]``), None for one shared set (``[C]``).
        shift: learn an additive term too.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.
        warm_up: while fewer than 1 / momentum batches were seen, the running statistics are their plain mean, as
            torch's ``momentum=None``. Federated clients train few steps from fresh statistics, and in eval mode a
            spiking layer whose statistics are half way from their initial values is silent.
        alpha: factor of tdBN (1; ``1 / sqrt(2)`` in a residual branch); unused by the others.
    """

    weight: Tensor
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        mode: Mode,
        channels: int,
        *,
        steps: int | None = None,
        shift: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        warm_up: bool = False,
        alpha: float = 1.0,
    ) -> None:
        super().__init__()
        self.mode: Mode = mode
        self.channels, self.steps, self.eps, self.momentum, self.alpha = channels, steps, eps, momentum, alpha
        self.warm_up = warm_up
        shape = (channels,) if steps is None else (steps, channels)
        self.weight = nn.Parameter(torch.ones(shape))
        self.register_parameter("bias", nn.Parameter(torch.zeros(shape)) if shift else None)
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.register_buffer("num_batches_tracked", torch.zeros(shape[:-1], dtype=torch.int64))

    def next_momentum(self) -> float:
        """Count a training batch (all its time steps at once) and return its weight in the running statistics."""
        if not self.training:
            return self.momentum
        self.num_batches_tracked.add_(1)
        return max(self.momentum, 1 / int(self.num_batches_tracked.max())) if self.warm_up else self.momentum

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError when a per-step norm is asked to run another number of steps than it was built for."""
        if self.steps is not None and steps != self.steps:
            raise ConfigError(
                f"bntt was built for {self.steps} time steps and cannot run {steps}; "
                f"set steps = {self.steps} or build the network again with norm 'bn' or 'tdbn'"
            )

    def extra_repr(self) -> str:
        """Sizes and constants, for ``print(net)``."""
        return f"{self.mode}, {self.channels}, steps={self.steps}, eps={self.eps}, momentum={self.momentum}"


def make_norm(name: str, channels: int, *, steps: int) -> Norm | None:
    """Build the normalisation called ``name`` (one of `NORMS`); None for ``none``.

    ``bn`` and ``tdbn`` warm up their statistics. ``bntt`` follows Kim and Panda's released network: eps 1e-4,
    momentum 0.1, scale only, no warm-up.

    Raises:
        ConfigError: the name is not known.
    """
    if name == "none":
        return None
    if name in ("bn", "tdbn"):
        return Norm(name, channels, warm_up=True)
    if name == "bntt":
        return Norm("bntt", channels, steps=steps, shift=False, eps=1e-4)
    raise ConfigError(f"norm '{name}' is not known; use one of {', '.join(NORMS)}")
