"""From pixels to input currents or spikes.

Every encoder is a frozen, stateless object; randomness comes from the generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.errors import ConfigError


@dataclass(frozen=True)
class Direct:
    """The real-valued image is the current of every step (DTSNN's encoding layer); returned once, as ``[1, B,
    ...]``."""

    name: ClassVar[str] = "direct"

    def encode(
        self, x: Float[Tensor, " B *rest"], steps: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "1 B *rest"]:
        _check_steps(steps)
        return x.unsqueeze(0)


@dataclass(frozen=True)
class Bernoulli:
    """Spike with probability = pixel: o_t = 1[pixel > U(0, 1)] (public STBP and HDSFL code). Pixels in [0, 1]."""

    name: ClassVar[str] = "bernoulli"

    def encode(
        self, x: Float[Tensor, " B *rest"], steps: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        return (x.unsqueeze(0) > _uniform(x, steps, generator)).to(x.dtype)


@dataclass(frozen=True)
class SignedPoisson:
    """o_t = sign(x) * 1[2 U(0, 1) <= |x|], so firing probability |x| / 2 and spikes in {-1, 0, 1} (V-SNN).

    Pixels in [-1, 1].
    """

    name: ClassVar[str] = "poisson"

    def encode(
        self, x: Float[Tensor, " B *rest"], steps: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        return x.sign() * (2 * _uniform(x, steps, generator) <= x.abs()).to(x.dtype)


Encoder = Direct | Bernoulli | SignedPoisson
ENCODERS: dict[str, type[Direct] | type[Bernoulli] | type[SignedPoisson]] = {
    "direct": Direct,
    "bernoulli": Bernoulli,
    "poisson": SignedPoisson,
}


def encoder(name: str | Encoder) -> Encoder:
    """``"direct"``, ``"bernoulli"`` or ``"poisson"`` (signed); an encoder object passes through.

    Raises:
        ConfigError: unknown name.
    """
    if not isinstance(name, str):
        return name
    if name not in ENCODERS:
        raise ConfigError(f"unknown input coding '{name}'; use one of {', '.join(ENCODERS)}")
    return ENCODERS[name]()


def _uniform(x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
    _check_steps(steps)
    there = generator_at(x.device, generator)
    return torch.rand((steps, *x.shape), generator=there, dtype=x.dtype, device=x.device)


def generator_at(device: torch.device, generator: torch.Generator | None) -> torch.Generator | None:
    """The generator, or where tensors live elsewhere one of theirs that it seeds: no random number crosses the bus."""
    if generator is None or generator.device.type == device.type:
        return generator
    seed = int(torch.randint(0, 2**62, (), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"number of time steps is {steps}; it must be at least 1")
