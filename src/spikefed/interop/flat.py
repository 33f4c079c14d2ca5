"""A trained network without its package: plain arrays and sizes, batch norm folded into the weights.

Every exporter walks this one list, so that what a file says of a network is decided in one place. A network of layers
and a graph look alike here: nodes in the order in which they run within a time step, each with the places it takes
from. Currents of a node at step t:

    I_t = gain_t * (W x_t) + shift_t

``gain`` is None where a norm shared by all steps was folded into W (batch norm in evaluation mode is an affine map);
a norm of each time step (BNTT) keeps its own gain and shift, ``[T, C]``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.networks import ANNNetwork, GraphNetwork, SpikingNetwork, kinds_of
from spikefed.networks.graph import INPUT, ANNGraphNetwork, Graph, in_order
from spikefed.networks.layers import PlannedLayer
from spikefed.networks.norms import Norm
from spikefed.networks.parts import Part
from spikefed.networks.pools import Pool
from spikefed.neurons import Encoder, LIFParameters


@dataclass(frozen=True)
class Source:
    """Where values come from: a node's name or ``input``; ``back``: what it gave one time step before."""

    name: str
    back: bool = False


@dataclass(frozen=True, eq=False)
class FlatNode:
    """One layer with plain numbers.

    Attributes:
        name: as in the network.
        sources: what is added up and enters.
        kind: ``conv``, ``linear``, or ``pass`` (no weights).
        in_shape: of what enters, ``(C, H, W)`` or ``(F,)``.
        map_shape: of the currents; a ``pass`` with fewer features than enter takes means of as many neighbours.
        out_shape: after the pool.
        weight: float32 ``[Cout, Cin, Kh, Kw]`` or ``[Fout, Fin]``; None of a ``pass``.
        gain: float32 ``[T, C]`` of a norm of each time step, or of neurons that begin charged; ``[1, C]`` of a norm
            without weights; else None.
        shift: float32 ``[C]``, or shaped as the gain; None where nothing is added.
        stride: of a convolution; its padding is half the kernel.
        neuron: spiking neurons, or None.
        rectify: ReLU (ANN twin).
        pool: behind the neurons, or None.
        once: what enters is the same at every step, so that the currents need computing once (direct coding).
        line: a convolution along the width alone: its kernel has one row, its stride is that of columns.
    """

    name: str
    sources: tuple[Source, ...]
    kind: str
    in_shape: tuple[int, ...]
    map_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    weight: np.ndarray | None
    gain: np.ndarray | None
    shift: np.ndarray | None
    stride: int
    neuron: LIFParameters | None
    rectify: bool
    pool: Pool | None
    once: bool
    line: bool = False

    @property
    def kernel(self) -> int:
        """Width of the convolution; 0 without one."""
        return self.weight.shape[3] if self.kind == "conv" and self.weight is not None else 0

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Rows and columns of the convolution's kernel."""
        return (1 if self.line else self.kernel), self.kernel

    @property
    def strides(self) -> tuple[int, int]:
        """Of the convolution, in rows and columns."""
        return (1 if self.line else self.stride), self.stride

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros above and below, and beside the map."""
        rows, columns = self.kernel_size
        return rows // 2, columns // 2

    @property
    def votes(self) -> int:
        """How many neighbours a mean is taken over; 1 where none is."""
        return prod(self.in_shape) // prod(self.map_shape) if self.kind == "pass" else 1

    @property
    def plain(self) -> bool:
        """It only hands on the sum of what enters."""
        bare = self.kind == "pass" and self.votes == 1 and self.gain is None and self.shift is None
        return bare and self.neuron is None and not self.rectify and self.pool is None


@dataclass(frozen=True, eq=False)
class Flat:
    """A network of plain arrays.

    Attributes:
        name: what it is called.
        input_shape: ``(C, H, W)`` of one image.
        steps: T.
        encoder: pixels to input.
        nodes: in the order in which they run within a time step.
        output: name of the node that gives the network's outputs.
    """

    name: str
    input_shape: tuple[int, ...]
    steps: int
    encoder: Encoder
    nodes: tuple[FlatNode, ...]
    output: str

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.node(self.output).out_shape[0]

    @property
    def spiking(self) -> bool:
        """Whether the outputs are spikes."""
        return self.node(self.output).neuron is not None

    @property
    def coded_shape(self) -> tuple[int, ...]:
        """Shape of one time step behind the input coding."""
        return self.input_shape[0] * self.encoder.widens, *self.input_shape[1:]

    def node(self, name: str) -> FlatNode:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)


def flat(net: nn.Module, *, quantised: bool = False) -> Flat:
    """The plain form of a network of this package, spiking or ANN twin; nothing in it is shared with the network.

    Args:
        net: the network.
        quantised: whoever asks knows of QCFS activations, for which nodes say ReLU.

    Raises:
        ConfigError: somebody else's module, whose inner workings are its own; weights that are not finite; QCFS
            activations, unless they are asked for; parts of a task that fold into no weights.
    """
    if not isinstance(net, SpikingNetwork | ANNNetwork):
        raise ConfigError(
            f"network {type(getattr(net, 'module', net)).__name__} is a module of your own, whose inner workings "
            "spikefed does not know; export it with its own library, or from load_model(RUN).network.module with "
            "torch.export"
        )
    if not quantised and any(getattr(module, "qcfs", None) is not None for module in net.modules()):
        raise ConfigError(
            f"network {net.name} has QCFS activations (network.qcfs), which no format knows; convert it with 'spikefed "
            "convert RUN --recipe qcfs' and export what that gives"
        )
    _check_parts(net)
    graph: Graph | None = net.graph if isinstance(net, GraphNetwork | ANNGraphNetwork) else None
    if graph is None:
        names = [layer.plan.name for layer in net.places]
        before = dict(zip(names, [INPUT, *names], strict=False))
        sources = {name: (Source(before[name]),) for name in names}
        output = names[-1]
    else:
        names = [node.name for node in in_order(graph)]
        sources = {name: tuple(Source(e.source, e.back) for e in graph.into(name)) for name in names}
        output = graph.output
    nodes = tuple(_node(net, name, sources[name]) for name in names)
    return Flat(net.name, net.input_shape, net.steps, net.encoder, nodes, output)


def _check_parts(net: SpikingNetwork | ANNNetwork) -> None:
    """Refuse parts of the task that is on which are neither weights, nor norms, nor thresholds of channels."""
    kinds = set(kinds_of(net).values())
    single = any(part is not None and not part.folds for part in (layer.part() for layer in net.places))
    if kinds & {"mime", "proxy1x1"} or single:
        what = "thresholds of single neurons" if single else f"parts '{min(kinds & {'mime', 'proxy1x1'})}'"
        raise ConfigError(
            f"network {net.name} has {what} (network.adapters), which no format knows: what it would hold is the "
            "parent; predict with spikefed.load_model(RUN), or learn a task by other parts"
        )


def _node(net: SpikingNetwork | ANNNetwork, name: str, sources: tuple[Source, ...]) -> FlatNode:
    layer = net.get_submodule(name)
    assert isinstance(layer, PlannedLayer)
    plan = layer.plan
    neuron = getattr(layer, "neuron", None)
    weight, gain, shift = _folded(layer, net.steps, neuron)
    if neuron is not None and neuron.start:
        gain, shift = _charged(gain, shift, net.steps, plan.map_shape[0], neuron)
        neuron = replace(neuron, start=0.0)
    return FlatNode(
        name=name,
        sources=sources,
        kind=plan.kind,
        in_shape=plan.in_shape,
        map_shape=plan.map_shape,
        out_shape=plan.out_shape,
        weight=weight,
        gain=gain,
        shift=shift,
        stride=plan.stride,
        neuron=neuron,
        rectify=bool(getattr(layer, "rectify", False)),
        pool=plan.window if plan.pool else None,
        once=net.once(name) if isinstance(net, SpikingNetwork) else True,
        line=plan.line,
    )


def _folded(
    layer: PlannedLayer, steps: int, neuron: LIFParameters | None
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Weight, gain and shift of a layer; sums and products in float64, then rounded once to float32."""
    part = layer.part()
    weight, bias = _weights(layer, part)
    for array in (weight, bias):
        if array is not None and not np.isfinite(array).all():
            raise ConfigError(
                f"layer {layer.plan.name} holds weights that are not finite, so the network predicts nothing; export "
                "another round of the run"
            )
    norm = layer.norm if part is None or part.norm is None else part.norm
    learnt = _gain(layer)
    if part is not None and part.log_threshold is not None:
        own = np.exp(-part.log_threshold.detach().cpu().double().numpy()).reshape(-1)
        learnt = own if learnt is None else learnt * own
    if norm is None and learnt is None:
        return _single(weight), None, _single(bias)
    factor, offset = (np.ones(layer.plan.map_shape[0]), np.zeros(())) if norm is None else _affine(norm, steps, neuron)
    if learnt is not None:
        factor = factor * learnt
        offset = offset * learnt
    if bias is not None:
        offset = offset + factor * bias
    if (norm is None or norm.steps is None) and weight is not None:
        scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        return _single(scaled), None, _single(offset)
    return _single(weight), _single(np.atleast_2d(factor)), _single(np.atleast_2d(offset))


