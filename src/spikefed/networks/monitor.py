"""Firing rates by layer, seen from forward hooks: nothing enters the network's state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch
from torch import Tensor, nn

from spikefed.networks.layers import PassLayer, SpikingLayer
from spikefed.networks.roles import is_neuron
from spikefed.neurons import LIF


class FiringRateMonitor:
    """Counts spikes while the ``with`` block runs, on any number of batches.

    Rates are means over samples, time steps and neurons, in [0, 1]. A pooled layer is counted after its pool, where the
    mean is the same (an odd last row or column, which the pool drops, is not counted); before it, if it takes maxima.

    >>> from spikefed import networks
    >>> net = networks.build("small", input_shape=(1, 8, 8), classes=10, steps=4)
    >>> with FiringRateMonitor(net) as monitor:
    ...     spikes = net(torch.rand(2, 1, 8, 8))
    >>> all(0 <= rate <= 1 for rate in monitor.rates().values())
    True
    """

    def __init__(self, net: nn.Module) -> None:
        self._layers = {name: module for name, module in net.named_modules() if spikes(module)}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> FiringRateMonitor:
        for name, layer in self._layers.items():
            seen = spikes_of(layer)
            self._hooks.append(seen.register_forward_hook(lambda _m, _i, out, name=name: self._see(name, out)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _see(self, name: str, out: object) -> None:
        value = out[0] if isinstance(out, tuple) else out
        if isinstance(value, Tensor):
            total = value.detach().sum(dtype=torch.float64)
            self._sums[name] = self._sums[name] + total if name in self._sums else total
            self._counts[name] = self._counts.get(name, 0) + value.numel()

    def rates(self) -> dict[str, float]:
        """Firing rate by layer name, in the network's order; layers that never ran are left out."""
        return {name: float(self._sums[name]) / self._counts[name] for name in self._layers if name in self._sums}


def device_of(net: nn.Module) -> torch.device:
    """Where a network lives. Data stays on the host: batches go there, outputs come back."""
    first = next(net.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def firing_rates(net: nn.Module, x: Tensor, generator: torch.Generator | None = None) -> dict[str, float]:
    """Firing rates of all spiking layers on images ``x [B, C, H, W]``, in eval mode and without a gradient.

    Args:
        generator: source of the input coding's randomness, for networks that take one.

    Returns:
        layer name to rate in [0, 1]; empty for a network without spiking layers.
    """
    with in_eval_mode(net), torch.no_grad(), FiringRateMonitor(net) as monitor:
        x = x.to(device_of(net))
        net(x) if generator is None else net(x, generator=generator)
    return monitor.rates()


@contextmanager
def in_eval_mode(net: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every submodule is in the mode it was in."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def spikes_of(layer: nn.Module) -> nn.Module:
    """Where a layer's spikes are seen in full: its output, or what enters its pool if that takes maxima."""
    return getattr(layer, "fired", layer)


def spikes(module: nn.Module) -> bool:
    """True for a layer whose output is spikes: ours, or a neuron module of another library."""
    if isinstance(module, SpikingLayer | PassLayer):
        return module.neuron is not None
    return isinstance(module, LIF) or is_neuron(module)
