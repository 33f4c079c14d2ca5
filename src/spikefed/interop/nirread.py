"""A network from a NIR file: ours, or anybody's, as far as our layers can compute it.

Read are Conv2d (odd square kernels whose padding keeps the size, any square stride), Affine, Linear, Flatten,
AvgPool2d, IF and LIF, and edges that add up. What a reader could only get wrong is refused in a sentence: other nodes,
numbers that differ between the neurons of a layer, a leak or a reset to anything but 0, recurrent edges, and files of a
NIR before 1.0.6, whose neurons meant another reset.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikefed.errors import ConfigError
from spikefed.files import counted_from
from spikefed.interop.nirfile import DT, package
from spikefed.networks import Edge, Graph, GraphNetwork, Node, PassLayer, Pool, SpikingLayer
from spikefed.networks.graph import INPUT, sized
from spikefed.neurons import Encoder, LIFParameters, encoder, surrogate

PREFIX = "nir:"
"""Of a network's name in a config: ``nir:FILE``."""
RESET_SINCE = (1, 0, 6)
"""Version of nir from which on files say what a neuron resets to."""


def nir_name(name: str) -> tuple[str, float | None]:
    """File and time step, in seconds, of a name ``nir:FILE`` or ``nir:FILE:dt=0.001``.

    Raises:
        ConfigError: a time step that is no number above 0.
    """
    path, told, text = name.removeprefix(PREFIX).rpartition(":dt=")
    if not told:
        return text, None
    try:
        dt = float(text)
    except ValueError:
        dt = 0.0
    if not 0 < dt < float("inf"):
        raise ConfigError(f"'{name}' has the time step '{text}'; write seconds, as in {PREFIX}{path}:dt=0.001")
    return path, dt


def nir_bones(name: str) -> str:
    """The graph of ``nir:FILE`` without its weights, as text: with tensors of their own it is the network again.

    Raises:
        ConfigError: as `read_nir`.
    """
    graph = _read(Path(nir_name(name)[0]))
    for node in graph.nodes.values():
        if hasattr(node, "weight"):
            node.weight = np.zeros_like(node.weight)
        if hasattr(node, "bias"):  # a bias that is 0 throughout is none
            node.bias = np.full_like(node.bias, float(np.any(node.bias)))
    file = io.BytesIO()
    package().write(file, graph)
    return base64.b64encode(zlib.compress(file.getvalue(), 9)).decode()


def bones_file(bones: str) -> bytes:
    """The NIR file that `nir_bones` made a text of.

    Raises:
        ConfigError: another text.
    """
    try:
        return zlib.decompress(base64.b64decode(bones, validate=True))
    except (ValueError, zlib.error) as error:
        raise ConfigError("the NIR graph in the model file cannot be read; take a whole copy") from error


def read_nir(
    path: Path | str | bytes,
    *,
    steps: int,
    coding: str | Encoder = "direct",
    neuron: LIFParameters | None = None,
    dt: float | None = None,
) -> GraphNetwork:
    """The network that a NIR file holds, weights included.

    Args:
        path: the file, or its bytes.
        steps: T.
        coding: pixels to input.
        neuron: taken for its surrogate and ``detach_reset`` where the file says none; the file's own numbers stand.
        dt: seconds of a time step, where the file says none [0.1 ms].

    Raises:
        ConfigError: no NIR file, a damaged one, or something in it that our layers cannot compute.
    """
    graph = _read(io.BytesIO(path) if isinstance(path, bytes) else Path(path))
    where = "its model file" if isinstance(path, bytes) else str(Path(path))
    reader = _Reader(graph, where, neuron or LIFParameters(decay=0.5, v_threshold=1.0), DT if dt is None else dt)
    return reader.network(steps, encoder(coding))


