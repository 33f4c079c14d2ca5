"""In which order a graph runs: all time steps at once, but for the parts that a way backward in time closes to a loop.

A backward edge delays by one step. Alone it changes nothing but the time at which values arrive, so its source still
runs over all T steps first. Only where it closes a loop, in a strongly connected part of the graph, does a node's step
t need another's step t - 1 that needs its own: those nodes, and no others, run step by step.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikefed.networks.graph.plan import INPUT, Edge, Graph, in_order


@dataclass(frozen=True)
class Part:
    """Nodes that run together.

    Attributes:
        nodes: names; of a loop in the order in which they run within a step.
        stepwise: they form a loop and run step by step.
        entering: edges from outside into each node, by name.
        inside: edges within the part into each node, by name.
        leaving: nodes whose values others need, or that give the output.
        done: what nobody needs after this part.
    """

    nodes: tuple[str, ...]
    stepwise: bool
    entering: dict[str, tuple[Edge, ...]]
    inside: dict[str, tuple[Edge, ...]]
    leaving: frozenset[str]
    done: tuple[str, ...]


def parts(graph: Graph) -> list[Part]:
    """The graph's strongly connected parts, every part after those that it takes from."""
    groups = _strongly_connected(graph)
    made = []
    for index, group in enumerate(groups):
        members = set(group)
        later = {name for other in groups[index + 1 :] for name in other}
        into = {name: graph.into(name) for name in group}
        needed = {edge.source for edge in graph.edges if edge.target in later} | {graph.output}
        sources = {edge.source for edges in into.values() for edge in edges} | members
        made.append(
            Part(
                tuple(group),
                any(edge.source in members for edges in into.values() for edge in edges),
                {name: tuple(e for e in edges if e.source not in members) for name, edges in into.items()},
                {name: tuple(e for e in edges if e.source in members) for name, edges in into.items()},
                frozenset(members & needed),
                tuple(sorted(sources - needed)),
            )
        )
    return made


def _strongly_connected(graph: Graph) -> list[list[str]]:
    """Groups of nodes that lead to each other over edges of both kinds, sources first; inside a group in order."""
    rank = {node.name: index for index, node in enumerate(in_order(graph))}
    reach = {name: _reached(graph, name) for name in rank}
    groups: list[list[str]] = []
    for name in rank:
        if not any(name in group for group in groups):
            groups.append([other for other in rank if other == name or (other in reach[name] and name in reach[other])])
    placed: list[list[str]] = []
    while groups:
        known = {INPUT} | {name for group in placed for name in group}
        ready = next(g for g in groups if all(e.source in known | set(g) for n in g for e in graph.into(n)))
        groups.remove(ready)
        placed.append(ready)
    return placed


def _reached(graph: Graph, start: str) -> set[str]:
    """Nodes that edges lead to from ``start``, itself only if they lead back."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        at = waiting.pop()
        following = {edge.target for edge in graph.edges if edge.source == at} - found
        found |= following
        waiting += following
    return found


def binary(graph: Graph, *, coded: bool) -> dict[str, bool]:
    """Whether a node gives spikes, or means of spikes (True), or real numbers.

    Args:
        coded: the image enters as spikes.
    """
    known = {INPUT: coded}
    nodes = {node.name: node for node in graph.nodes}
    for node in nodes.values():
        known[node.name] = node.neuron or (node.weights == "pass" and not node.norm)
    changed = True
    while changed:  # a node that only hands on is as its sources; a single real one makes the sum real
        changed = False
        for name, node in nodes.items():
            if known[name] and not node.neuron and not all(known[edge.source] for edge in graph.into(name)):
                known[name] = False
                changed = True
    return known
