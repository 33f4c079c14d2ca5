"""Cells: four nodes and what happens on the ways between them, forward and backward in time.

The space of SNASNet (Kim, Li, Park, Venkatesha, Panda, "Neural architecture search for spiking neural networks", ECCV
2022; details from its public code). A cell is a 4x4 matrix; entry [i, j] is the operation from node i to node j. Node 0
takes the input, node 3 gives the output, every node adds up what arrives. An entry above the diagonal works within a
time step, one below it delivers what node i gave at step t - 1 to node j at step t. No operation changes the number of
channels or the size of the map.

A cell is written as its rows, joined by ``-``: ``0303-0030-2002-0200``. This module knows cells as such; networks made
of them are `spikefed.networks.zoo`'s (``cell:0303-0030-2002-0200:width=32``), and what a search does with them is the
search's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import torch

from spikefed.errors import ConfigError
from spikefed.networks.graph import Node
from spikefed.networks.graph.draw import Drawing
from spikefed.networks.pools import Pool

NODES = 4
NONE = "0"
"""Code of no operation."""


@dataclass(frozen=True)
class CellOp:
    """An operation from one node of a cell to another.

    Attributes:
        code: the character that stands for it in a matrix.
        name: one word.
        summary: one line.
        node: draws it from its name and the number of channels; None for values that pass as they are.
        spiking: spiking neurons stand before it. All operations that leave a node share them: the same neurons on the
            same values would spike alike.
    """

    code: str
    name: str
    summary: str
    node: Callable[[str, int], Node] | None
    spiking: bool = False


def _conv(kernel: int) -> Callable[[str, int], Node]:
    return lambda name, channels: Node(
        name=name, weights="conv", features=channels, kernel=kernel, norm=True, bias=False
    )


def _even(name: str, channels: int) -> Node:
    return Node(name=name, pool=Pool(size=3, stride=1, padding=1))


_OPS = {
    op.code: op
    for op in (
        CellOp("1", "skip", "values as they are", None),
        CellOp("2", "conv1x1", "neurons, convolution 1x1, norm", _conv(1), spiking=True),
        CellOp("3", "conv3x3", "neurons, convolution 3x3, norm", _conv(3), spiking=True),
        CellOp("4", "pool3x3", "mean over 3x3 windows", _even),
    )
}


def cell_ops() -> list[CellOp]:
    """All operations but none, by code."""
    return [_OPS[code] for code in sorted(_OPS)]


def register_op(op: CellOp) -> None:
    """Add an operation; its code then stands for it in every matrix of this process.

    Raises:
        ConfigError: a code that is taken, or no single letter or digit.
    """
    if op.code == NONE or op.code in _OPS:
        taken = _OPS[op.code].name if op.code in _OPS else "none"
        raise ConfigError(f"code '{op.code}' of operation '{op.name}' already stands for '{taken}'; choose another")
    if len(op.code) != 1 or not op.code.isalnum():
        raise ConfigError(f"code '{op.code}' of operation '{op.name}' is not one letter or digit; choose another")
    _OPS[op.code] = op


@dataclass(frozen=True)
class Cell:
    """A matrix of operations.

    Attributes:
        rows: four strings of four codes; ``rows[i][j]`` is the operation from node i to node j.

    Raises:
        ConfigError: no 4x4 matrix, an unknown code, an operation from a node to itself.

    >>> cell = Cell.parse("0303-0030-2002-0200")
    >>> cell.edges[0], cell.backward, str(cell)
    ((0, 1, '3'), True, '0303-0030-2002-0200')
    """

    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.rows) != NODES or any(len(row) != NODES for row in self.rows):
            raise ConfigError(
                f"cell '{self}' is not {NODES} rows of {NODES} codes; write it as 0303-0030-2002-0200, with the "
                "operation from node i to node j in row i at place j"
            )
        known = {NONE: "none"} | {code: op.name for code, op in sorted(_OPS.items())}
        strange = [code for row in self.rows for code in row if code not in known]
        if strange:
            told = ", ".join(f"{code} {name}" for code, name in known.items())
            raise ConfigError(f"'{strange[0]}' in cell '{self}' stands for no operation; use {told}")
        loops = [i for i in range(NODES) if self.rows[i][i] != NONE]
        if loops:
            raise ConfigError(f"cell '{self}' has an operation from node {loops[0]} to itself; write 0 on the diagonal")

    @classmethod
    def parse(cls, text: str) -> Cell:
        """The cell that ``text`` spells: rows joined by ``-``.

        Raises:
            ConfigError: see `Cell`.
        """
        return cls(tuple(text.split("-")))

    @classmethod
    def of(cls, edges: Sequence[tuple[int, int, str]]) -> Cell:
        """The cell with these operations ``(i, j, code)`` and no others."""
        table = [[NONE] * NODES for _ in range(NODES)]
        for i, j, code in edges:
            table[i][j] = code
        return cls(tuple("".join(row) for row in table))

    def __str__(self) -> str:
        return "-".join(self.rows)

    @property
    def edges(self) -> tuple[tuple[int, int, str], ...]:
        """Operations ``(i, j, code)`` row by row, those that are none left out."""
        return tuple((i, j, code) for i, row in enumerate(self.rows) for j, code in enumerate(row) if code != NONE)

    @property
    def backward(self) -> bool:
        """Whether an operation goes backward in time."""
        return any(i > j for i, j, _ in self.edges)

    @property
    def alive(self) -> tuple[int, ...]:
        """Nodes on a way from node 0 to node 3, be it through time; empty when there is no way."""
        reached, reaching = {0}, {NODES - 1}
        for _ in range(NODES):
            reached |= {j for i, j, _ in self.edges if i in reached}
            reaching |= {i for i, j, _ in self.edges if j in reaching}
        return tuple(sorted(reached & reaching)) if NODES - 1 in reached else ()

    @property
    def canonical(self) -> Cell:
        """The cell without nodes that no way from node 0 to node 3 passes: all of them compute the same.

        (In the public code an operation from such a node that normalises would add its norm's shift, a constant.)
        """
        alive = set(self.alive)
        return Cell.of([(i, j, code) for i, j, code in self.edges if i in alive and j in alive])

    @property
    def in_space(self) -> bool:
        """Whether SNASNet's search takes it: node 0 leads straight to node 3, and no two nodes lead to each other."""
        double = any(self.rows[i][j] != NONE != self.rows[j][i] for i, j in combinations(range(NODES), 2))
        return self.rows[0][NODES - 1] != NONE and not double


CIFAR10 = Cell.parse("0303-0030-2002-0200")
"""SNASNet's released cell for CIFAR10."""
CIFAR100 = Cell.parse("0302-0030-3003-0000")
"""SNASNet's released cell for CIFAR100."""


def all_cells(backward: bool, codes: Sequence[str] = "01234") -> Iterator[Cell]:
    """Every matrix of the space, those that `Cell.in_space` refuses too: 15,625 forward, 531,441 backward ones.

    Args:
        backward: a pair of nodes is joined one way or the other, not only forward.
        codes: of the operations; without "0" every pair of nodes is joined, as in `draw_cell`.
    """
    some = [code for code in codes if code != NONE]
    none = [(0, NONE)] if NONE in codes else []
    ways = none + [(0, code) for code in some] + ([(1, code) for code in some] if backward else [])
    pairs = list(combinations(range(NODES), 2))
    for choice in product(ways, repeat=len(pairs)):
        ends = zip(pairs, choice, strict=True)
        yield Cell.of([(j, i, code) if turned else (i, j, code) for (i, j), (turned, code) in ends])


def draw_cell(generator: torch.Generator, backward: bool, codes: Sequence[str] = "01234") -> Cell:
    """A random cell of the space, drawn as SNASNet does: for each pair of nodes a fair coin for the direction (if
    ``backward``), then an operation uniformly; again until `Cell.in_space`.
    """
    while True:
        edges = []
        for i, j in combinations(range(NODES), 2):
            turned = backward and int(torch.randint(2, (), generator=generator)) == 1
            code = codes[int(torch.randint(len(codes), (), generator=generator))]
            edges.append((j, i, code) if turned else (i, j, code))
        cell = Cell.of(edges)
        if cell.in_space:
            return cell


def add_cell(drawing: Drawing, name: str, cell: Cell, channels: int, source: str) -> str:
    """Draw a cell's `canonical` form; gives the name of its output, node 3.

    Nodes are ``NAME.node0`` to ``NAME.node3``, the neurons behind them ``NAME.fire0``, ..., the operations from node i
    to node j ``NAME.opij``.

    Args:
        drawing: the graph in the making.
        name: begins the names of the cell's nodes.
        cell: its 4x4 matrix of operations.
        channels: of every node.
        source: node that enters it.

    Raises:
        ConfigError: node 0 does not lead to node 3.
    """
    cell = cell.canonical
    if not cell.alive:
        raise ConfigError(f"no way leads from node 0 to node 3 of cell '{cell}'; set the entry in row 0 at place 3")
    for index in cell.alive:
        drawing.add(Node(name=f"{name}.node{index}"), *([source] if index == 0 else []))
        if any(_OPS[code].spiking for i, _, code in cell.edges if i == index):
            drawing.add(Node(name=f"{name}.fire{index}", neuron=True), f"{name}.node{index}")
    for i, j, code in cell.edges:
        op = _OPS[code]
        at = f"{name}.{'fire' if op.spiking else 'node'}{i}"
        if op.node is not None:
            at = drawing.add(op.node(f"{name}.op{i}{j}", channels), at)
        drawing.join([at], f"{name}.node{j}", back=i > j)
    return f"{name}.node{NODES - 1}"
