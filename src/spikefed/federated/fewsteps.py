"""Networks on their first time steps alone, which costs that much less: rehearsal, tickets, short messages.

A network of neurons is causal: its outputs at the first steps are those that it gives when it runs for no more.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import Norm, WrappedNetwork


@contextmanager
def first_steps(net: nn.Module, steps: int) -> Generator[None, None, None]:
    """Inside, the network runs for its first ``steps`` time steps alone; 0: for all."""
    if not steps:
        yield
        return
    every = net.steps
    net.steps = steps  # type: ignore[assignment]
    try:
        yield
    finally:
        net.steps = every


def check_steps(net: nn.Module, steps: int) -> None:
    """Refuse `rehearse_steps` that a network cannot run for; 0 suits all.

    Raises:
        ConfigError: the network has fewer, or a normalisation with tensors for each step (BNTT), or makes its steps
            itself.
    """
    every = getattr(net, "steps", 1)
    if steps > every:
        raise ConfigError(
            f"method.rehearse_steps = {steps} is more than network.steps = {every}; set it lower, or to 0 for all"
        )
    if 0 < steps < every and any(module.steps for module in net.modules() if isinstance(module, Norm)):
        raise ConfigError(
            f"method.rehearse_steps = {steps} does not go with norm 'bntt', which has weights for each of the "
            f"{every} steps; set network.norm = 'bn', or leave it out"
        )
    if 0 < steps < every and isinstance(net, WrappedNetwork) and net.mode == "images" and not net.timed:
        raise ConfigError(
            f"method.rehearse_steps = {steps} does not go with {net.name}, which takes whole images and makes its own "
            f"{every} steps; give a network that takes one step or [T, B, ...], or leave it out"
        )


def check_shorter(net: nn.Module) -> None:
    """Refuse a network whose steps cannot be changed.

    Raises:
        ConfigError: a normalisation of every step, or a network of one's own without ``steps``.
    """
    per_step = any(getattr(module, "steps", None) for module in net.modules() if module is not net)
    if not isinstance(getattr(net, "steps", None), int) or per_step:
        raise ConfigError(
            "early_time and sent_steps run fewer time steps, which this network does not allow (a normalisation of "
            "every step, or a network of your own without 'steps'); use norm 'bn' or 'tdbn', or early_time = false and "
            "sent_steps = 0"
        )


@contextmanager
def shortened(net: nn.Module, steps: int) -> Iterator[None]:
    """The network with other time steps, for a while.

    Raises:
        ConfigError: a network whose steps cannot be changed.
    """
    check_shorter(net)
    whole: Any = net.steps
    net.steps = steps  # type: ignore[assignment]
    try:
        yield
    finally:
        net.steps = whole  # type: ignore[assignment]


def cut_images(images: Tensor, steps: int) -> Tensor:
    """Of images that have steps of their own, ``[N, T, C, H, W]``, the first ``steps``; of others, and at 0, all."""
    return images[:, :steps] if steps and images.dim() == 5 else images
