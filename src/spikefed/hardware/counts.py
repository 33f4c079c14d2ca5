"""What each layer of a network does on real images: dense operations, input spikes, synaptic events, neuron updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import ANNNetwork, SpikingLayer, SpikingNetwork, WrappedNetwork
from spikefed.networks.layers import WeightedLayer
from spikefed.networks.monitor import device_of, in_eval_mode, spikes
from spikefed.neurons import Direct

InputKind = Literal["real", "spikes"]
"""``spikes``: 0, 1, -1, or means of pooled spikes, charged as additions; ``real``: anything else, charged as MACs."""


@dataclass(frozen=True)
class LayerCounts:
    """One layer, per image; numbers of events are means over the images.

    Attributes:
        name: of the layer in the network.
        kind: ``conv`` or ``linear``.
        input: what enters it.
        macs: F, multiply-accumulates of one pass: O^2 C_in k^2 C_out, or in * out.
        passes: how often the network as it is written applies the weights.
        constant: the same image enters at every step (direct coding), so that one pass would do.
        inputs: values that enter in one pass.
        outputs: values of the map in one pass, before pooling.
        active: input values other than 0, all passes together.
        events: weights that those touch (borders counted exactly), the synaptic operations.
        parameters: weights and biases.
        bias: has biases.
        in_channels, out_channels, groups, kernel, stride: of a convolution; 1s and features for linear.
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
    (attention, functional calls, transposed convolutions) are not seen.

    Args:
        images: network input ``[B, C, H, W]``, pixels already scaled.
        generator: source of the input coding's randomness.
        batch_size: images at a time.
        steps: T; by default the module's attribute ``steps``, and of a module without one, how often its last layer ran
            for an image.

    Raises:
        ConfigError: no images, or no convolution or linear layer ran.
    """
    if not len(images):
        raise ConfigError("counting operations needs at least one image; give images [B, C, H, W]")
    with _Counter(net) as counter, in_eval_mode(net), torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device_of(net))
            coded = isinstance(net, SpikingNetwork | ANNNetwork | WrappedNetwork)
            net(batch, generator=generator) if coded else net(batch)
    if not counter.order:
        raise ConfigError(f"no convolution or linear layer of {type(net).__name__} ran; nothing to count")
    steps = steps or time_steps(net, counter.tallies[counter.order[-1]].rows / len(images))
    return [counter.result(name, len(images), steps) for name in counter.order]


def time_steps(net: nn.Module, passes: float) -> int:
    """T of a network: its own ``steps``, else the passes of its last layer, which in a classifier runs once a step."""
    return int(getattr(net, "steps", 0)) or max(1, round(passes))


class _Tally:
    """Sums of one layer over all calls."""

    def __init__(self) -> None:
        self.rows = 0
        self.active = self.events = 0.0
        self.real = False
        self.inputs = self.outputs = 0
        self.updates = self.spikes = 0.0
        self.leaky = False


class _Counter:
    """Hooks on weights and neurons while a ``with`` block runs."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.modules: dict[str, nn.Module] = {}
        self.tallies: dict[str, _Tally] = {}
        self.order: list[str] = []
        self.latest = ""  # the layer that ran last: neurons belong to it
        self.hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> _Counter:
        for name, module in self.net.named_modules():
            if isinstance(module, WeightedLayer | nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                self.modules[name] = module
                self.hooks.append(module.register_forward_hook(self._bound(name, self._weights)))
            if isinstance(module, SpikingLayer) and module.neuron is not None:
                self.hooks.append(module.register_forward_hook(self._bound(name, self._own_neurons)))
            elif spikes(module) and not isinstance(module, SpikingLayer):
                self.hooks.append(module.register_forward_hook(self._bound(name, self._neurons)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    @staticmethod
    def _bound(name: str, see: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Callable:
        return lambda module, inputs, out: see(name, module, inputs[0], _first(out))

    def _weights(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        if name not in self.tallies:
            self.tallies[name] = _Tally()
            self.order.append(name)
        self.latest, tally = name, self.tallies[name]
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):  # [C, ...] or SpikingJelly's [T, B, C, ...]
            x, out = (t.reshape(-1, *t.shape[-1 - len(module.kernel_size) :]) for t in (x, out))
        active = x != 0
        if isinstance(module, WeightedLayer):
            tally.inputs, tally.outputs = prod(module.plan.in_shape), prod(module.plan.map_shape)
        elif isinstance(module, nn.Linear):
            tally.inputs, tally.outputs = module.in_features, module.out_features
        else:
            tally.inputs, tally.outputs = x[0].numel(), out[0].numel()
        tally.rows += x.numel() // tally.inputs
        tally.active += float(active.sum())
        tally.events += _events(module, active)
        tally.real = tally.real or self._is_real(name, x)

    def _constant(self, name: str) -> bool:
        return name == self.order[0] and isinstance(getattr(self.net, "encoder", None), Direct)

    def _is_real(self, name: str, x: Tensor) -> bool:
        if isinstance(self.net, ANNNetwork) or self._constant(name):
            return True
        if isinstance(self.net, SpikingNetwork):
            return False
        quarters = 4 * x.detach()  # spikes, or means of four of them
        return not bool(((quarters == quarters.round()) & (quarters.abs() <= 4)).all())

    def _own_neurons(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        assert isinstance(module, SpikingLayer) and module.neuron is not None
        tally = self.tallies[name]  # its weights' hook ran before
        updates = out.shape[0] * tally.outputs  # rows of all time steps
        tally.updates += updates
        tally.spikes += float(out.sum(dtype=torch.float64)) / out.numel() * updates
        tally.leaky = module.neuron.decay != 1.0

    def _neurons(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        if not self.order:
            return  # neurons that encode the image belong to no layer
        tally = self.tallies[self.latest]
        tally.updates += out.numel()
        tally.spikes += float((out != 0).sum())
        own = getattr(module, "parameters_", None)
        decay = own.decay if own is not None else 0.5 if hasattr(module, "tau") or hasattr(module, "beta") else 1.0
        tally.leaky = tally.leaky or decay != 1.0

    def result(self, name: str, images: int, steps: int) -> LayerCounts:
        """Means over the images."""
        module, tally = self.modules[name], self.tallies[name]
        kind, channels, groups, kernel, stride = _sizes(module)
        weight, bias = module.weight, module.bias
        assert isinstance(weight, Tensor)
        return LayerCounts(
            name=name,
            kind=kind,
            input="real" if tally.real else "spikes",
            macs=tally.outputs * weight[0].numel(),
            passes=tally.rows / images,
            constant=self._constant(name),
            inputs=tally.inputs,
            outputs=tally.outputs,
            active=tally.active / images,
            events=tally.events / images,
            parameters=weight.numel() + (bias.numel() if isinstance(bias, Tensor) else 0),
            bias=isinstance(bias, Tensor),
            in_channels=channels,
            out_channels=weight.shape[0],
            groups=groups,
            kernel=kernel,
            stride=stride,
            neurons=tally.updates / images / steps,
            updates=tally.updates / images,
            spikes=tally.spikes / images,
            leaky=tally.leaky,
            pooled=isinstance(module, WeightedLayer) and module.plan.pool,
        )


def _events(module: nn.Module, active: Tensor) -> float:
    """Weights touched by the active inputs: every output position that lies within reach, times the output channels."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, nn.Linear) or (isinstance(module, WeightedLayer) and module.plan.kind == "linear"):
        return float(active.sum()) * weight.shape[0]
    if isinstance(module, WeightedLayer):
        counts = active.sum(dim=1, keepdim=True).float()
        ones = counts.new_ones(1, 1, *weight.shape[2:])
        reached = F.conv2d(counts, ones, padding=module.plan.kernel // 2)
        return float(reached.sum(dtype=torch.float64)) * weight.shape[0]
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ones = torch.ones(module.groups, *weight.shape[1:], device=weight.device)
    reached = module._conv_forward(active.float(), ones, None)  # one output channel per group; strides, pads as built
    return float(reached.sum(dtype=torch.float64)) * (weight.shape[0] // module.groups)


def _sizes(module: nn.Module) -> tuple[Literal["conv", "linear"], int, int, tuple[int, ...], tuple[int, ...]]:
    """Kind, input channels, groups, kernel and stride."""
    if isinstance(module, WeightedLayer):
        if module.plan.kind == "linear":
            return "linear", prod(module.plan.in_shape), 1, (), ()
        return "conv", module.plan.in_shape[0], 1, (module.plan.kernel,) * 2, (1, 1)
    if isinstance(module, nn.Linear):
        return "linear", module.in_features, 1, (), ()
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return "conv", module.in_channels, module.groups, tuple(module.kernel_size), tuple(module.stride)


def _first(out: object) -> Tensor:
    value = out[0] if isinstance(out, tuple | list) else out
    assert isinstance(value, Tensor)
    return value
