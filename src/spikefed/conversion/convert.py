"""A spiking network out of a trained ANN twin, layer by layer, with the thresholds in its weights.

Batch norm is folded first. Thresholds go into weights, so that every neuron is the same integrate-and-fire neuron
with threshold 1, which all kernels, probes and exports know:

    W'_l = W_l * theta_{l-1} / theta_l,   b'_l = b_l / theta_l,   u_0 = 1/2,   reset by subtraction

The last layer keeps its currents: their mean over T are the ANN's logits, but for the error of the layers before.
``compensate`` takes the mean of that error over the calibration images out of the biases (Li et al., ICML 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.conversion.thresholds import Recipe, thresholds
from spikefed.errors import ConfigError, DataError
from spikefed.interop import flat
from spikefed.interop.flat import FlatNode
from spikefed.networks import QCFS, ANNNetwork, SpikingNetwork, build
from spikefed.networks.layers import SpikingLayer
from spikefed.networks.layout import LayerPlan
from spikefed.networks.pools import Pooling
from spikefed.neurons import LIFParameters, Triangle

MOST_STEPS = 64
"""Of a network that an experiment can hold."""


def spiking_neuron(start: float) -> LIFParameters:
    """Integrate and fire, threshold 1, reset by subtraction; the surrogate is for who trains on (PrivateSNN)."""
    return LIFParameters(
        kind="soft", decay=1.0, v_threshold=1.0, strict=False, surrogate=Triangle(0.3), detach_reset=True, start=start
    )


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted network, and how it came about.

    Attributes:
        network: spiking; its mean outputs stand for the ANN's logits.
        layout: its layers, as ``network.name`` of an experiment says them.
        pooling: what makes its maps smaller.
        thresholds: of every hidden layer by name, ``[C]``, in units of the ANN's activations.
        errors: of every layer by name, mean absolute difference to the ANN as a share of the ANN's mean activation.
    """

    network: SpikingNetwork
    layout: str
    pooling: Pooling
    thresholds: dict[str, Tensor]
    errors: dict[str, float]


@torch.no_grad()
def convert(
    ann: nn.Module,
    images: Float[Tensor, "N C H W"],
    *,
    steps: int,
    recipe: Recipe = "local",
    start: float = 0.5,
    compensate: bool = True,
) -> Conversion:
    """Convert an ANN twin whose layers stand in a row.

    Args:
        ann: trained; it stays as it is.
        images: network input of calibration images, at least one.
        steps: T, 1 to 64.
        recipe: how thresholds are found, one of `RECIPES`; or ``qcfs``: those that the ANN learnt.
        start: potential before the first step as a share of the threshold.
        compensate: take mean errors out of the readout's biases, with ``local`` out of those of every layer.

    Raises:
        ConfigError: no ANN twin of a row of layers, max pools, no linear classifier at its end, T or recipe that are
            none, or ``qcfs`` of an ANN with ReLU.
        DataError: no images.
    """
    check_wanted(steps, recipe)
    nodes = check_convertible(ann)
    if not len(images):
        raise DataError("the calibration set is empty; give at least one image, better some hundred")
    assert isinstance(ann, ANNNetwork)
    learnt = _learnt(ann, recipe)
    plans = [layer.plan for layer in ann.layers]
    layout, pooling = _layout(ann.name, plans)
    shape = ann.input_shape
    net = build(
        layout, input_shape=shape, classes=ann.classes, steps=steps, norm="none", coding="direct",
        neuron=spiking_neuron(start), readout="current", pooling=pooling,
    )  # fmt: skip
    net.eval()
    work = _Work(net, images, recipe, compensate)
    for node, layer, activation in zip(nodes, net.layers, learnt, strict=True):
        assert isinstance(layer, SpikingLayer)
        work.take(node, layer, activation)
    return Conversion(net, layout, pooling, work.thresholds, work.errors)


def check_wanted(steps: int, recipe: str) -> None:
    """Raise ConfigError unless steps and recipe are what `convert` takes."""
    if not 1 <= steps <= MOST_STEPS:
        raise ConfigError(
            f"a converted network has 1 to {MOST_STEPS} time steps but {steps} were asked for; 8 is a good start"
        )
    if recipe not in get_args(Recipe):
        raise ConfigError(f"recipe '{recipe}' is not known; use one of {', '.join(get_args(Recipe))}")


def _learnt(ann: ANNNetwork, recipe: str) -> list[QCFS | None]:
    """What stands in the place of ReLU in every layer, where anything does; ConfigError if the recipe needs it."""
    found: list[QCFS | None] = [getattr(layer, "qcfs", None) for layer in ann.layers]
    if recipe == "qcfs" and not any(found):
        raise ConfigError(
            f"network {ann.name} was trained with ReLU, so that recipe 'qcfs' finds no learnt thresholds; train it "
            "with network.qcfs = 8, or use recipe 'local'"
        )
    return found


