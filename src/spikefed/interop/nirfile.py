"""A network as NIR (Neuromorphic Intermediate Representation, Pedersen et al. 2024), the exchange format of chips.

NIR describes neurons in continuous time; a time step of ours is `DT` seconds, the step that readers assume:

    tau dv/dt = (v_leak - v) + r I   ->   v_t = (1 - dt / tau) v_{t-1} + (dt / tau) r I_t

so tau = dt / (1 - decay) and r = gain / (1 - decay); without a leak it is an IF with r = gain / dt. A neuron fires
above v_threshold and is set to v_reset = 0: NIR has no word for a reset by subtraction, nor for numbers of each time
step. What NIR cannot say but training needs (surrogate, what flows through the reset) is metadata of each node.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from spikefed.errors import ConfigError
from spikefed.interop.about import About
from spikefed.interop.flat import Flat, FlatNode
from spikefed.interop.onnxfile import preprocess
from spikefed.interop.script import variable
from spikefed.networks.graph import INPUT
from spikefed.neurons import LIFParameters
from spikefed.neurons.fused import smallest_that_fires

DT = 1e-4
"""Seconds of a time step: what snnTorch assumes whatever a file says, and SpikingJelly's default."""
OUTPUT = "output"


def nir_file(network: Flat, about: About) -> bytes:
    """The bytes of the file.

    Raises:
        ConfigError: the package nir is not installed, or something that NIR cannot say: soft reset, a norm of each time
            step, max pools, edges backward in time, rectified units, a sum of a node with itself.
    """
    graph = nir_graph(network, about)
    file = io.BytesIO()
    package().write(file, graph)
    return file.getvalue()


def nir_graph(network: Flat, about: About) -> Any:
    """The graph that `nir_file` writes; arguments and errors as there."""
    nir = package()
    check(network)
    flat_input = _flat_input(network)
    line = _line(network)
    entering = [prod(network.coded_shape)] if flat_input else _shape(network.coded_shape, line)
    nodes: dict[str, Any] = {INPUT: nir.Input({"input": np.array(entering)})}
    edges: list[tuple[str, str]] = []
    last: dict[str, str] = {INPUT: INPUT}
    for node in network.nodes:
        sources = _sources(network, node)
        if node.plain and node.name != network.output:
            continue
        chain = _chain(nir, node, flat_input and INPUT in sources, line)
        names = [variable(node.name) + suffix for suffix, _ in chain]
        nodes |= dict(zip(names, (made for _, made in chain), strict=True))
        edges += [(last[source], names[0]) for source in sources]
        edges += list(zip(names[:-1], names[1:], strict=True))
        last[node.name] = names[-1]
    nodes[OUTPUT] = nir.Output({"output": np.array([network.classes])})
    edges.append((last[network.output], OUTPUT))
    told = {"spikefed": about.origin, "dt": DT, "steps": network.steps, "coding": network.encoder.name}
    told |= {"class_names": json.dumps(list(about.class_names)), "preprocess": preprocess(about)}
    told["input_shape"] = json.dumps(list(network.coded_shape))
    return nir.NIRGraph(nodes, edges, metadata=told)


def _flat_input(network: Flat) -> bool:
    """Whether only linear layers take the input: it is then given flat, which every reader understands alike."""
    first = [node for node in network.nodes if INPUT in _sources(network, node)]
    return all(node.kind == "linear" for node in first)


def _line(network: Flat) -> bool:
    """Whether the maps of the network are series ``(C, 1, L)`` with 1-d convolutions: NIR has those without the row."""
    return any(node.line for node in network.nodes)


def _shape(shape: tuple[int, ...], line: bool) -> tuple[int, ...]:
    """``(C, H, W)`` as NIR has it: of a series ``(C, L)``."""
    return (shape[0], *shape[2:]) if line and len(shape) == 3 else shape


def package() -> Any:
    """The package nir.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise ConfigError("NIR files need the package nir; pip install 'spikefed[nir]'") from error
    return nir


def check(network: Flat) -> None:
    """Refuse what NIR cannot say, naming the node and what to do."""
    for node in network.nodes:
        where = f"node {node.name} of {network.name}"
        if node.neuron is not None and node.neuron.kind == "soft":
            raise ConfigError(
                f"{where} resets by subtraction, which NIR cannot say; train with network.neuron.kind = 'hard', or "
                "export to torch, onnx or c"
            )
        if node.gain is not None and len(node.gain) > 1:
            if _begins_charged(node):
                raise ConfigError(
                    f"{where} begins charged (network.neuron.start), which NIR cannot say; train with start = 0, or "
                    "export to torch, onnx or c"
                )
            raise ConfigError(
                f"{where} has a norm with numbers for each time step (bntt), which NIR cannot say; train with "
                "network.norm = 'bn' or 'tdbn'"
            )
        if node.pool is not None and node.pool.kind == "max":
            raise ConfigError(
                f"{where} takes the largest of a window, which NIR cannot say; train with network.pooling = 'stride' "
                "or 'average'"
            )
        if _line(network):
            _check_line(node, where)
        if node.rectify:
            raise ConfigError(f"{where} is no spiking neuron, and NIR has no other; export to onnx, c or torch")
        if any(source.back for source in node.sources):
            raise ConfigError(
                f"an edge leads backward in time to {where}, whose delay readers of NIR take differently; export to "
                "torch, onnx or c"
            )
        sources = _sources(network, node)
        if len(set(sources)) < len(sources):
            raise ConfigError(f"{where} adds a value to itself, which NIR cannot say; export to torch, onnx or c")


def _begins_charged(node: FlatNode) -> bool:
    """Whether the currents differ at the first step alone, by what is added."""
    assert node.gain is not None and node.shift is not None
    return bool((node.gain == node.gain[0]).all() and (node.shift[1:] == node.shift[-1]).all())


def _check_line(node: FlatNode, where: str) -> None:
    """Refuse what a network with 1-d convolutions has beside NIR's own, which know no rows and no pools."""
    if len(node.in_shape) == 3 and node.in_shape[1] > 1:
        raise ConfigError(
            f"{where} works on maps of {node.in_shape[1]} rows beside convolutions along one, which NIR cannot say; "
            "export to torch, onnx or c"
        )
    if node.kind == "conv" and not node.line and node.kernel > 1:
        raise ConfigError(
            f"{where} is a square convolution beside 1-d ones, which NIR cannot say; write it as {node.map_shape[0]}"
            f"C1x{node.kernel}, or export to torch, onnx or c"
        )
    if node.pool is not None:
        raise ConfigError(
            f"{where} pools a series, which NIR cannot say; train with network.pooling = 'stride', or export to torch, "
            "onnx or c"
        )


