"""Every spike of a network by layer, image, step and neuron, seen from hooks; what a pool would average is seen before.

A layer of this package pools its own spikes: while it is watched the pool is taken out of it and put behind the hook,
so each neuron is counted and the outputs stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import PassLayer, Pool, SpikingLayer
from spikefed.networks.monitor import device_of, spikes
from spikefed.probes.contract import ProbeContext, Subject

BATCH = 250
"""Images at a time, as when a run measures its network: the input coding then draws the same."""

See = Callable[[str, Tensor, slice], None]
"""Called with a layer's name, its spikes, bool ``[T, B, neurons]``, and the rows of the subject that they are of."""


class SpikeWatch:
    """Hands every layer's spikes of a batch to ``see`` while a ``with`` block runs.

    Args:
        net: the network.
        see: called once a layer and batch.

    Raises:
        ConfigError: the network has no layer that spikes.
    """

    def __init__(self, net: nn.Module, see: See) -> None:
        self._layers = {name: module for name, module in net.named_modules() if spikes(module)}
        if not self._layers:
            kind = str(getattr(net, "name", type(net).__name__))
            raise ConfigError(f"network {kind} has no layer that spikes, so there are no spikes to count")
        self._steps = int(getattr(net, "steps", 1))
        self._see = see
        self._rows = slice(0, 0)
        self._calls: dict[str, list[Tensor]] = {}
        self._pooled: list[SpikingLayer | PassLayer] = []
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> SpikeWatch:
        for name, layer in self._layers.items():
            pool = None
            if isinstance(layer, SpikingLayer | PassLayer) and layer.plan.pool:
                pool = layer.plan.window
                layer.plan = replace(layer.plan, pool=False)
                self._pooled.append(layer)
            self._hooks.append(layer.register_forward_hook(self._hook(name, pool)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        for layer in self._pooled:
            layer.plan = replace(layer.plan, pool=True)

    def outputs(self, net: nn.Module, x: Tensor, row: int, generator: torch.Generator) -> Tensor:
        """The network's outputs on a batch that begins at a row, ``[T, B, C]``; on the way every layer is seen.

        Args:
            net: the network watched.
            x: batch ``[B, C, H, W]``.
            row: number of its first image.
            generator: draws of the encoding.
        """
        self._rows = slice(row, row + len(x))
        out = net(x, generator=generator)
        for name, calls in self._calls.items():
            self._see(name, by_step(name, calls, self._steps, len(x)), self._rows)
        self._calls = {}
        return out

    def _hook(self, name: str, pool: Pool | None) -> Callable[[nn.Module, object, object], object]:
        def hook(module: nn.Module, given: object, out: object) -> object:
            value = out[0] if isinstance(out, tuple) else out
            assert isinstance(value, Tensor)
            fired = value.detach() != 0
            batch = self._rows.stop - self._rows.start
            if name not in self._calls and len(fired) == self._steps * batch:  # all steps at once: need not be kept
                self._see(name, by_step(name, [fired], self._steps, batch), self._rows)
            else:
                self._calls.setdefault(name, []).append(fired)
            if pool is None:
                return None
            return (pool(value), *out[1:]) if isinstance(out, tuple) else pool(value)  # in a loop the potential too

        return hook


def by_step(name: str, calls: list[Tensor], steps: int, batch: int) -> Tensor:
    """A layer's outputs as ``[T, B, neurons]``.

    Args:
        name: of the layer, for the error.
        calls: what it gave in one batch: ``[T, B, ...]`` or ``[T*B, ...]`` in a call, or ``[B, ...]`` in one of T; a
            module that is used k times over gives k times as many, and has k times the neurons.
        steps, batch: T and B.

    Raises:
        ConfigError: the calls make no whole steps.
    """
    if all(call.shape[:2] == (steps, batch) or len(call) == steps * batch for call in calls):
        return torch.cat([call.reshape(steps, batch, -1) for call in calls], dim=2)
    if len(calls) % steps == 0 and all(len(call) == batch for call in calls):
        one_by_one = torch.stack([call.reshape(batch, -1) for call in calls])
        return one_by_one.unflatten(0, (steps, -1)).transpose(1, 2).flatten(2)
    raise ConfigError(
        f"layer '{name}' gave outputs of shape {tuple(calls[0].shape)} in {len(calls)} calls, which do not split into "
        f"{steps} time steps of {batch} images; wrap the network with its own number of steps"
    )


def watched(net: nn.Module, subject: Subject, ctx: ProbeContext, see: See) -> Iterator[tuple[slice, Tensor]]:
    """Rows of each batch and the network's outputs on them ``[T, B, C]``, after ``see`` had every layer's spikes.

    Args:
        net: the network watched.
        subject: images and labels.
        ctx: randomness, batch size and progress.
        see: called with every layer's spikes.

    Raises:
        ConfigError: the network has no layer that spikes.
    """
    device = device_of(net)
    net.train(ctx.train_bn)
    with torch.no_grad(), SpikeWatch(net, see) as watch:
        for row, x, _ in subject.batches(BATCH):
            yield slice(row, row + len(x)), watch.outputs(net, x.to(device), row, ctx.generator)
            ctx.progress(row + len(x), len(subject), "images")