class _Work:
    """Goes through the layers of both networks side by side."""

    def __init__(self, net: SpikingNetwork, images: Tensor, recipe: Recipe, compensate: bool) -> None:
        self.steps = net.steps
        self.recipe: Recipe = recipe
        self.compensate = compensate
        self.wanted = images  # what enters the layer in the ANN
        self.given = images  # what enters it in the spiking network, [T*N, ...] behind the first layer
        self.repeat = True
        self.scale = images.new_ones(images.shape[1])  # what a spike of each entering channel stands for
        self.thresholds: dict[str, Tensor] = {}
        self.errors: dict[str, float] = {}

    def take(self, node: FlatNode, layer: SpikingLayer, activation: QCFS | None = None) -> None:
        """Fill the next spiking layer; ``activation``: of the ANN's layer, in place of ReLU."""
        assert node.weight is not None and layer.bias is not None
        weight = torch.from_numpy(node.weight)
        bias = torch.zeros(len(weight)) if node.shift is None else torch.from_numpy(node.shift.reshape(-1))
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        wanted = layer.currents(self.wanted)
        entering = weight.shape[1] // len(self.scale)  # a flattened map has many features a channel
        spread = self.scale.repeat_interleave(entering).reshape(1, -1, *[1] * (weight.dim() - 2))
        layer.weight.copy_(weight * spread)
        start = 0.0 if layer.neuron is None else layer.neuron.start
        if layer.neuron is None:
            self._readout(node.name, layer, wanted)
            return
        wanted = wanted.clamp_min(0) if activation is None else activation(wanted)
        if self.recipe == "qcfs":
            assert activation is not None
            theta = activation.threshold.expand(len(weight)).clone()
        else:
            theta = thresholds(wanted, layer.currents(self._mean(self.given)), self.recipe, self.steps, start)
        layer.weight.div_(theta.reshape(-1, *[1] * (weight.dim() - 1)))
        layer.bias.div_(theta)
        each = theta.reshape(1, -1, *[1] * (wanted.dim() - 2))
        wanted = layer.pooled(wanted)
        spikes = layer(self.given, self.steps, self.repeat)
        if self.compensate and self.recipe == "local":
            layer.bias.add_(_by_channel(wanted - each * self._over_time(spikes)) / theta)
            spikes = layer(self.given, self.steps, self.repeat)
        self._note(node.name, wanted, each * self._over_time(spikes))
        self.thresholds[node.name] = theta
        self.wanted = wanted
        self.given = spikes
        self.repeat = False
        self.scale = theta

    def _readout(self, name: str, layer: SpikingLayer, logits: Tensor) -> None:
        found = layer.currents(self._mean(self.given))
        if self.compensate and layer.bias is not None:
            layer.bias.add_((logits - found).mean(dim=0))
            found = layer.currents(self._mean(self.given))
        self._note(name, logits, found)

    def _mean(self, values: Tensor) -> Tensor:
        return values if self.repeat else self._over_time(values)

    def _over_time(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (self.steps, -1)).mean(dim=0)

    def _note(self, name: str, wanted: Tensor, found: Tensor) -> None:
        self.errors[name] = float((wanted - found).abs().mean() / wanted.abs().mean().clamp_min(1e-12))


def _by_channel(values: Tensor) -> Tensor:
    """Means of ``[N, C, ...]`` by channel."""
    return values.transpose(0, 1).flatten(1).mean(dim=1)


def check_convertible(ann: nn.Module) -> Sequence[FlatNode]:
    """The layers in order, batch norm folded, if they can be converted.

    Raises:
        ConfigError: they cannot; the text says why, and the cure.
    """
    if isinstance(ann, SpikingNetwork):
        raise ConfigError(
            "this network spikes already; a conversion begins from an ANN twin, trained with network.twin = 'ann'"
        )
    if not isinstance(ann, ANNNetwork):
        raise ConfigError(
            "only an ANN twin of a network of the zoo can be converted, not a module of your own; train one with "
            "network.twin = 'ann'"
        )
    nodes = flat(ann, quantised=True).nodes
    if len(nodes) != len(ann.layers) or any(len(node.sources) != 1 for node in nodes):
        raise ConfigError(
            f"network {ann.name} branches, and where branches meet no one threshold fits both; convert a network whose "
            "layers stand in a row, such as small, vgg-small or vgg5"
        )
    if any(node.pool is not None and node.pool.kind == "max" for node in nodes):
        raise ConfigError(
            f"network {ann.name} has max pools, and the largest of some spike trains is not the spike train of the "
            "largest; train the ANN with network.pooling = 'average' or 'stride'"
        )
    last = nodes[-1]
    if last.kind != "linear" or last.rectify or last.pool is not None:
        raise ConfigError(f"network {ann.name} does not end in a linear classifier; give one whose last layer is one")
    return nodes


def _layout(name: str, plans: Sequence[LayerPlan]) -> tuple[str, Pooling]:
    """The layers as a layout that builds them again, and what makes maps smaller."""
    tokens = []
    pooling: Pooling = "average"
    for plan in plans[:-1]:
        if plan.kind == "linear":
            tokens.append(f"{plan.map_shape[0]}FC")
            continue
        tokens.append(f"{plan.map_shape[0]}C{'1x' if plan.line else ''}{plan.kernel}")
        if plan.stride == 2:
            pooling = "stride"
        if plan.pool or plan.stride == 2:
            tokens.append("GAP" if plan.pool and plan.window.size == 0 else "AP1x2" if plan.line else "AP2")
    if not tokens:
        raise ConfigError(f"network {name} has no hidden layer, so nothing in it spikes; give one with a hidden layer")
    return "-".join(tokens), pooling
