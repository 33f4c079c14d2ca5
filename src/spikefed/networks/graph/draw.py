"""Drawing a graph node by node, each with the nodes that it takes from."""

from __future__ import annotations

from collections.abc import Iterable

from spikefed.networks.graph.plan import Edge, Graph, Node


class Drawing:
    """A graph in the making.

    >>> from spikefed.networks.graph import INPUT, Node
    >>> drawing = Drawing()
    >>> conv = drawing.add(Node(name="conv", weights="conv", features=8, norm=True, neuron=True), INPUT)
    >>> head = drawing.add(Node(name="head", weights="linear", features=10), conv)
    >>> drawing.graph(head).output
    'head'
    """

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._edges: list[Edge] = []

    def add(self, node: Node, *sources: str) -> str:
        """Draw a node and a forward edge from each of ``sources``; gives its name."""
        self._nodes.append(node)
        self.join(sources, node.name)
        return node.name

    def join(self, sources: Iterable[str], target: str, back: bool = False) -> None:
        """Draw edges to a node, which may be drawn later."""
        self._edges += [Edge(source, target, back) for source in sources]

    def graph(self, output: str) -> Graph:
        """The finished graph.

        Raises:
            ConfigError: see `Graph`.
        """
        return Graph(tuple(self._nodes), tuple(self._edges), output)
