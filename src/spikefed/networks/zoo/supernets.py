"""Supernets: a row of blocks, each the sum of branches over the operations of cells; a subnet leaves branches out.

``supernet:12334-12334-12334:width=16`` has three blocks of five branches: skip, convolution 1x1, two of 3x3, and mean
over 3x3 windows (the codes of `spikefed.networks.cells`). A 0 leaves a branch out and keeps the places of the others:
``supernet:00330-02000-10004:width=16`` is a subnet of it, with tensors of the same names.

A block adds up what its branches make of the same spikes, normalises the sum, and fires. Every branch ends in a norm,
those without weights too: a branch whose tensors are all 0 then adds exactly nothing, in training as in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from spikefed.errors import ConfigError
from spikefed.networks.cells import NONE, CellOp, cell_ops
from spikefed.networks.graph import INPUT, Graph, Node
from spikefed.networks.graph.draw import Drawing
from spikefed.networks.layout import strided
from spikefed.networks.pools import Pool
from spikefed.networks.zoo.info import NetworkInfo, Wanted, own_info
from spikefed.networks.zoo.resnets import readout
from spikefed.networks.zoo.rows import SMALL_NEURON
from spikefed.networks.zoo.sizes import read_sizes

SUPER = "supernet:"


@dataclass(frozen=True)
class SuperNet:
    """Sizes around the branches.

    Attributes:
        width: channels everywhere.
        stem: stride of the first convolution.
    """

    width: int = 16
    stem: int = 1

    def __post_init__(self) -> None:
        for key in ("width", "stem"):
            if getattr(self, key) < 1:
                raise ConfigError(f"'{key}' = {getattr(self, key)} of a supernet is out of range; set it from 1 up")

    def draw(self, rows: tuple[str, ...]) -> Callable[[Wanted], Graph]:
        """The drawing of a supernet, or subnet, with these branches, a row of codes for each block."""
        return lambda wanted: _drawn(self, rows, wanted)

    def spelt(self, rows: tuple[str, ...]) -> str:
        """The name of the network with these branches."""
        return f"{SUPER}{'-'.join(rows)}:width={self.width}" + (f",stem={self.stem}" if self.stem > 1 else "")


def parse_supernet(name: str) -> tuple[tuple[str, ...], SuperNet]:
    """The branches of each block, and the sizes, that ``name`` spells.

    Raises:
        ConfigError: an unknown operation, a block without a branch, an unknown key, a value out of range.
    """
    text, _, sizes = name.removeprefix(SUPER).partition(":")
    rows = tuple(text.split("-"))
    known = {NONE: "none"} | {op.code: op.name for op in cell_ops()}
    for number, row in enumerate(rows, start=1):
        strange = [code for code in row if code not in known]
        if strange:
            told = ", ".join(f"{code} {op}" for code, op in known.items())
            raise ConfigError(f"'{strange[0]}' in network.name '{name}' stands for no operation; use {told}")
        if not row.strip(NONE):
            raise ConfigError(
                f"block {number} of network.name '{name}' has no branch; give it at least one operation, as in "
                f"{SUPER}12334-12334-12334"
            )
    return rows, read_sizes(SuperNet, sizes, name)


def supernet_info(name: str) -> NetworkInfo:
    """Defaults of the supernet that ``name`` spells.

    Raises:
        ConfigError: see `parse_supernet`.
    """
    rows, sizes = parse_supernet(name)
    return own_info(
        name=name,
        summary="",
        neuron=SMALL_NEURON,
        graph=sizes.draw(rows),
    )


def branch_name(block: int, place: int) -> str:
    """Name of a branch's node; both from 1."""
    return f"block{block}.branch{place}"


def _drawn(net: SuperNet, rows: tuple[str, ...], wanted: Wanted) -> Graph:
    if wanted.pooling == "stride":
        raise ConfigError(
            "the blocks of a supernet pool behind their sums, where no convolution could take a stride instead; set "
            "network.pooling = 'average' or 'max'"
        )
    ops = {op.code: op for op in cell_ops()}
    d = Drawing()
    at = d.add(
        Node(name="stem", weights="conv", features=net.width, stride=net.stem, norm=True, neuron=True, bias=False),
        INPUT,
    )
    side = strided(wanted.side, net.stem)
    for block, row in enumerate(rows, start=1):
        branches = [
            d.add(_branch(ops[code], branch_name(block, place), net.width), at)
            for place, code in enumerate(row, start=1)
            if code != NONE
        ]
        pool = Pool("max" if wanted.pooling == "max" else "average") if block < len(rows) and side > 1 else None
        side = side // 2 if pool else side
        at = d.add(Node(name=f"block{block}.fire", norm=True, neuron=True, pool=pool), *branches)
    return d.graph(d.add(readout("fc", wanted), at))


def _branch(op: CellOp, name: str, width: int) -> Node:
    """An operation with a norm behind it; its neurons are those of the block before."""
    node = Node(name=name) if op.node is None else op.node(name, width)
    return replace(node, norm=True)
