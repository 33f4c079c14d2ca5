"""SNASNet's macro-network: two cells of one design, the second on half the map with twice the channels; a vote."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from spikefed.errors import ConfigError
from spikefed.networks.cells import CIFAR10, CIFAR100, Cell, add_cell
from spikefed.networks.graph import INPUT, Graph, Node
from spikefed.networks.graph.draw import Drawing
from spikefed.networks.layers import WeightedLayer
from spikefed.networks.layout import strided
from spikefed.networks.network import LayeredNetwork
from spikefed.networks.pools import Pool
from spikefed.networks.zoo.info import NetworkInfo, Wanted
from spikefed.networks.zoo.resnets import readout
from spikefed.networks.zoo.rows import SMALL_NEURON, TICKET_NEURON
from spikefed.networks.zoo.sizes import read_sizes

PREFIX = "cell:"
FEW_INPUTS = 8192
"""Inputs of the narrowest published hidden layer, from which on its weights are N(0, 0.01^2) as published."""


@dataclass(frozen=True)
class CellNet:
    """Sizes of the network around the cells.

    Attributes:
        width: channels of the first cell; the second has twice as many.
        hidden: features of the hidden linear layer.
        vote: neurons that vote for each class; 0 for the paper's choice, 10 up to 10 classes, 5 for more.
        pool: side of the last pool.
        stem: stride of the first convolution.
        dropout: before the hidden layer, for all time steps alike.
    """

    width: int = 128
    hidden: int = 1024
    vote: int = 0
    pool: int = 2
    stem: int = 1
    dropout: float = 0.5

    def __post_init__(self) -> None:
        least = {"width": 1, "hidden": 1, "vote": 0, "pool": 1, "stem": 1, "dropout": 0}
        for key, smallest in least.items():
            if not smallest <= getattr(self, key) or (key == "dropout" and self.dropout >= 1):
                wanted = "from 0 to below 1" if key == "dropout" else f"from {smallest} up"
                raise ConfigError(f"'{key}' = {getattr(self, key)} of a cell network is out of range; set it {wanted}")

    def draw(self, cell: Cell, *, plain: bool = False) -> Callable[[Wanted], Graph]:
        """The drawing of a network with two such cells.

        Args:
            cell: of both places.
            plain: a norm before the hidden layer's neurons, and no vote.
        """
        return lambda wanted: _drawn(self, cell, wanted, plain)


def _drawn(net: CellNet, cell: Cell, wanted: Wanted, plain: bool) -> Graph:
    d = Drawing()
    width = net.width
    side = strided(wanted.side, net.stem)
    stem = Node(name="stem", weights="conv", features=width, stride=net.stem, norm=True, bias=False)
    at = add_cell(d, "cell1", cell, width, d.add(stem, INPUT))
    at = d.add(Node(name="down.fire", norm=True, neuron=True), at)
    smaller = _Smaller(wanted, min(2, side))
    down = Node(name="down.conv", weights="conv", features=2 * width, norm=True, bias=False)
    at = d.add(replace(down, stride=smaller.stride, pool=smaller.pool), at)
    at = add_cell(d, "cell2", cell, 2 * width, at)
    smaller = _Smaller(wanted, min(net.pool, smaller.side(side)))
    fire = Node(name="last", norm=True, neuron=True, pool=smaller.pool, dropout=net.dropout)
    if smaller.stride == 1:
        at = d.add(fire, at)
    else:  # no convolution stands before the last pool, so one with neurons of its own takes its place
        at = d.add(replace(fire, dropout=0.0), at)
        last = replace(down, name="last.conv", stride=smaller.stride, neuron=True, dropout=net.dropout)
        at = d.add(last, at)
    at = d.add(Node(name="fc1", weights="linear", features=net.hidden, norm=plain, neuron=True, bias=False), at)
    return d.graph(_voted(d, at, 1 if plain else net.vote or (10 if wanted.classes <= 10 else 5), wanted))


@dataclass(frozen=True)
class _Smaller:
    """How a map becomes smaller by a factor: a pool, or a stride of the convolution before it."""

    wanted: Wanted
    factor: int

    @property
    def stride(self) -> int:
        return self.factor if self.wanted.pooling == "stride" else 1

    @property
    def pool(self) -> Pool | None:
        if self.factor == 1 or self.wanted.pooling == "stride":
            return None
        return Pool("max" if self.wanted.pooling == "max" else "average", size=self.factor)

    def side(self, before: int) -> int:
        return before // self.factor if self.pool else strided(before, self.stride)


def _voted(d: Drawing, at: str, voters: int, wanted: Wanted) -> str:
    """The last layer: so many neurons for each class, whose mean counts."""
    if voters == 1:
        return d.add(readout("fc2", wanted), at)
    at = d.add(Node(name="fc2", weights="linear", features=voters * wanted.classes, bias=True), at)
    normed = wanted.spiking and wanted.normed_readout
    return d.add(Node(name="vote", features=wanted.classes, norm=normed, neuron=wanted.spiking), at)


@torch.no_grad()
def initialise_cells(net: LayeredNetwork, generator: torch.Generator) -> None:
    """Draw all weights in order, in place, as SNASNet's public code does; biases 0.

    Convolutions uniform in +-sqrt(6 / ((1 + a^2) fan_in)) with a = 2 (He et al. 2015), linear layers N(0, 0.01^2).
    Few inputs to neurons would leave them silent: below `FEW_INPUTS` their weights are N(0, 1 / fan_in) instead.
    """
    for layer in net.layers:
        _draw(layer, generator)


@torch.no_grad()
def initialise_by_place(net: LayeredNetwork, seed: int) -> None:
    """Draw the weights of every layer from the seed and the layer's name, in place, otherwise as `initialise_cells`.

    Networks of different cells then have the same weights where they have the same layers: a search compares cells
    and not draws.
    """
    for name, layer in net.named_modules():
        if isinstance(layer, WeightedLayer):
            of_both = zlib.crc32(f"{seed}:{name}".encode())  # torch's host generator looks at 32 bits of a seed
            _draw(layer, torch.Generator().manual_seed(of_both))


def _draw(layer: WeightedLayer, generator: torch.Generator) -> None:
    if layer.plan.kind == "conv":
        bound = math.sqrt(6 / (5 * layer.weight[0].numel()))
        layer.weight.uniform_(-bound, bound, generator=generator)
    else:
        fires = getattr(layer, "neuron", None) is not None or getattr(layer, "rectify", False)
        few = FEW_INPUTS if fires else 0
        fan_in = layer.weight.shape[1]
        layer.weight.normal_(0, 1 / math.sqrt(fan_in) if fan_in < few else 0.01, generator=generator)
    if layer.bias is not None:
        layer.bias.zero_()


_PAPER = NetworkInfo(
    name="cell",
    summary="",
    source="Kim et al., ECCV 2022",
    layout=None,
    neuron=TICKET_NEURON,
    norm="bn-step",
    coding="direct",
    bias="auto",
    readout_norm=True,
    xavier_gain=None,
    pixels="standard",
    initial=initialise_cells,
)


def cell_info(name: str) -> NetworkInfo:
    """Defaults of the network that ``name`` spells: ``cell:ROWS``, or ``cell:ROWS:width=32,hidden=256``.

    Keys are the fields of `CellNet`.

    Raises:
        ConfigError: a cell that is none, or has no way to its output; an unknown key; a value out of range.
    """
    matrix, _, text = name.removeprefix(PREFIX).partition(":")
    cell = Cell.parse(matrix)
    if not cell.alive:
        raise ConfigError(f"no way leads from node 0 to node 3 of cell '{cell}'; set the entry in row 0 at place 3")
    return replace(_PAPER, name=name, graph=read_sizes(CellNet, text, name).draw(cell))


SNASNETS = (
    replace(
        _PAPER,
        name="snasnet-cifar10",
        summary="SNASNet with its released CIFAR10 cell, which feeds back (19.5 M weights at 3x32x32)",
        graph=CellNet(width=256, vote=10, pool=4).draw(CIFAR10),
    ),
    replace(
        _PAPER,
        name="snasnet-cifar100",
        summary="SNASNet with its released CIFAR100 cell, which feeds back (20.2 M weights at 3x32x32)",
        graph=CellNet(width=128, vote=5, pool=2).draw(CIFAR100),
    ),
    replace(
        _PAPER,
        name="snasnet-small",
        summary="SNASNet's CIFAR10 cell at a width of 16, under 300,000 weights, without vote and dropout",
        source="this project",
        neuron=SMALL_NEURON,
        pixels="unit",
        initial=None,
        graph=CellNet(width=16, hidden=128, pool=4, dropout=0.0).draw(CIFAR10, plain=True),
    ),
)