def _weights(layer: PlannedLayer, part: Part | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Weights and bias of a layer with those of the task that is on, float64; outputs of other tasks get 0."""
    weight = _numbers(getattr(layer, "weight", None))
    bias = _numbers(getattr(layer, "bias", None))
    if part is None or weight is None:
        return weight, bias
    low, high = _numbers(part.down), _numbers(part.up)
    if low is not None and high is not None:
        weight = weight + np.tensordot(high, low, axes=1)
    own, shift = _numbers(part.head_weight), _numbers(part.head_bias)
    if own is None:
        return weight, bias
    weight = np.zeros_like(weight)
    weight[part.outputs] = own
    if bias is not None and shift is not None:
        bias = np.zeros_like(bias)
        bias[part.outputs] = shift
    return weight, bias


def _charged(
    gain: np.ndarray | None, shift: np.ndarray | None, steps: int, channels: int, neuron: LIFParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Gain and shift ``[T, C]`` of neurons that begin charged: what is left of the charge is current of step 1.

    Args:
        gain: of the layer's norm, or None.
        shift: likewise, or its bias.
        steps: T.
        channels: C.
        neuron: with its ``start``.
    """
    whole = np.ones((steps, channels), np.float32) if gain is None else np.broadcast_to(gain, (steps, channels))
    added = np.array(np.broadcast_to(0.0 if shift is None else shift, (steps, channels)), np.float64)
    added[0] += neuron.decay * neuron.start * neuron.v_threshold / neuron.gain if neuron.gain else 0.0
    return np.ascontiguousarray(whole, np.float32), added.astype(np.float32)


def _gain(layer: PlannedLayer) -> np.ndarray | None:
    """What learnt thresholds multiply currents by, float64 ``[C]`` or ``[1]``; None where none are learnt."""
    thresholds = getattr(layer, "thresholds", None)
    return None if thresholds is None else _numbers(thresholds.gain())


def _affine(norm: Norm, steps: int, neuron: LIFParameters | None) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift that the norm is in evaluation mode, float64 ``[C]`` or ``[T, C]``."""
    norm.check_steps(steps)
    mean = _numbers(norm.running_mean)
    variance = _numbers(norm.running_var)
    assert mean is not None and variance is not None
    theta = norm.theta if neuron is None else neuron.v_threshold
    scale = norm.alpha * theta if norm.mode == "tdbn" else 1.0
    factor = scale / np.sqrt(variance + norm.eps)
    learnt = _numbers(norm.weight)
    factor = factor if learnt is None else factor * learnt
    bias = _numbers(norm.bias)
    return factor, -mean * factor + (0.0 if bias is None else bias)


def _numbers(tensor: torch.Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().cpu().double().numpy()


def _single(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.ascontiguousarray(array, dtype=np.float32)
