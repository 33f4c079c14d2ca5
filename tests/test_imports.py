"""The import graph of the package: no circle, no arrow to a higher floor; lazy and type-only imports count."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import networkx

import spikefed

ROOT = Path(spikefed.__file__).parent
FLOORS = (
    {"errors", "files", "hyper", "native", "objects", "seeding", "version"},
    {"neurons", "wire"},
    {"networks", "data"},
    {"hardware", "training", "interop"},
    {"conversion", "probes", "search"},
    {"federated"},
    {"models", "privacy", "transports"},
    {"experiment"},
    {"report", "deploy"},
    {"cli", "__main__", ""},
)
"""From the ground up; the package's own ``__init__`` hands out names of every floor."""


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("spikefed", *parts)).removesuffix(".__init__")


@cache
def graph() -> networkx.DiGraph:
    """An edge from each module to each of the package's modules that it imports anywhere in its text."""
    files = {_module(path): path for path in sorted(ROOT.rglob("*.py"))}
    found = networkx.DiGraph()
    found.add_nodes_from(files)
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            wanted: list[str] = []
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name} imports relatively; write the whole name"
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                wanted = [each if each in files else str(node.module) for each in inner]
            found.add_edges_from((name, target) for target in wanted if target in files and target != name)
    return found


def _floor(name: str) -> int:
    folder = name.split(".")[1] if "." in name else ""
    return next(height for height, folders in enumerate(FLOORS) if folder in folders)


def test_no_circle() -> None:
    circles = [sorted(part) for part in networkx.strongly_connected_components(graph()) if len(part) > 1]
    assert circles == []


def test_no_arrow_upwards() -> None:
    upwards = [(a, b) for a, b in graph().edges if _floor(a) < _floor(b)]
    assert upwards == []


def test_the_graph_sees_imports() -> None:
    assert ("spikefed.cli.main", "spikefed.cli.app") in graph().edges
    assert graph().number_of_edges() > 500
