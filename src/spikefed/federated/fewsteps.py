"""Rehearsal on the first time steps alone, which costs a client that much less (`rehearse_steps`).

A network of neurons is causal: its outputs at the first steps are those that it gives when it runs for no more.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn

from spikefed.errors import ConfigError
from spikefed.networks import Norm


@contextmanager
def first_steps(net: nn.Module, steps: int) -> Generator[None, None, None]:
    """Inside, the network runs for its first ``steps`` time steps alone; 0: for all."""
    every = net.steps if steps else 0
    if steps:
        net.steps = steps  # type: ignore[assignment]
    try:
        yield
    finally:
        if steps:
            net.steps = every


def check_steps(net: nn.Module, steps: int) -> None:
    """Refuse `rehearse_steps` that a network cannot run for; 0 suits all.

    Raises:
        ConfigError: the network has fewer, or a normalisation with tensors for each step (BNTT).
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
