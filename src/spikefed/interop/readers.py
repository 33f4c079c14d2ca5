"""What each known reader of NIR will make of a file, before anybody tries.

The primitives are those of NIR's own table of support (docs/source/support.md) and of the readers' code; SpikingJelly's
and snnTorch's rules are held against the packages themselves by tests; those of Norse 1.1.0, sinabs 3.1.3, Spyx 1.0.0
and Rockpool 3.1.0 were seen in runs of theirs (`findings/*nir*.sh`). All others are judged by their primitives alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_AFFINE = frozenset({"Affine"})
_WEIGHTS = _AFFINE | {"Linear"}
_SPATIAL = frozenset({"Conv2d", "Flatten"})
_LINE = frozenset({"Conv1d"})
_NEURONS = frozenset({"IF", "LIF"})


@dataclass(frozen=True)
class Reader:
    """A program that reads NIR.

    Attributes:
        name: with the version that this was written for.
        reads: primitives of ours that it takes.
        tested: its rules are tested against the package.
        exact: it asks for numbers that discretise to its own neuron (SpikingJelly).
        batch: whether it keeps the batch axis where a Flatten begins at 0.
        resistance: whether it multiplies a neuron's input by r; Norse warns and leaves it out.
        neurons: what is wrong with all its neurons that fire; empty where nothing is.
        mind: what to mind when it reads; empty where there is nothing to say.
    """

    name: str
    reads: frozenset[str]
    tested: bool = False
    exact: bool = False
    batch: bool = True
    resistance: bool = True
    neurons: str = ""
    mind: str = ""


READERS = (
    Reader("SpikingJelly 2.0", _WEIGHTS | _SPATIAL | _LINE | _NEURONS | {"AvgPool2d"}, tested=True, exact=True),
    Reader("snnTorch 1.0", _WEIGHTS | _SPATIAL | {"LIF", "AvgPool2d"}, tested=True, batch=False),
    Reader(
        "Norse 1.1",
        _WEIGHTS | _SPATIAL | _NEURONS,
        batch=False,
        resistance=False,
        mind="give its from_nir dt=0.0001",
    ),
    Reader("sinabs 3.1", _AFFINE | _SPATIAL | _NEURONS, neurons="takes tau in seconds for steps, and subtracts"),
    Reader("Spyx 1.0", _WEIGHTS | _SPATIAL | _NEURONS, neurons="leaves r out, and subtracts a step late"),
    Reader("Lava-DL", _WEIGHTS | _SPATIAL | _NEURONS),
    Reader("SpiNNaker2", _WEIGHTS | _SPATIAL | _NEURONS),
    Reader("Rockpool 3.1", _WEIGHTS),
    Reader("Nengo", _WEIGHTS | {"LIF"}),
    Reader("hxtorch", _WEIGHTS),
    Reader("jaxsnn", _WEIGHTS),
)


@dataclass(frozen=True)
class Verdict:
    """What a reader makes of a file.

    Attributes:
        reader: its name.
        takes: whether it reads the file as it is meant.
        why: what it refuses, or what to mind; empty where there is nothing to say.
        tested: whether the rule is tested against the package.
    """

    reader: str
    takes: bool
    why: str
    tested: bool


def pre_flight(graph: Any) -> list[Verdict]:
    """A verdict of every known reader on a NIR graph.

    Args:
        graph: from `nir_graph`, or ``nir.read``.
    """
    return [_verdict(reader, graph) for reader in READERS]


def _verdict(reader: Reader, graph: Any) -> Verdict:
    nodes = {name: node for name, node in graph.nodes.items() if type(node).__name__ not in ("Input", "Output")}
    for kind in sorted({type(node).__name__ for node in nodes.values()} - reader.reads):
        return Verdict(reader.name, False, _WHY.get((reader.name, kind), f"does not read {kind}"), reader.tested)
    for name, node in nodes.items():
        why = _refused(reader, name, node)
        if why:
            return Verdict(reader.name, False, why, reader.tested)
    flattens = any(type(node).__name__ == "Flatten" for node in nodes.values())
    alone = "one image at a time: its Flatten takes the batch along" if flattens and not reader.batch else ""
    return Verdict(reader.name, True, "; ".join(filter(None, (alone, reader.mind))), reader.tested)


_WHY = {
    ("Norse 1.1", "AvgPool2d"): "leaves AvgPool2d out without a word",
    ("sinabs 3.1", "AvgPool2d"): "leaves AvgPool2d out without a word",
    ("sinabs 3.1", "Linear"): "leaves Linear out without a word",
    ("snnTorch 1.0", "IF"): "refuses IF unless r = 1, and then makes it a leak of 0.9; train with decay below 1",
    ("Rockpool 3.1", "LIF"): "ends with an error at every LIF; reads CubaLIF alone",
    ("hxtorch", "LIF"): "reads CubaLIF alone",
    ("jaxsnn", "LIF"): "reads CubaLIF alone",
}


def _refused(reader: Reader, name: str, node: Any) -> str:
    """Why a reader refuses a node of a kind that it reads; empty where it does not."""
    if type(node).__name__ not in _NEURONS:
        return ""
    for key in ("v_threshold", "r", *(("tau",) if hasattr(node, "tau") else ())):
        if reader.tested and len(np.unique(getattr(node, key))) > 1:
            return f"{key} of {name} differs between neurons; it wants one for all of a layer"
    if reader.neurons:
        return reader.neurons
    if not reader.exact and reader.resistance:
        return ""
    told = getattr(node, "metadata", {}) or {}
    dt = float(told.get("dt", 1e-4))
    r = float(np.ravel(node.r)[0])
    if not hasattr(node, "tau"):
        return "" if np.isclose(r, 1 / dt, rtol=1e-6) else f"r of {name} is not 1 / dt (a gain of 1)"
    if not reader.resistance:
        return "" if np.isclose(r, 1, rtol=1e-6) else f"leaves out r of {name}, which is not 1 (a gain of 1 - decay)"
    steps = float(np.ravel(node.tau)[0]) / dt
    if steps <= 1:
        return f"tau of {name} is one time step (a decay of 0); it wants a longer one"
    fits = np.isclose(r, 1, rtol=1e-6) or np.isclose(r, steps, rtol=1e-6)
    return "" if fits else f"r of {name} is neither 1 nor tau / dt (a gain of 1 - decay, or of 1)"
