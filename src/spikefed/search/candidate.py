"""What is known of a cell's network before it is trained: its size, its work, how its neurons answer a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from torch import Tensor

from spikefed.networks import GraphNetwork, PassLayer, SpikingLayer, build, describe, initialise_by_place
from spikefed.networks.cells import Cell
from spikefed.networks.graph import ANNGraphNetwork
from spikefed.neurons import pair
from spikefed.search.kernels import Evidence
from spikefed.search.shared import Memory, Watching


@dataclass(frozen=True)
class Macro:
    """The network around the cells of a search.

    Attributes:
        sizes: keys of ``cell:ROWS:KEYS``, such as ``width=8,hidden=64``; dropout is 0 while cells are scored, for it
            would be noise.
        input_shape: of one image, ``(C, H, W)``.
        classes: number of classes.
        steps: T.
        options: further arguments of `spikefed.networks.build` (norm, coding, neuron, pooling).
    """

    sizes: str
    input_shape: tuple[int, ...]
    classes: int
    steps: int
    options: Mapping[str, object]

    def name(self, cell: Cell) -> str:
        """Name under which an experiment has the cell's network."""
        return f"cell:{cell.canonical}" + (f":{self.sizes}" if self.sizes else "")

    def network(self, cell: Cell, seed: int) -> GraphNetwork:
        """Untrained, weights by place; its output neurons do not spike, as in the public code.

        Raises:
            ConfigError: sizes that no network has.
        """
        sizes = ",".join([*filter(None, [self.sizes]), "dropout=0"])
        net = build(
            f"cell:{cell.canonical}:{sizes}",
            input_shape=self.input_shape,
            classes=self.classes,
            steps=self.steps,
            readout="current",
            **self.options,  # type: ignore[arg-type]
        )
        assert isinstance(net, GraphNetwork)
        initialise_by_place(net, seed)
        return net


@dataclass(frozen=True)
class Size:
    """What a network takes, whatever it is shown.

    Attributes:
        parameters: numbers that are trained.
        macs: multiply-accumulates of one dense inference, all steps.
        flash_bytes: all its tensors.
        ram_bytes: float32 potentials of all neurons, and the largest layer's input and output, one step at a time.
    """

    parameters: int
    macs: int
    flash_bytes: int
    ram_bytes: int


def size_of(net: GraphNetwork | ANNGraphNetwork) -> Size:
    """The size of a network of cells, or of another graph."""
    told = describe(net)
    neurons = 0
    largest = 0
    for node in net.graph.nodes:
        plan = cast(SpikingLayer | PassLayer, net.get_submodule(node.name)).plan
        neurons += torch.Size(plan.map_shape).numel() if node.neuron else 0
        largest = max(largest, torch.Size(plan.in_shape).numel() + torch.Size(plan.out_shape).numel())
    return Size(told.parameters, told.macs_per_inference, told.state_bytes, 4 * (neurons + largest))


@dataclass(frozen=True)
class Answers:
    """How an untrained network's neurons answer images.

    Attributes:
        evidence: Hamming kernels of all spiking layers.
        image_spikes: spikes an image, all neurons and steps.
        image_sops: weights that spikes touch, an image; at a map's border as inside it.
    """

    evidence: Evidence
    image_spikes: float
    image_sops: float


@torch.no_grad()
def answers(net: GraphNetwork, cell: Cell | None, batches: Sequence[Tensor], memory: Memory) -> list[Answers]:
    """Show batches of images to a cell's untrained network, norms in training mode as in the public code.

    Args:
        net: of `Macro.network`, or another graph of spiking layers; changed in place.
        cell: that the network is made of; None for another network, whose neurons count once.
        batches: preprocessed images ``[B, C, H, W]`` each.
        memory: of networks that saw the same batches, drawn with the same seed.
    """
    fan_out = _fan_out(net)
    watching = Watching(net.train(), cell, memory)
    found = []
    for number, x in enumerate(batches):
        net.check_input(x)
        total = Evidence.none(len(x))
        sops = 0.0
        for name, seen in watching.show(number, x, torch.Generator().manual_seed(number)):
            total = total + seen
            sops += seen.spikes * fan_out[name]
        found.append(Answers(total, total.spikes / len(x), sops / len(x)))
    return found


def saliency(net: GraphNetwork, batches: Sequence[Tensor], seed: int) -> list[float]:
    """SNIP of every batch: sum of |w dL/dw| over all weights (Lee, Ajanthan, Torr, ICLR 2019, eq. 4, unnormalised).

    L is the cross-entropy of the mean output over time. The images' own labels may not be at hand (a public set has
    none), so that labels are drawn; of an untrained network both tell how far gradients reach. Norms are in training
    mode, as in `answers`.

    Args:
        net: of `Macro.network`, not yet watched.
        batches: preprocessed images ``[B, C, H, W]`` each.
        seed: of the labels.
    """
    weights = [layer.weight for layer in net.train().layers]
    found = []
    for number, x in enumerate(batches):
        draw = torch.Generator().manual_seed(seed)
        labels = torch.randint(net.classes, (len(x),), generator=draw)
        outputs = net(x, generator=torch.Generator().manual_seed(number)).mean(dim=0)
        loss = torch.nn.functional.cross_entropy(outputs, labels)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)  # what is read back in time only, at T = 1
        pairs = zip(weights, gradients, strict=True)
        products = [w.detach() * g for w, g in pairs if g is not None]
        found.append(sum(float(product.abs().sum(dtype=torch.float64)) for product in products))
    return found


def _fan_out(net: GraphNetwork) -> dict[str, int]:
    """Weights that a spike of each node with neurons touches."""
    found = {}
    for node in net.graph.nodes:
        if not node.neuron:
            continue
        following = [edge.target for edge in net.graph.edges if edge.source == node.name]
        layers = [net.get_submodule(name) for name in following]
        found[node.name] = sum(_touched(layer) for layer in layers if isinstance(layer, SpikingLayer))
    return found


def _touched(layer: SpikingLayer) -> int:
    window = layer.weight[0, 0].numel() if layer.plan.kind == "conv" else 1
    return layer.weight.shape[0] * window // prod(pair(layer.plan.strides))