def _sources(network: Flat, node: FlatNode) -> list[str]:
    """Nodes that something happens in, whose values enter: nodes that only add up are left out."""
    found = []
    for source in node.sources:
        at = None if source.name == INPUT else network.node(source.name)
        found += _sources(network, at) if at is not None and at.plain else [source.name]
    return found


def _chain(nir: Any, node: FlatNode, flat: bool, line: bool) -> list[tuple[str, Any]]:
    """NIR's nodes for one of ours, in order, with what their names end in.

    Args:
        nir: the package.
        node: one of ours.
        flat: what enters is flat already.
        line: maps are series ``(C, L)``.
    """
    chain = _weights(nir, node, flat, line)
    if node.neuron is not None:
        chain.append(("_neuron" if chain else "", neuron(nir, node.neuron, _shape(node.map_shape, line))))
    if node.pool is not None:
        height, width = node.map_shape[1:]
        size = (height, width) if node.pool.size == 0 else (node.pool.size, node.pool.size)
        stride = (node.pool.stride,) * 2 if node.pool.stride else size
        pool = nir.AvgPool2d(np.array(size), np.array(stride), np.array([node.pool.padding] * 2))
        chain.append(("_pool" if chain else "", pool))
    return chain


def _weights(nir: Any, node: FlatNode, flat: bool, line: bool) -> list[tuple[str, Any]]:
    shift = node.shift
    if node.weight is not None and node.gain is not None and shift is not None:  # one time step: one row
        weight = node.weight * node.gain[0].reshape(-1, *[1] * (node.weight.ndim - 1))
        node, shift = replace(node, weight=weight, gain=None), shift[0]
    if node.kind == "conv":
        bias = np.zeros(node.map_shape[0], np.float32) if shift is None else shift
        assert node.weight is not None
        return [("", _conv(nir, node.in_shape, node.weight, node.stride, bias, line))]
    chain: list[tuple[str, Any]] = []
    if node.kind == "linear":
        if len(node.in_shape) > 1 and not flat:
            flatten = nir.Flatten({"input": np.array(_shape(node.in_shape, line))}, start_dim=0, end_dim=-1)
            chain.append(("_flatten", flatten))
        made = nir.Linear(node.weight) if shift is None else nir.Affine(node.weight, shift)
        return [*chain, ("", made)]
    if node.votes > 1:
        outputs = prod(node.map_shape)
        mean = np.kron(np.eye(outputs), np.ones((1, node.votes)) / node.votes).astype(np.float32)
        chain.append(("_vote", nir.Linear(mean)))
    if node.gain is not None and shift is not None:
        gain = node.gain[0]
        channels = node.map_shape[0]
        if len(node.map_shape) == 1:
            chain.append(("_norm", nir.Affine(np.diag(gain), shift[0])))
        else:
            weight = np.diag(gain).reshape(channels, channels, 1, 1)
            chain.append(("_norm", _conv(nir, node.map_shape, weight, 1, shift[0], line)))
    return chain


def _conv(nir: Any, shape: tuple[int, ...], weight: np.ndarray, stride: int, bias: np.ndarray, line: bool) -> Any:
    """A convolution of ``shape`` ``(C, H, W)`` whose padding keeps the size; of series without the row.

    Args:
        nir: the package.
        shape: of what enters.
        weight: ``[Cout, Cin, Kh, Kw]``.
        stride: of the convolution.
        bias: ``[Cout]``.
        line: maps are series.
    """
    around = weight.shape[3] // 2
    if line:
        return nir.Conv1d(shape[2], np.ascontiguousarray(weight[:, :, 0]), stride, around, 1, 1, bias)
    return nir.Conv2d(tuple(shape[1:]), weight, stride, around, 1, 1, bias)


def neuron(nir: Any, p: LIFParameters, shape: tuple[int, ...]) -> Any:
    """NIR's neuron; it fires above its threshold, so that of ours which fires *at* it stands a rounding lower."""
    above = np.nextafter(np.float32(smallest_that_fires(p)), np.float32(-np.inf))
    threshold = np.full(shape, above, np.float32)
    zeros = np.zeros(shape, np.float32)
    told = {
        "dt": DT,
        "decay": p.decay,
        "gain": p.gain,
        "threshold": p.v_threshold,
        "strict": int(p.strict),
        "surrogate": str(p.surrogate),
        "detach_reset": int(p.detach_reset),
    }
    if p.decay == 1.0:
        return nir.IF(r=np.full(shape, p.gain / DT), v_threshold=threshold, v_reset=zeros, metadata=told)
    tau = np.full(shape, DT / (1 - p.decay))
    r = np.full(shape, p.gain / (1 - p.decay))
    return nir.LIF(tau=tau, r=r, v_leak=zeros, v_threshold=threshold, v_reset=zeros, metadata=told)