def _read(path: Path | io.BytesIO) -> Any:
    nir = package()
    if isinstance(path, Path) and not path.is_file():
        raise ConfigError(f"there is no NIR file {path}{counted_from(path)}; check the path")
    try:
        graph = nir.read(path)
        version = nir.serialization.read_version(path)
    except Exception as error:  # h5py and nir raise whatever they meet
        told = " ".join(str(error).split())[:120]
        cure = "write it from a sample without the batch axis" if "type mismatch" in told else "take a whole copy"
        raise ConfigError(f"{path} cannot be read as NIR ({type(error).__name__}: {told}); {cure}") from error
    numbers = tuple(int(part) for part in re.findall(r"\d+", str(version))[:3])
    neurons = [node for node in graph.nodes.values() if type(node).__name__ in ("IF", "LIF")]
    if numbers < RESET_SINCE and neurons:
        raise ConfigError(
            f"{path} was written by nir {version}, before files said what a neuron resets to; write it anew with nir "
            "1.0.6 or newer, or spikes may differ"
        )
    return graph


class _Reader:
    """Turns NIR's nodes into ours: weights, the neurons behind them and the pool behind those are one node."""

    def __init__(self, graph: Any, where: str, neuron: LIFParameters, dt: float = DT) -> None:
        self.where = where
        self.dt = dt
        self.default = neuron
        self.told: Mapping[str, Any] = graph.metadata
        self.nodes: Mapping[str, Any] = graph.nodes
        self.into: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self.out: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.into[target].append(source)
            self.out[source].append(target)

    def network(self, steps: int, coder: Encoder) -> GraphNetwork:
        """The network; see `read_nir`."""
        entering = self._one("Input")
        leaving = self._one("Output")
        shape = tuple(int(side) for side in np.atleast_1d(self.nodes[entering].input_type["input"]))
        if len(shape) not in (1, 2, 3):
            raise self._refused(entering, f"takes {shape}", "give [C, H, W], [C, L] or [F]")
        image = {1: (*shape, 1, 1), 2: (shape[0], 1, shape[-1])}.get(len(shape), shape)
        told = _plain(self.told.get("input_shape", "null"))
        image = tuple(json.loads(told)) if told != "null" and prod(json.loads(told)) == prod(shape) else image
        chains, ends = self._chains(entering, leaving)
        edges = tuple(Edge(ends[source], name) for name, members in chains.items() for source in self.into[members[0]])
        if len(self.into[leaving]) != 1:
            raise self._refused(
                leaving, f"has {len(self.into[leaving])} edges into it", "spikefed reads graphs with one"
            )
        (last,) = self.into[leaving]
        nodes = tuple(self._node(name, members) for name, members in chains.items())
        graph = Graph(nodes, edges, ends[last])
        plans = sized(graph, image)
        layers: dict[str, SpikingLayer | PassLayer] = {}
        for node in nodes:
            told = self._neuron_of(chains[node.name])
            if node.weights == "pass":
                layers[node.name] = PassLayer(plans[node.name], neuron=told)
            else:
                layers[node.name] = SpikingLayer(plans[node.name], bias=bool(node.bias), norm=None, neuron=told)
                self._load(layers[node.name], chains[node.name])
        channels = image[0] // coder.widens
        shape = (channels, *image[1:])
        return GraphNetwork(f"{PREFIX}{self.where}", shape, graph, layers, steps=steps, encoder=coder)

    def _one(self, kind: str) -> str:
        found = [name for name, node in self.nodes.items() if type(node).__name__ == kind]
        if len(found) != 1:
            raise ConfigError(f"{self.where} has {len(found)} nodes of kind {kind}; spikefed reads graphs with one")
        return found[0]

    def _chains(self, entering: str, leaving: str) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Our nodes by name with NIR's nodes in each, and for each of NIR's nodes the name of ours."""
        chains: dict[str, list[str]] = {}
        ends = {entering: INPUT}
        waiting = [name for name in self.nodes if name not in (entering, leaving)]
        while waiting:
            ready = next((n for n in waiting if all(s in ends for s in self.into[n])), None)
            if ready is None:
                raise self._refused(waiting[0], "lies in a loop", "spikefed reads feed-forward NIR graphs")
            members = [ready]
            while self._joins(members):
                members.append(self.out[members[-1]][0])
            named = next((m for m in members if hasattr(self.nodes[m], "weight")), members[0])
            name = re.sub(r"\W", "_", named)
            chains[name] = members
            ends |= dict.fromkeys(members, name)
            waiting = [n for n in waiting if n not in members]
        return chains, ends

    def _joins(self, members: list[str]) -> bool:
        """Whether what follows belongs to the same node of ours: flatten, weights, neuron, pool come in this order."""
        following = self.out[members[-1]]
        if len(following) != 1 or len(self.into[following[0]]) != 1:
            return False
        order = [_RANK.get(type(self.nodes[m]).__name__, -1) for m in [*members, following[0]]]
        return order[-1] > order[-2] >= 0

    def _node(self, name: str, members: list[str]) -> Node:
        kinds = {type(self.nodes[m]).__name__: m for m in members}
        for kind, member in kinds.items():
            if kind not in _RANK:
                raise self._refused(member, f"is a {kind}", f"spikefed reads {', '.join(_RANK)}")
        for member in members:
            self._check_finite(member)
        told: dict[str, Any] = {"name": name, "neuron": bool(kinds.keys() & {"IF", "LIF"}), "bias": False}
        if "Conv2d" in kinds:
            told |= self._conv(kinds["Conv2d"])
        if "Conv1d" in kinds:
            told |= self._line(kinds["Conv1d"])
        for kind in ("Affine", "Linear"):
            if kind in kinds:
                told |= {"weights": "linear", "bias": kind == "Affine"}
                told["features"] = int(self.nodes[kinds[kind]].weight.shape[0])
        if "AvgPool2d" in kinds:
            told["pool"] = self._pool(kinds["AvgPool2d"])
        return Node(**told)

    def _conv(self, name: str) -> dict[str, Any]:
        node = self.nodes[name]
        kernel = node.weight.shape[2:]
        stride = _pair(node.stride)
        dilation = _pair(node.dilation)
        padding = (
            tuple(side // 2 for side in kernel)
            if isinstance(node.padding, str) and node.padding == "same" and stride == (1, 1)
            else (0, 0)
            if isinstance(node.padding, str)
            else _pair(node.padding)
        )
        square = kernel[0] == kernel[1] and kernel[0] % 2 == 1 and stride[0] == stride[1]
        if not square or padding != (kernel[0] // 2,) * 2 or dilation != (1, 1) or int(node.groups) != 1:
            raise self._refused(
                name,
                f"is a convolution {kernel[0]}x{kernel[1]} with padding {padding}, stride {stride}, "
                f"dilation {dilation}, groups {int(node.groups)}",
                "spikefed reads odd square kernels with padding kernel // 2, no dilation and one group",
            )
        features = int(node.weight.shape[0])
        return {
            "weights": "conv",
            "features": features,
            "kernel": int(kernel[0]),
            "stride": stride[0],
            "bias": bool(np.any(node.bias)),
        }

    def _line(self, name: str) -> dict[str, Any]:
        node = self.nodes[name]
        kernel = int(node.weight.shape[2])
        stride = int(_pair(node.stride)[0])
        dilation = int(_pair(node.dilation)[0])
        padding = node.padding
        around = {"same": kernel // 2, "valid": 0}[padding] if isinstance(padding, str) else int(_pair(padding)[0])
        if kernel % 2 == 0 or around != kernel // 2 or dilation != 1 or int(node.groups) != 1:
            raise self._refused(
                name,
                f"is a convolution of width {kernel} with padding {padding}, stride {stride}, dilation {dilation}, "
                f"groups {int(node.groups)}",
                "spikefed reads odd widths with padding width // 2, no dilation and one group",
            )
        return {
            "weights": "conv",
            "features": int(node.weight.shape[0]),
            "kernel": kernel,
            "stride": stride,
            "bias": bool(np.any(node.bias)),
            "line": True,
        }

    def _pool(self, name: str) -> Pool:
        node = self.nodes[name]
        size = _pair(node.kernel_size)
        stride = _pair(node.stride)
        padding = _pair(node.padding)
        if len({*size}) > 1 or len({*stride}) > 1 or len({*padding}) > 1:
            raise self._refused(name, f"pools {size} with stride {stride}", "spikefed reads square windows")
        return Pool("average", size[0], stride[0], padding[0])

    def _neuron_of(self, members: list[str]) -> LIFParameters | None:
        for name in members:
            kind = type(self.nodes[name]).__name__
            if kind in ("IF", "LIF"):
                return self._neuron(name, self.nodes[name], kind)
        return None

    def _neuron(self, name: str, node: Any, kind: str) -> LIFParameters:
        def one(key: str) -> float:
            values = np.unique(np.asarray(getattr(node, key), dtype=np.float64))
            if values.size != 1:
                raise self._refused(
                    name,
                    f"has {values.size} different values of {key}",
                    "spikefed has one for all neurons of a layer",
                )
            return float(values[0])

        for key in ("v_reset", *(("v_leak",) if kind == "LIF" else ())):
            if one(key) != 0:
                raise self._refused(name, f"has {key} = {one(key):g}", "spikefed's neurons rest at 0 and reset to 0")
        told = {key: _plain(value) for key, value in (getattr(node, "metadata", None) or {}).items()}
        dt = float(told.get("dt", self.dt))
        if one("v_threshold") <= 0:
            raise self._refused(name, f"has v_threshold = {one('v_threshold'):g}", "spikefed's are above 0")
        decay = 1.0 if kind == "IF" else 1 - dt / one("tau")
        gain = one("r") * dt * (1.0 if kind == "IF" else 1 / one("tau"))
        if not 0 <= decay <= 1:
            raise self._refused(name, f"has tau = {one('tau'):g} s", f"a time step of {dt:g} s needs tau from there up")
        made = replace(self.default, kind="hard", decay=decay, gain=gain, v_threshold=one("v_threshold"), strict=True)
        return _ours(made, told)

    def _check_finite(self, name: str) -> None:
        for key in ("weight", "bias", "tau", "r", "v_leak", "v_threshold", "v_reset"):
            values = getattr(self.nodes[name], key, None)
            if values is not None and not np.isfinite(np.asarray(values, dtype=np.float64)).all():
                raise self._refused(name, f"holds {key} that are not finite", "write the file from a sound network")

    def _load(self, layer: SpikingLayer | PassLayer, members: list[str]) -> None:
        node = next(self.nodes[m] for m in members if hasattr(self.nodes[m], "weight"))
        assert isinstance(layer, SpikingLayer)
        with torch.no_grad():
            weight = torch.from_numpy(np.asarray(node.weight, dtype=np.float32))
            layer.weight.copy_(weight.reshape(layer.weight.shape))  # of series without the row
            if layer.bias is not None:
                layer.bias.copy_(torch.from_numpy(np.asarray(node.bias, dtype=np.float32)))

    def _refused(self, name: str, what: str, instead: str) -> ConfigError:
        return ConfigError(f"node {name} of {self.where} {what}; {instead}")


_RANK = {"Flatten": 0, "Conv2d": 1, "Conv1d": 1, "Affine": 1, "Linear": 1, "IF": 2, "LIF": 2, "AvgPool2d": 3}
"""Order in which NIR's nodes make up one of ours."""


def _ours(read: LIFParameters, told: Mapping[str, Any]) -> LIFParameters:
    """The neuron that a file of ours tells in full, where that is the one whose numbers it holds."""
    try:
        exact = LIFParameters(
            decay=float(told["decay"]),
            gain=float(told["gain"]),
            v_threshold=float(told["threshold"]),
            strict=bool(told["strict"]),
            surrogate=surrogate(str(told["surrogate"])),
            detach_reset=bool(told["detach_reset"]),
        )
    except (KeyError, ValueError, ConfigError):
        return read
    same = np.allclose([exact.decay, exact.gain, exact.v_threshold], [read.decay, read.gain, read.v_threshold], 1e-6)
    return exact if same else read


def _plain(value: Any) -> Any:
    value = value.decode() if isinstance(value, bytes) else value
    return value.item() if isinstance(value, np.generic) else value


def _pair(value: Any) -> tuple[int, int]:
    first, *rest = (int(side) for side in np.atleast_1d(np.asarray(value)))
    return first, rest[0] if rest else first
