"""Whether a network that was drawn fits into this machine, asked before its tensors are made."""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import prod

from spikefed.errors import ConfigError
from spikefed.networks.layout import LayerPlan

NUMBER_BYTES = 4
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def check_memory(name: str, plans: Iterable[LayerPlan], norm: str, steps: int) -> None:
    """Refuse a network whose weights and their gradients are more than this machine's memory.

    Args:
        name: as it was typed.
        plans: of all layers.
        norm: ``bntt`` has tensors for every step.
        steps: T.

    Raises:
        ConfigError: what it would need, and what there is.
    """
    sets = 4 * (steps if norm == "bntt" else 1)  # scale, shift, mean and variance of each channel
    numbers = sum(_weights(plan) + sets * plan.map_shape[0] for plan in plans)
    needed = 2 * NUMBER_BYTES * numbers
    there = machine_bytes()
    if there is not None and needed > there:
        raise ConfigError(
            f"network '{name}' would have {numbers:,} weights, which with their gradients take {in_words(needed)} of "
            f"memory, and this machine has {in_words(there)}; make it narrower, or give fewer classes or time steps"
        )


def machine_bytes() -> int | None:
    """Memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def in_words(count_bytes: float) -> str:
    """A number of bytes as people say it.

    >>> in_words(36_000_000_000_000), in_words(950)
    ('36.0 TB', '950 bytes')
    """
    power = 0
    while count_bytes >= 1000 and power < len(UNITS) - 1:
        count_bytes /= 1000
        power += 1
    return f"{count_bytes:,.1f} {UNITS[power]}" if power else f"{count_bytes:,.0f} bytes"


def _weights(plan: LayerPlan) -> int:
    if plan.kind == "pass":
        return 0
    if plan.kind == "conv":
        return plan.map_shape[0] * plan.in_shape[0] * prod(plan.kernel_size)
    return plan.map_shape[0] * prod(plan.in_shape)
