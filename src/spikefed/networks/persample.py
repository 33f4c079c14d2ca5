"""Squared norms of every sample's own gradient, for any number of backward passes through one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.layers import PassLayer, SpikingLayer
from spikefed.networks.monitor import device_of, in_eval_mode
from spikefed.networks.network import ANNNetwork, SpikingNetwork
from spikefed.networks.relutaps import ReLUTap, rectified, tap_all, untap
from spikefed.networks.sampleforms import OWN, LayerForms, parameter
from spikefed.networks.taps import Prefix, Tap
from spikefed.networks.thresholds import learns_thresholds

KINDS = (SpikingLayer, PassLayer)
"""Layers as they are: a class made from them may do something else with its weights."""


class PerSample(Protocol):
    """One forward pass, then as many backward passes as wanted."""

    def outputs(self, x: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "T B C"]:
        """The network's outputs in eval mode; they hold no graph."""
        ...

    def squared_norms(self, upstream: Float[Tensor, "T B C"], steps: int) -> dict[str, Float[Tensor, " B"]]:
        """Of each trainable parameter's gradient, a sample each, float64, by the parameter's name.

        Args:
            upstream: gradient of each sample's own scalar with respect to its outputs; 0 after the first ``steps``.
            steps: from 1 to T.
        """
        ...


def unknown_parameters(net: nn.Module) -> list[str]:
    """Trainable parameters for which there is no closed form here."""
    if not isinstance(net, SpikingNetwork) or learns_thresholds(net):
        return [name for name, p in net.named_parameters() if p.requires_grad]
    known = [p for _, layer in _layers(net) for key in OWN if (p := parameter(layer, key)) is not None]
    times = [id(p) for p in known]
    return [name for name, p in net.named_parameters() if p.requires_grad and times.count(id(p)) != 1]


@contextmanager
def per_sample(net: nn.Module, loop: bool = False) -> Iterator[PerSample]:
    """Ways to the gradients' norms of a network while the context is open: closed forms, else a loop.

    Args:
        net: is in eval mode inside, in float32, and afterwards as it was.
        loop: one sample at a time whatever the network; otherwise only where closed forms are missing.
    """
    precision = getattr(net, "precision", "float32")
    with in_eval_mode(net):
        try:
            if isinstance(net, SpikingNetwork):
                net.precision = "float32"
            if loop or unknown_parameters(net):
                yield SampleLoop(net)
            else:
                with tapped(net) as taps:
                    yield taps
        finally:
            if isinstance(net, SpikingNetwork):
                net.precision = precision


@contextmanager
def tapped(net: nn.Module) -> Iterator[SampleTaps]:
    """The layers' forward passes replaced by taps while the context is open; of an ANN twin their weighted sums."""
    prefix = Prefix()
    anchor = torch.zeros((), device=device_of(net), requires_grad=True)
    if isinstance(net, ANNNetwork):
        rows = tap_all(rectified(net))
        try:
            yield SampleTaps(net, rows, prefix, anchor)
        finally:
            untap(rows)
        return
    taps = [Tap(name, layer, prefix, anchor) for name, layer in _layers(net)]
    for tap in taps:
        tap.layer.tap = tap
    try:
        yield SampleTaps(net, taps, prefix, anchor)
    finally:
        for tap in taps:
            del tap.layer.tap


class SampleLoop:
    """One sample at a time: the definition, for any network."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._named = {name: p for name, p in net.named_parameters() if p.requires_grad}
        self._outputs: list[Tensor] = []

    def outputs(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `PerSample`: ``[T, B, C]``."""
        with torch.enable_grad():
            self._outputs = [self._net(x[n : n + 1], generator=generator) for n in range(len(x))]
        return torch.cat(self._outputs, dim=1).detach()

    def squared_norms(self, upstream: Tensor, steps: int) -> dict[str, Tensor]:
        """See `PerSample`: float64 ``[B]`` a parameter."""
        found = {name: torch.zeros(len(self._outputs), dtype=torch.float64) for name in self._named}
        for n, output in enumerate(self._outputs):
            come = upstream[:, n : n + 1]
            grads = torch.autograd.grad(output, list(self._named.values()), come, retain_graph=True, allow_unused=True)
            for name, grad in zip(self._named, grads, strict=True):
                found[name][n] = 0.0 if grad is None else grad.double().square().sum()
        return found


class SampleTaps:
    """All samples at once, by closed forms."""

    def __init__(self, net: nn.Module, taps: Sequence[Tap | ReLUTap], prefix: Prefix, anchor: Tensor) -> None:
        self._net = net
        self._forms = [LayerForms(tap) for tap in taps]
        self._prefix = prefix
        self._anchor = anchor
        self._outputs = torch.empty(0)

    def outputs(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `PerSample`: ``[T, B, C]``."""
        for form in self._forms:
            form.forget()
        with torch.enable_grad():
            self._outputs = self._net(x, generator=generator)
        return self._outputs.detach()

    def squared_norms(self, upstream: Tensor, steps: int) -> dict[str, Tensor]:
        """See `PerSample`: float64 ``[B]`` a parameter."""
        self._prefix.steps = steps
        for form in self._forms:
            for call in form.tap.calls:
                call.gradient = None
        torch.autograd.grad(self._outputs, self._anchor, upstream, retain_graph=True, allow_unused=True)
        batch = upstream.shape[1]
        return {name: norms for form in self._forms for name, norms in form.squared_norms(batch).items()}

    def follow(self, steps: int) -> None:
        """Before a pass that somebody else takes, back from the first ``steps``: nothing of an earlier one stays."""
        self._prefix.steps = steps
        for form in self._forms:
            form.forget()

    def clipped(self, batch: int, clip: float) -> dict[str, Tensor]:
        """After such a pass, of a mean over samples: the sum of their gradients, each cut down to norm ``clip``.

        Args:
            batch: samples.
            clip: C, over all trainable parameters together.

        Returns:
            by parameter name, of weights ``[Cout, Cin, K, K]`` or ``[Fout, Fin]`` and biases ``[Cout]``.

        Raises:
            ConfigError: layers were used a second time, by a method's own term.
        """
        if any(sum(call.steps for call in form.tap.calls) > self._prefix.steps for form in self._forms):
            raise ConfigError(
                "gradients of single samples need one forward pass a step, and a term of the method ran the network "
                "again; leave that term out"
            )
        norms = [norm for form in self._forms for norm in form.squared_norms(batch).values()]
        whole = batch * torch.stack(norms).sum(0).sqrt()  # the mean divided every gradient by the batch
        shares = batch * (clip / whole.clamp_min(clip))
        return {name: total for form in self._forms for name, total in form.weighted(shares).items()}


def _layers(net: nn.Module) -> list[tuple[str, SpikingLayer | PassLayer]]:
    return [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, SpikingLayer | PassLayer) and type(module) in KINDS
    ]
