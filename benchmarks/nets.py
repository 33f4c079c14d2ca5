"""The benchmark networks: one layout, one set of weights, built for spikefed, for its peers, and as controls.

Every spiking variant has the same equations where its library has them: conv 3x3 - batch norm - LIF (tau 2, decayed
input, hard reset, fires at >= 1, arctangent surrogate), 2x2 average pool, linear - batch norm - LIF, linear read-out
averaged over T; direct coding.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.neurons import LIFParameters, norm_lif, spike_conv2d, spike_linear


@dataclass(frozen=True)
class Layout:
    """``features``: output channels of the 3x3 convolutions, "P" = pool; ``hidden``.

    Sizes of the spiking linear layers.
    """

    features: tuple[int | str, ...]
    hidden: tuple[int, ...]
    shape: tuple[int, int, int]
    batch: int
    steps: int = 8
    classes: int = 10


LAYOUTS = {
    "vgg9": Layout((64, 64, "P", 128, 128, "P", 256, 256, 256, "P"), (1024,), (3, 32, 32), 32),
    "small": Layout((32, "P", 64, "P"), (128,), (1, 28, 28), 64),
    "cifarnet": Layout((128, 256, "P", 512, "P", 1024, 512), (1024, 512), (3, 32, 32), 8),
}


@dataclass
class Weights:
    """``convs``: (weight, pool after?); ``linears``: weights, the last one is the read-out."""

    convs: list[tuple[Tensor, bool]]
    linears: list[Tensor]


def weights(layout: Layout, seed: int = 0) -> Weights:
    """The shared initial weights."""
    torch.manual_seed(seed)
    channels, side, convs = layout.shape[0], layout.shape[1], []
    for item in layout.features:
        if item == "P":
            convs[-1] = (convs[-1][0], True)
            side //= 2
        else:
            convs.append((nn.init.xavier_uniform_(torch.empty(int(item), channels, 3, 3)), False))
            channels = int(item)
    sizes = [channels * side * side, *layout.hidden, layout.classes]
    return Weights(convs, [nn.init.xavier_uniform_(torch.empty(b, a)) for a, b in zip(sizes, sizes[1:], strict=False)])


def batch(layout: Layout, seed: int = 1) -> tuple[Tensor, Tensor]:
    """One fixed batch of random images and labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(layout.batch, *layout.shape, generator=generator)
    return x, torch.randint(0, layout.classes, (layout.batch,), generator=generator)


class Ours(nn.Module):
    """spikefed: every layer is one convolution or linear call and one ``norm_lif``."""

    def __init__(self, layout: Layout, surrogate: str = "atan") -> None:
        super().__init__()
        start = weights(layout)
        self.steps, self.momentum = layout.steps, 0.1
        self.pools = [pool for _, pool in start.convs] + [False] * (len(start.linears) - 1)
        self.weights = nn.ParameterList([w for w, _ in start.convs] + start.linears)
        self.scales = nn.ParameterList([torch.ones(len(w)) for w in list(self.weights)[:-1]])
        self.shifts = nn.ParameterList([torch.zeros(len(w)) for w in list(self.weights)[:-1]])
        self.running = [(torch.zeros(len(w)), torch.ones(len(w))) for w in list(self.weights)[:-1]]
        self.neuron = LIFParameters(decay=0.5, v_threshold=1.0, gain=0.5, strict=False, surrogate=surrogate)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for i, pool in enumerate(self.pools):
            w = self.weights[i]
            x = spike_conv2d(x, w, padding=1) if w.dim() == 4 else spike_linear(x, w)
            mean, var = self.running[i]
            x = norm_lif(
                x,
                self.neuron,
                steps=self.steps,
                norm="bn",
                weight=self.scales[i],
                bias=self.shifts[i],
                running_mean=mean,
                running_var=var,
                training=self.training,
                momentum=self.momentum,
                pool=pool,
                repeat=i == 0,
            )
        return spike_linear(x, self.weights[-1]).unflatten(0, (self.steps, -1)).float().mean(0)


