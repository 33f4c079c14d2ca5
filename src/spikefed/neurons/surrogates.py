"""Surrogate gradients: what replaces the derivative of the spike's step function in the backward pass.

A surrogate is a frozen, picklable dataclass. ``grad(x)`` is *exactly* the number that backward uses for d(spike)/dx,
and ``smooth(x)`` is the function of which it is the derivative (tests take finite differences of it). ``x`` is the
distance from the threshold: ``u - theta`` for the hard-reset neuron, ``u / theta - 1`` for the soft-reset one (each
neuron's docstring says which).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikefed.errors import ConfigError


@dataclass(frozen=True)
class Surrogate:
    """Base of the surrogates.

    ``support`` is the half width outside which ``grad`` is exactly 0 (infinite if it never is).
    """

    name: ClassVar[str] = ""
    code: ClassVar[int] = -1  # number the native kernels know this shape by

    @property
    def support(self) -> float:
        """Half width of the window outside which the gradient is exactly zero; ``inf`` if there is none."""
        return math.inf

    def grad(self, x: Tensor) -> Tensor:
        """d(spike)/dx at distance ``x`` from the threshold, any shape, same shape and dtype out."""
        raise NotImplementedError

    def smooth(self, x: Tensor) -> Tensor:
        """The function whose derivative ``grad`` is (a smoothed step). Elementwise: the shape stays."""
        raise NotImplementedError

    def constants(self) -> tuple[float, float]:
        """The two numbers a native kernel needs: (a, b), see each surrogate."""
        raise NotImplementedError

    def __str__(self) -> str:
        values = ",".join(
            f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) is not None
        )
        return f"{self.name}:{values}" if values else self.name


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """Rectangular window (Wu et al., AAAI 2019, eq. of h_1): grad = height for |x| < width / 2, else 0.

    ``height=None`` means ``1 / width`` (area 1).
    The default is the public STBP code's: half width 0.5 and height 1.
    """

    width: float = 1.0
    height: float | None = None

    name: ClassVar[str] = "rectangle"
    code: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _positive("rectangle", width=self.width, height=self.peak)

    @property
    def peak(self) -> float:
        """Height of the window."""
        return 1.0 / self.width if self.height is None else self.height

    @property
    def support(self) -> float:
        return self.width / 2

    def grad(self, x: Tensor) -> Tensor:
        return (x.abs() < self.width / 2).to(x.dtype) * self.peak

    def smooth(self, x: Tensor) -> Tensor:
        return x.clamp(-self.width / 2, self.width / 2) * self.peak

    def constants(self) -> tuple[float, float]:
        return self.width / 2, self.peak


@dataclass(frozen=True)
class Triangle(Surrogate):
    """Triangle (BNTT, Kim & Panda 2021; V-SNN, Venkatesha et al. 2021): grad = gamma * max(0, 1 - |x| / width)."""

    gamma: float = 0.3
    width: float = 1.0

    name: ClassVar[str] = "triangle"
    code: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _positive("triangle", gamma=self.gamma, width=self.width)

    @property
    def support(self) -> float:
        return self.width

    def grad(self, x: Tensor) -> Tensor:
        return (1 - x.abs() / self.width).clamp(min=0) * self.gamma

    def smooth(self, x: Tensor) -> Tensor:
        inside = x.clamp(-self.width, self.width)
        return self.gamma * (inside - inside * inside.abs() / (2 * self.width))

    def constants(self) -> tuple[float, float]:
        return self.width, self.gamma


@dataclass(frozen=True)
class ATan(Surrogate):
    """Arctangent (Fang et al., ICCV 2021; SpikingJelly's default): grad = (alpha / 2) / (1 + (pi / 2 * alpha *
    x)^2).
    """

    alpha: float = 2.0

    name: ClassVar[str] = "atan"
    code: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _positive("atan", alpha=self.alpha)

    def grad(self, x: Tensor) -> Tensor:
        scaled = (math.pi / 2 * self.alpha) * x
        return (self.alpha / 2) / (1 + scaled * scaled)

    def smooth(self, x: Tensor) -> Tensor:
        return torch.atan((math.pi / 2 * self.alpha) * x) / math.pi + 0.5

    def constants(self) -> tuple[float, float]:
        return math.pi / 2 * self.alpha, self.alpha / 2


SURROGATES: dict[str, type[Surrogate]] = {"rectangle": Rectangle, "triangle": Triangle, "atan": ATan, "arctan": ATan}


def surrogate(text: str | Surrogate) -> Surrogate:
    """Make a surrogate from text such as ``"rectangle"``, ``"atan:alpha=2"`` or ``"triangle:gamma=0.3,width=1"``.

    A surrogate object passes through unchanged, and ``surrogate(str(s)) == s``.

    Raises:
        ConfigError: unknown name, unknown parameter, or a value that is no positive number.
    """
    if isinstance(text, Surrogate):
        return text
    name, _, rest = text.strip().partition(":")
    if name not in SURROGATES:
        raise ConfigError(f"unknown surrogate '{name}' in '{text}'; use one of {', '.join(sorted(SURROGATES))}")
    kind = SURROGATES[name]
    known = {f.name for f in dataclasses.fields(kind)}
    values: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        key, _, value = part.partition("=")
        if key not in known:
            raise ConfigError(
                f"surrogate '{name}' has no parameter '{key}' (in '{text}'); use {', '.join(sorted(known))}"
            )
        try:
            values[key] = float(value)
        except ValueError:
            raise ConfigError(
                f"parameter '{key}' in surrogate '{text}' is no number; write for example {key}=1.0"
            ) from None
    return kind(**values)


def _positive(name: str, **values: float) -> None:
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"parameter '{key}' of surrogate '{name}' is {value}; it must be a positive finite number"
            )
