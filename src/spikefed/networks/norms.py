"""Parameters and running statistics of the normalisations; the arithmetic lives in `spikefed.neurons.norm_lif`.

===========  ============================================  =======================================================
name         statistics over                               learnt
===========  ============================================  =======================================================
``bn``       batch, positions and all time steps           scale and shift per channel (Ioffe and Szegedy 2015)
``tdbn``     as ``bn``, output times ``alpha * v_th``      scale and shift per channel (Zheng et al. 2021, eq. 6-8)
``bntt``     batch and positions, each time step alone     scale per time step and channel (Kim and Panda 2021)
``bn-step``  batch and positions, each time step alone     scale and shift per channel, as where one BatchNorm is
                                                           called at every step; so are its running statistics
===========  ============================================  =======================================================
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.roles import FROZEN, Role

Mode = Literal["bn", "tdbn", "bntt", "bn-step"]
NORMS = ("none", "bn", "tdbn", "bntt", "bn-step")
"""Normalisations by the name that a config uses."""


class Norm(nn.Module):
    """Batch statistics with an affine map, shared by all time steps or one set per time step.

    Args:
        mode: ``bn``, ``tdbn``, ``bntt`` or ``bn-step``.
        channels: C, size of dimension 2 of ``[T, B, C, ...]``.
        steps: T for one set of tensors per time step (``[T, C]``), None for one shared set (``[C]``).
        shift: learn an additive term too.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.
        warm_up: while fewer than 1 / momentum batches were seen, the running statistics are their plain mean, as
            torch's ``momentum=None``. Federated clients train few steps from fresh statistics, and in eval mode a
            spiking layer whose statistics are half way from their initial values is silent.
        alpha: factor of tdBN (1; ``1 / sqrt(2)`` in a residual branch); unused by the others.
        theta: threshold that tdBN scales to where its neurons stand elsewhere, behind a sum.

    Attributes:
        role: of all its tensors, where they are frozen or of one task; None: those of a normalisation.
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
        theta: float = 1.0,
    ) -> None:
        super().__init__()
        self.mode: Mode = mode
        self.channels = channels
        self.steps = steps
        self.eps = eps
        self.momentum = momentum
        self.alpha = alpha
        self.warm_up = warm_up
        self.theta = theta
        self.role: Role | None = None
        shape = (channels,) if steps is None else (steps, channels)
        self.weight = nn.Parameter(torch.ones(shape))
        self.register_parameter("bias", nn.Parameter(torch.zeros(shape)) if shift else None)
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.register_buffer("num_batches_tracked", torch.zeros(shape[:-1], dtype=torch.int64))

    def tensor_roles(self) -> dict[str, Role]:
        """`role` of all tensors, where it is set: frozen, or of one task."""
        return {} if self.role is None else dict.fromkeys(self.state_dict(), self.role)

    def train(self, mode: bool = True) -> Norm:
        """As any module, but for frozen statistics, which no training moves."""
        return super().train(mode and self.role != FROZEN)

    def next_momentum(self, step: int | None = None) -> float:
        """Count a training batch and return its weight in the running statistics.

        Args:
            step: the time step that the batch is of, where steps have tensors of their own; None for all at once.
        """
        if not self.training:
            return self.momentum
        counted = self.num_batches_tracked if step is None else self.num_batches_tracked[step]
        counted.add_(1)
        return (
            max(self.momentum, 1 / int(counted.max() if counted.dim() else counted)) if self.warm_up else self.momentum
        )

    def options(self, steps: int) -> dict[str, Any]:
        """Arguments of `norm_lif` and `normalise` for the next batch of all T steps, which is counted.

        Raises:
            ConfigError: BNTT built for another T.
        """
        self.check_steps(steps)
        return {
            "norm": self.mode,
            "weight": self.weight,
            "bias": self.bias,
            "running_mean": self.running_mean,
            "running_var": self.running_var,
            "training": self.training,
            "momentum": [self.next_momentum() for _ in range(steps)]
            if self.mode == "bn-step"
            else self.next_momentum(),
            "eps": self.eps,
        }

    def options_at(self, step: int) -> dict[str, Any]:
        """Arguments for a single time step, which has statistics of its own whatever the norm.

        Raises:
            ConfigError: BNTT built for fewer steps.
        """
        shared = self.steps is None
        if self.steps is not None and step >= self.steps:
            self.check_steps(step + 1)

        def own(tensor: Tensor | None) -> Tensor | None:
            return tensor if shared or tensor is None else tensor[step]

        return {
            "norm": "tdbn" if self.mode == "tdbn" else "bn",
            "weight": own(self.weight),
            "bias": own(self.bias),
            "running_mean": own(self.running_mean),
            "running_var": own(self.running_var),
            "training": self.training,
            "momentum": self.next_momentum(None if shared else step),
            "eps": self.eps,
        }

    def scale(self) -> float:
        """What `normalise` multiplies with: alpha * theta of tdBN, 1 of the others."""
        return self.alpha * self.theta if self.mode == "tdbn" else 1.0

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


def make_norm(name: str, channels: int, *, steps: int, alpha: float = 1.0, theta: float = 1.0) -> Norm | None:
    """Build the normalisation called ``name`` (one of `NORMS`); None for ``none``. ``alpha`` and ``theta`` are tdBN's.

    ``bn``, ``tdbn`` and ``bn-step`` warm up their statistics. ``bntt`` follows Kim and Panda's released network:
    eps 1e-4, momentum 0.1, scale only, no warm-up.

    Args:
        name: one of `NORMS`.
        channels: C of the layer.
        steps: T.
        alpha: tdBN's scale.
        theta: tdBN's threshold.

    Raises:
        ConfigError: the name is not known.
    """
    if name == "none":
        return None
    if name in ("bn", "tdbn", "bn-step"):
        return Norm(name, channels, warm_up=True, alpha=alpha, theta=theta)
    if name == "bntt":
        return Norm("bntt", channels, steps=steps, shift=False, eps=1e-4)
    raise ConfigError(f"norm '{name}' is not known; use one of {', '.join(NORMS)}")
