"""What each layer of a network does on real images: dense operations, input spikes, synaptic events, neuron updates."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.hardware.weights import events, sizes
from spikefed.networks import ANNNetwork, PassLayer, SpikingLayer, SpikingNetwork, WrappedNetwork
from spikefed.networks.layers import WeightedLayer
from spikefed.networks.monitor import device_of, in_eval_mode, spikes, spikes_of
from spikefed.neurons import LIF, Direct

POOLS = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d
)  # fmt: skip
MOST_POOLED = 4096
"""Of more values than these a mean is taken for a real number."""

InputKind = Literal["real", "spikes"]
"""``spikes``: 0, 1, -1, or means of pooled spikes, charged as additions; ``real``: anything else, charged as MACs."""


@dataclass(frozen=True)
class LayerCounts:
    """One layer, per image; numbers of events are means over the images.

    Attributes:
        name: of the layer in the network.
        kind: ``conv`` or ``linear``.
        input: what enters it.
        macs: F, multiply-accumulates of one time step: ``uses`` times O^2 C_in k^2 C_out, or in * out.
        passes: time steps in which the network as it is written applies the weights.
        constant: the same real values enter at every step (direct coding), so that one pass would do.
        inputs: values that enter in one time step.
        outputs: values of the map in one time step, before pooling.
        active: input values other than 0, all time steps together.
        events: weights that those touch (borders counted exactly), the synaptic operations.
        parameters: weights and biases.
        bias: has biases.
        in_channels, out_channels, groups, kernel, stride: of a convolution; 1s and features for linear.
        uses: how often a time step applies the weights: rows of a linear layer over tokens, calls of a shared one.
        neurons: spiking neurons behind it, 0 for none.
        updates: neuron updates, all steps together.
        spikes: that the neurons sent, all steps together.
        leaky: the neurons multiply their potential by a decay.
        pooled: a 2x2 pool follows.
    """

    name: str
    kind: Literal["conv", "linear"]
    input: InputKind
    macs: int
    passes: float
    constant: bool
    inputs: int
    outputs: int
    active: float
    events: float
    parameters: int
    bias: bool
    in_channels: int
    out_channels: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    uses: float = 1.0
    neurons: float = 0.0
    updates: float = 0.0
    spikes: float = 0.0
    leaky: bool = False
    pooled: bool = False

    @property
    def input_rate(self) -> float:
        """R_l: input values other than 0 over all time steps, divided by the number of inputs."""
        return self.active / self.inputs

    @property
    def spike_rate(self) -> float:
        """Spikes per neuron and time step, in [0, 1]; 0 without neurons."""
        return self.spikes / self.updates if self.updates else 0.0

    @property
    def dense(self) -> bool:
        """Charged as multiply-accumulates."""
        return self.input == "real"


def count_operations(
    net: nn.Module,
    images: Tensor,
    generator: torch.Generator | None = None,
    batch_size: int = 100,
    steps: int | None = None,
) -> list[LayerCounts]:
    """Run ``images`` through ``net`` in eval mode and count, in the order in which the layers run.

    Networks of this package are read at their layers. In any other module hooks sit on ``nn.Linear`` and
    ``nn.Conv1d/2d/3d`` and on the neurons of SpikingJelly, snnTorch and this package; weights used otherwise
    (attention, functional calls, transposed convolutions) are not seen. A module of which no such neuron ran is an ANN:
    real numbers enter every layer, whatever their values. Time is expected to come first, in a call a step,
    ``[T, B, ...]`` or ``[T*B, ...]``.

    Args:
        images: network input ``[B, C, H, W]``, pixels already scaled.
        generator: source of the input coding's randomness.
        batch_size: images at a time.
        steps: T; by default the module's attribute ``steps``, and of a module without one, the steps of its neurons, or
            how often its last layer ran for an image where neurons do not tell; 1 when no neuron ran.

    Raises:
        ConfigError: no images, or no convolution or linear layer ran.
    """
    return count_with_steps(net, images, generator, batch_size, steps)[0]


def count_with_steps(
    net: nn.Module,
    images: Tensor,
    generator: torch.Generator | None = None,
    batch_size: int = 100,
    steps: int | None = None,
) -> tuple[list[LayerCounts], int]:
    """`count_operations`, and T.

    Args:
        net: a network of this package or of one's own.
        images: batch ``[N, C, H, W]`` to count on.
        generator: draws of the encoding.
        batch_size: images at a time.
        steps: T, where the network does not say it.
    """
    if not len(images):
        raise ConfigError("counting operations needs at least one image; give images [B, C, H, W]")
    with _Counter(net, steps) as counter, in_eval_mode(net), torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device_of(net))
            coded = isinstance(net, SpikingNetwork | ANNNetwork | WrappedNetwork)
            net(batch, generator=generator) if coded else net(batch)
            counter.batch_done(len(batch))
    if not counter.order:
        raise ConfigError(f"no convolution or linear layer of {type(net).__name__} ran; nothing to count")
    return [counter.result(name) for name in counter.order], counter.steps


class _Tally:
    """Sums of one layer over all calls."""

    def __init__(self) -> None:
        self.rows = self.calls = 0
        self.active = self.events = 0.0
        self.real = False
        self.inputs = self.outputs = 0
        self.updates = self.spikes = 0.0
        self.leaky = False


class _Counter:
    """Hooks on weights and neurons while a ``with`` block runs."""

    def __init__(self, net: nn.Module, told_steps: int | None = None) -> None:
        self.net = net
        self.told_steps = told_steps
        self.modules: dict[str, nn.Module] = {}
        self.tallies: dict[str, _Tally] = {}
        self.order: list[str] = []
        self.latest = ""  # the layer that ran last: neurons belong to it
        self.images = self.batches = 0
        self.fired = False  # a neuron ran: without one the network is an ANN
        self.coded = False  # neurons ran before the first layer: what enters it is their code of the image
        self.fired_steps: dict[str, int] = {}  # by neuron module, all batches together
        self.pools = {4}  # numbers of values that average pools of this module take the mean of
        self.entered: list[Tensor] = []  # what entered the first layer in this batch, by call [rows, inputs]
        self.same = True  # ... and that it was alike in all time steps
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> _Counter:
        for name, module in self.net.named_modules():
            if isinstance(module, WeightedLayer | nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                self.modules[name] = module
                self.hooks.append(module.register_forward_hook(self._bound(name, self._weights)))
            if isinstance(module, POOLS):
                self.hooks.append(module.register_forward_hook(self._bound(name, self._pooled)))
            if isinstance(module, SpikingLayer | PassLayer):
                if module.neuron is not None:
                    self.hooks.append(spikes_of(module).register_forward_hook(self._bound(name, self._own_neurons)))
            elif spikes(module):
                self.hooks.append(module.register_forward_hook(self._bound(name, self._neurons)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _tally(self, name: str) -> _Tally:
        """The sums of a layer that has run, or runs now."""
        if name not in self.tallies:
            self.tallies[name] = _Tally()
            self.order.append(name)
        return self.tallies[name]

    @staticmethod
    def _bound(name: str, see: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Callable:
        return lambda module, inputs, out: see(name, module, inputs[0], _first(out))

    def _weights(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        self.latest, tally = name, self._tally(name)
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):  # [C, ...] or SpikingJelly's [T, B, C, ...]
            x, out = (t.reshape(-1, *t.shape[-1 - len(module.kernel_size) :]) for t in (x, out))
        active = x != 0
        if isinstance(module, WeightedLayer):
            tally.inputs = prod(module.plan.in_shape)
            tally.outputs = prod(module.plan.map_shape)
        elif isinstance(module, nn.Linear):
            tally.inputs = module.in_features
            tally.outputs = module.out_features
        else:
            tally.inputs = x[0].numel()
            tally.outputs = out[0].numel()
        tally.rows += x.numel() // tally.inputs
        tally.calls += 1
        tally.active += float(active.sum())
        tally.events += events(module, active)
        if isinstance(self.net, SpikingNetwork) and not self.net.takes_spikes(name):
            tally.real = tally.real or bool(((x != 0) & (x != 1)).any())
        if not isinstance(self.net, SpikingNetwork | ANNNetwork):  # of ours it is known
            # No pool stands before the first layer; pixels must not pass for means of spikes.
            tally.real = tally.real or not _like_spikes(x, {4} if name == self.order[0] else self.pools)
            if name == self.order[0] and self.same:
                # A copy, because a module may write its next step into the same tensor.
                self.entered.append(x.detach().clone().view(-1, tally.inputs))

    def batch_done(self, images: int) -> None:
        """Take note that a batch of so many images has run through."""
        self.images += images
        self.batches += 1
        if self.entered:
            frames = self.entered
            if sum(map(len, frames)) % (self.steps * images) == 0:
                frames = list(torch.cat(frames).chunk(self.steps))
            self.same = all(torch.equal(frame, frames[0]) for frame in frames[1:])
            self.entered = []

    @property
    def steps(self) -> int:
        """T: told, or the network's own, or seen."""
        told = self.told_steps or int(getattr(self.net, "steps", 0))
        if told or not self.fired:
            return told or 1
        # A neuron module that several layers share runs more often than once a step.
        seen = round(min(self.fired_steps.values(), default=0) / self.batches)
        return seen if seen > 1 else max(1, round(self.tallies[self.order[-1]].rows / self.images))

    def _input(self, name: str) -> tuple[InputKind, bool]:
        """What enters a layer, and whether it is real and the same in every time step."""
        first = name == self.order[0]
        direct = isinstance(getattr(self.net, "encoder", None), Direct)
        if isinstance(self.net, ANNNetwork):
            return "real", first
        if isinstance(self.net, SpikingNetwork):
            if self.net.takes_spikes(name):
                return "spikes", False
            # Data with steps of their own enter T times, and events are spikes already.
            once = self.net.once(name) and (self.tallies[name].rows == self.images or self.steps == 1)
            return "real" if once or self.tallies[name].real else "spikes", once
        image = isinstance(self.net, WrappedNetwork) and self.net.mode != "images" and direct and not self.coded
        if not self.fired or self.tallies[name].real or (first and image and self.same):  # black and white too
            return "real", first and self.same
        return "spikes", False

    def _pooled(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        size = getattr(module, "kernel_size", None)  # an adaptive pool has none
        axes = int(type(module).__name__[-2])
        window = prod(size) if isinstance(size, tuple) else size**axes if size else x.numel() // out.numel()
        self.pools |= {window} | {window * earlier for earlier in self.pools if window * earlier <= MOST_POOLED}

    def _own_neurons(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        layer = self.net.get_submodule(name)
        assert isinstance(layer, SpikingLayer | PassLayer) and layer.neuron is not None
        self.fired = True
        charged = self.net.charges(name) if isinstance(self.net, SpikingNetwork) else name
        if charged is None:
            return  # neurons that encode the image belong to no layer
        tally = self._tally(charged)  # of neurons behind a sum its first branch's
        updates = out.shape[0] * prod(layer.plan.map_shape)  # rows of all time steps
        tally.updates += updates
        tally.spikes += float(out.sum(dtype=torch.float64)) / out.numel() * updates
        tally.leaky = layer.neuron.decay != 1.0

    def _neurons(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        self.fired = True
        sequence = isinstance(module, LIF) or getattr(module, "step_mode", "s") == "m"  # [T, B, ...] in one call
        self.fired_steps[name] = self.fired_steps.get(name, 0) + (len(out) if sequence else 1)
        if not self.order:
            self.coded = True
            return  # neurons that encode the image belong to no layer
        tally = self.tallies[self.latest]
        tally.updates += out.numel()
        tally.spikes += float((out != 0).sum())
        own = getattr(module, "parameters_", None)
        decay = own.decay if own is not None else 0.5 if hasattr(module, "tau") or hasattr(module, "beta") else 1.0
        tally.leaky = tally.leaky or decay != 1.0

    def _passes(self, tally: _Tally) -> tuple[float, float]:
        """Time steps in which a layer's weights are applied, and how often in each."""
        rows = tally.rows / self.images
        calls = tally.calls / self.batches
        # Rows that T does not divide: the layer runs once, over tokens, or in some steps only.
        passes = calls if rows % self.steps and calls < self.steps else self.steps
        uses = max(1.0, rows / passes)
        return rows / uses, uses

    def result(self, name: str) -> LayerCounts:
        """Means over the images."""
        module = self.modules[name]
        tally = self.tallies[name]
        images = self.images
        kind, channels, groups, kernel, stride = sizes(module)
        entering, constant = self._input(name)
        passes, uses = self._passes(tally)
        weight = module.weight
        bias = module.bias
        assert isinstance(weight, Tensor)
        return LayerCounts(
            name=name,
            kind=kind,
            input=entering,
            macs=round(uses * tally.outputs * weight[0].numel()),
            passes=passes,
            constant=constant,
            inputs=round(uses * tally.inputs),
            outputs=round(uses * tally.outputs),
            active=tally.active / images,
            events=tally.events / images,
            parameters=weight.numel() + (bias.numel() if isinstance(bias, Tensor) else 0),
            bias=isinstance(bias, Tensor),
            in_channels=channels,
            out_channels=weight.shape[0],
            groups=groups,
            kernel=kernel,
            stride=stride,
            uses=uses,
            neurons=tally.updates / images / self.steps,
            updates=tally.updates / images,
            spikes=tally.spikes / images,
            leaky=tally.leaky,
            pooled=isinstance(module, WeightedLayer) and module.plan.pool and module.plan.window.windows == (2, 2),
        )


def _first(out: object) -> Tensor:
    value = out[0] if isinstance(out, tuple | list) else out
    assert isinstance(value, Tensor)
    return value


def _like_spikes(x: Tensor, pools: Collection[int]) -> bool:
    """0, 1, -1, or means of so many such as a pool, or pools behind one another, take."""
    x = x.detach().float()
    return bool((x.abs() <= 1).all()) and any(
        bool(((size * x - (size * x).round()).abs() < 1e-3).all()) for size in sorted(pools)
    )