class _Fold(nn.Module):
    """Runs a layer on [T, B, ...] folded into [T*B, ...]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def stack(
    layout: Layout, neuron: Callable[[], nn.Module], wrap: Callable[[nn.Module], nn.Module] = lambda m: m
) -> nn.Sequential:
    """The network as torch layers, with ``neuron()`` after each norm; ``wrap`` adapts layers without time."""
    start, layers = weights(layout), []
    for w, pool in start.convs:
        conv = nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1, bias=False)
        conv.weight.data.copy_(w)
        layers += [wrap(conv), wrap(nn.BatchNorm2d(len(w))), neuron()] + ([wrap(nn.AvgPool2d(2))] if pool else [])
    layers.append(wrap(nn.Flatten()))
    for i, w in enumerate(start.linears):
        linear = nn.Linear(w.shape[1], w.shape[0], bias=False)
        linear.weight.data.copy_(w)
        layers += [wrap(linear)] + ([wrap(nn.BatchNorm1d(len(w))), neuron()] if i + 1 < len(start.linears) else [])
    return nn.Sequential(*layers)


class MultiStep(nn.Module):
    """All T steps layer by layer; ``reset`` clears the neurons first."""

    def __init__(self, net: nn.Module, steps: int, reset: Callable[[nn.Module], None] = lambda m: None) -> None:
        super().__init__()
        self.net, self.steps, self.reset = net, steps, reset

    def forward(self, x: Tensor) -> Tensor:
        self.reset(self.net)
        return self.net(x.unsqueeze(0).expand(self.steps, *x.shape)).float().mean(0)


class Loop(nn.Module):
    """Step by step through the whole network."""

    def __init__(self, net: nn.Module, steps: int, reset: Callable[[nn.Module], None]) -> None:
        super().__init__()
        self.net, self.steps, self.reset = net, steps, reset

    def forward(self, x: Tensor) -> Tensor:
        self.reset(self.net)
        return sum(self.net(x).float() for _ in range(self.steps)) / self.steps  # type: ignore[return-value]


class _Arctan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / (1 + (torch.pi * x) ** 2)


class PlainLIF(nn.Module):
    """What one writes in ten minutes: a potential, a threshold, a surrogate."""

    v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        h = self.v + (x - self.v) / 2
        s = _Arctan.apply(h - 1.0)
        self.v = h * (1 - s)  # type: ignore[operator]
        return s  # type: ignore[return-value]


def _reset_plain(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, PlainLIF):
            module.v = 0.0


class ConvsAlone(nn.Module):
    """Control: the same convolutions and linears on dense inputs of the right shapes, nothing between them.

    The dense limit.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype) -> None:
        super().__init__()
        start, side, rows = weights(layout), layout.shape[1], layout.batch * layout.steps
        self.weights = nn.ParameterList([w for w, _ in start.convs] + start.linears)
        self.inputs: list[Tensor] = []
        self.ups: list[Tensor] = []
        for i, (w, pool) in enumerate(start.convs):
            n = layout.batch if i == 0 else rows
            form = {"dtype": dtype, "memory_format": torch.channels_last}
            self.inputs.append(torch.randn(n, w.shape[1], side, side).to(**form).requires_grad_(i > 0))
            self.ups.append(torch.randn(n, w.shape[0], side, side).to(**form))
            side = side // 2 if pool else side
        for w in start.linears:
            self.inputs.append(torch.randn(rows, w.shape[1]).to(dtype).requires_grad_())
            self.ups.append(torch.randn(rows, w.shape[0]).to(dtype))

    def run(self, training: bool) -> None:
        for x, up, w in zip(self.inputs, self.ups, self.weights, strict=True):
            out = F.conv2d(x, w.to(x.dtype), padding=1) if w.dim() == 4 else F.linear(x, w.to(x.dtype))
            if training:
                torch.autograd.backward(out, up, inputs=[t for t in (x, w) if t.requires_grad])


def ann(layout: Layout) -> nn.Module:
    """The twin without time: ReLU for LIF, one pass."""
    return stack(layout, nn.ReLU).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def have(package: str) -> bool:
    """Whether a peer is installed."""
    return importlib.util.find_spec(package) is not None


def spikingjelly(layout: Layout, single: bool = False) -> nn.Module:
    from spikingjelly.activation_based import functional, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.LIFNode(
            tau=2.0,
            decay_input=True,
            v_threshold=1.0,
            v_reset=0.0,
            surrogate_function=surrogate.ATan(),
            step_mode="s" if single else "m",
        )

    if single:
        return Loop(stack(layout, lif), layout.steps, functional.reset_net)
    return MultiStep(stack(layout, lif, _Fold), layout.steps, functional.reset_net)


def snntorch(layout: Layout) -> nn.Module:
    import snntorch as snn
    from snntorch import surrogate

    class Leaky(
        nn.Module
    ):  # the library's cell, its state passed by hand (its own reset touches every network in the process)
        def __init__(self) -> None:
            super().__init__()
            self.cell = snn.Leaky(
                beta=0.5, threshold=1.0, spike_grad=surrogate.atan(), reset_mechanism="zero", reset_delay=False
            )
            self.mem: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            mem = self.cell.init_leaky() if self.mem is None else self.mem
            spikes, self.mem = self.cell(x * 0.5, mem)
            return spikes

    def reset(net: nn.Module) -> None:
        for module in net.modules():
            if isinstance(module, Leaky):
                module.mem = None

    return Loop(stack(layout, Leaky), layout.steps, reset)


def norse(layout: Layout) -> nn.Module:
    from norse.torch import LIFBoxCell, LIFBoxParameters

    class Box(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.state = (
                LIFBoxCell(p=LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(1.0))),
                None,
            )

        def forward(self, x: Tensor) -> Tensor:
            spikes, self.state = self.cell(x, self.state)
            return spikes

    def reset(net: nn.Module) -> None:
        for module in net.modules():
            if isinstance(module, Box):
                module.state = None

    return Loop(stack(layout, Box), layout.steps, reset)


def plain(layout: Layout) -> nn.Module:
    return Loop(stack(layout, PlainLIF), layout.steps, _reset_plain)
