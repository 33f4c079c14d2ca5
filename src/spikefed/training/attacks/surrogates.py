"""Other surrogates in the neurons of a network for the time of an attack: the spikes stay, the gradients change.

Attacks through one fixed surrogate overstate robustness; which one is best depends on the network (Oezdenizci and
Legenstein, TMLR 2024; "adaptive sharpness": arXiv 2512.22522).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.neurons import LIF, ATan, LIFParameters, Rectangle, Surrogate, Triangle, surrogate

WIDTHS = {"narrow": 0.5, "wide": 2.0, "wider": 4.0}
"""The network's own surrogate at other widths."""

NAMES = ("own", *WIDTHS, "straight", "adaptive")

OMEGA = 1.0
"""Sharpness of the adaptive surrogate times the mean distance from the threshold."""


def scaled(shape: Surrogate, factor: float) -> Surrogate:
    """The surrogate with its width times a factor, its height as it was.

    Raises:
        ConfigError: one of the user's own, whose width is not known here.
    """
    if isinstance(shape, Rectangle):
        return Rectangle(shape.width * factor, shape.peak)
    if isinstance(shape, Triangle):
        return replace(shape, width=shape.width * factor)
    if isinstance(shape, ATan):
        return ATan(shape.alpha / factor)
    raise ConfigError(f"surrogate {type(shape).__name__} has no width that is known here; attack with 'own'")


STRAIGHT = Rectangle(width=1e30, height=1.0)
"""Straight through: the gradient passes a spike as it is, wherever the potential stands."""


@dataclass(frozen=True, eq=False)
class Adaptive(Surrogate):
    """ATan whose sharpness is omega over the mean distance from the threshold, of each neuron, step and image.

    The mean runs over the steps of the attack, so a neuron that stays far from its threshold still passes a gradient,
    and one that is near passes a sharp one. It remembers: one for each layer and batch, and of a batch each group of
    images that go through the network together (`turn_to`).

    Attributes:
        steps: T of the network.
        omega: sharpness times mean distance.
        memories: of each group.
        turn: ``group``: which of them is seen now.
    """

    steps: int
    omega: float = OMEGA
    memories: dict[int, dict[str, Any]] = field(default_factory=dict, repr=False)
    turn: dict[str, int] = field(default_factory=dict, repr=False)

    name: ClassVar[str] = "adaptive"

    @property
    def memory(self) -> dict[str, Any]:
        """Of the group that is seen now."""
        return self.memories.setdefault(self.turn.get("group", 0), {})

    def grad(self, x: Tensor) -> Tensor:
        """Called once a time step, the last first: so backward goes. The shape stays."""
        calls = self.memory.setdefault("calls", 0)
        self.memory["calls"] = calls + 1
        place = calls % self.steps
        seen = calls // self.steps
        known: dict[int, Tensor] = self.memory.setdefault("means", {})
        now = x.detach().abs()
        before = known.get(place)
        if before is None or before.shape != now.shape:
            known[place] = now.clone()
        else:
            before.lerp_(now, 1 / (seen + 1))
        return ATan.grad(_Sharp(self.omega / known[place].clamp_min(1e-3)), x)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Sharp:
    """What `ATan.grad` reads, a number for each neuron."""

    alpha: Tensor


def neurons(net: nn.Module) -> dict[nn.Module, str]:
    """Modules with a LIF of this package, and the attribute that holds its numbers."""
    found: dict[nn.Module, str] = {}
    for module in net.modules():
        if isinstance(getattr(module, "neuron", None), LIFParameters):
            found[module] = "neuron"
        elif isinstance(module, LIF):
            found[module] = "parameters_"
    return found


def choice(name: str, own: Surrogate, steps: int) -> Surrogate:
    """A surrogate by a name of `NAMES`, or by its text (``atan:alpha=2``).

    Raises:
        ConfigError: no such surrogate.
    """
    if name in WIDTHS:
        return scaled(own, WIDTHS[name])
    if name == "adaptive":
        return Adaptive(steps)
    if name == "straight":
        return STRAIGHT
    try:
        return surrogate(name)
    except ConfigError as error:
        if ":" in name:
            raise
        raise ConfigError(f"{error}, or of {', '.join(NAMES)}") from error


@contextmanager
def through(net: nn.Module, name: str) -> Iterator[None]:
    """Gradients by another surrogate inside; ``own`` changes nothing.

    Raises:
        ConfigError: no such surrogate, or no neuron here that could take one.
    """
    found = neurons(net) if name != "own" else {}
    if name != "own" and not found:
        raise ConfigError(
            f"surrogate '{name}' needs neurons of this package, and the network has none; set surrogates = ['own']"
        )
    before = {module: getattr(module, attribute) for module, attribute in found.items()}
    steps = int(getattr(net, "steps", 1))
    try:
        for module, attribute in found.items():
            chosen = choice(name, before[module].surrogate, steps)
            setattr(module, attribute, replace(before[module], surrogate=chosen))
        yield
    finally:
        for module, attribute in found.items():
            setattr(module, attribute, before[module])


def turn_to(net: nn.Module, group: int) -> None:
    """From now on surrogates that remember see this group of images, and keep it apart from the others."""
    shapes = [getattr(module, attribute).surrogate for module, attribute in neurons(net).items()]
    for shape in shapes:
        if isinstance(shape, Adaptive):
            shape.turn["group"] = group
