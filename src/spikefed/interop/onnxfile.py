"""A network as ONNX, its T time steps unrolled, written operator by operator.

The graph takes network input (`About.preprocess` is not part of it) and gives the outputs of every step and their mean.
It is written with ``onnx.helper`` alone: torch's own exporter needs a tracer and another package, and turns a step
function into what it happens to trace. Operators are those of opset 17; a runtime needs nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikefed.errors import ConfigError
from spikefed.interop.about import About
from spikefed.interop.flat import Flat, FlatNode
from spikefed.interop.script import variable
from spikefed.networks.graph import INPUT
from spikefed.neurons import LIFParameters
from spikefed.neurons.fused import smallest_that_fires

OPSET = 17
LARGEST = 2**31 - 1
"""Bytes of a protobuf message."""


def onnx_file(network: Flat, about: About) -> bytes:
    """The bytes of the model; equal networks give equal bytes.

    Input ``input``: float32 ``[B, C, H, W]``, preprocessed; ``[B, T, C, H, W]`` of data with time steps, or, under a
    random input coding, coded by the caller. Outputs ``outputs`` ``[T, B, classes]`` and ``scores`` ``[B, classes]``.

    Raises:
        ConfigError: the package onnx is not installed, or the model would not fit the format.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError as error:
        raise ConfigError("export to onnx needs the package onnx; pip install 'spikefed[onnx]'") from error
    writer = _Writer(network, about)
    graph = writer.graph(helper)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="spikefed", ir_version=8)
    told = {"title": about.origin, "class_names": json.dumps(list(about.class_names)), "preprocess": preprocess(about)}
    helper.set_model_props(model, {**told, "steps": str(network.steps), "coding": network.encoder.name})
    if model.ByteSize() > LARGEST:
        raise ConfigError("the network is larger than 2 GiB, which one ONNX file cannot hold; export it to torch")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def timed(network: Flat, about: About) -> bool:
    """Whether the file's input has a time axis: data with steps of their own, or spikes that the caller draws."""
    return about.timed or network.encoder.name != "direct"


def preprocess(about: About) -> str:
    """How numbers of the data set become network input, as JSON."""
    told = about.preprocess
    return json.dumps({"mode": told.mode, "mean": list(told.mean), "std": list(told.std)})


@dataclass
class _Writer:
    """Collects operators and arrays while it walks the network."""

    network: Flat
    about: About
    nodes: list[Any] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def graph(self, helper: Any) -> Any:
        from onnx import TensorProto, numpy_helper

        self.helper = helper
        self._walk()
        shape = ["batch", *([self.network.steps] if timed(self.network, self.about) else [])]
        shape += list(self.network.coded_shape)
        classes = self.network.classes
        steps = self.network.steps
        entering = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)
        leaving = [
            helper.make_tensor_value_info("outputs", TensorProto.FLOAT, [steps, "batch", classes]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", classes]),
        ]
        arrays = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        return helper.make_graph(self.nodes, variable(self.network.name), [entering], leaving, arrays)

    def _walk(self) -> None:
        """Every node of every step; what is the same at all steps once."""
        network = self.network
        still = not timed(network, self.about)
        potentials: dict[str, str] = {}
        before: dict[str, str] = {}
        once: dict[str, str] = {}
        outputs = []
        for t in range(network.steps):
            now = {INPUT: INPUT if still else self._frame(t)}
            for node in network.nodes:
                hoisted = still and node.once
                if hoisted and node.name in once:
                    current = once[node.name]
                else:
                    current = self._currents(node, now, before, "" if hoisted else f"_{t}")
                if hoisted:
                    once[node.name] = current
                now[node.name] = self._fired(node, current, potentials, t)
            before = now
            outputs.append(self._op("Unsqueeze", [now[network.output], self._axes(0)], f"step_{t}"))
        self._op("Concat", outputs, "outputs", axis=0)
        self._op("ReduceMean", ["outputs"], "scores", axes=[0], keepdims=0)

    def _frame(self, t: int) -> str:
        index = self._array("at_" + str(t), np.array(t, dtype=np.int64))
        return self._op("Gather", [INPUT, index], f"input_{t}", axis=1)

    def _currents(self, node: FlatNode, now: dict[str, str], before: dict[str, str], tag: str) -> str:
        """What enters, through the weights."""
        names = [(before if s.back else now).get(s.name) for s in node.sources]
        entering = [name for name in names if name is not None]
        name = variable(node.name)
        if not entering:  # only edges backward in time, at the first step
            rows = self._op("Shape", [now[INPUT]], f"{name}_rows{tag}", start=0, end=1)
            sides = self._array(f"{name}_sides", np.array(node.in_shape, dtype=np.int64))
            shape = self._op("Concat", [rows, sides], f"{name}_shape{tag}", axis=0)
            wide = self._array(f"{name}_zero", np.zeros([1] * (1 + len(node.in_shape)), np.float32))
            entering = [self._op("Expand", [wide, shape], f"{name}_nothing{tag}")]
        x = entering[0]
        for index, other in enumerate(entering[1:]):
            x = self._op("Add", [x, other], f"{name}_sum{index}{tag}")
        return self._weights(node, x, tag)

    def _weights(self, node: FlatNode, x: str, tag: str) -> str:
        name = variable(node.name)
        if node.weight is None:
            if node.votes == 1:
                return x
            shape = self._array(f"{name}_votes", np.array([-1, node.map_shape[0], node.votes], dtype=np.int64))
            folded = self._op("Reshape", [x, shape], f"{name}_folded{tag}")
            return self._op("ReduceMean", [folded], f"{name}_mean{tag}", axes=[2], keepdims=0)
        arrays = [self._array(f"{name}_weight", node.weight)]
        if node.gain is None and node.shift is not None:
            arrays.append(self._array(f"{name}_bias", node.shift))
        if node.kind == "conv":
            sizes = {
                "kernel_shape": [*node.kernel_size], "pads": [*node.padding] * 2, "strides": [*node.strides]
            }  # fmt: skip
            return self._op("Conv", [x, *arrays], f"{name}_current{tag}", **sizes)
        if len(node.in_shape) > 1:
            x = self._op("Flatten", [x], f"{name}_flat{tag}", axis=1)
        return self._op("Gemm", [x, *arrays], f"{name}_current{tag}", transB=1)

    def _fired(self, node: FlatNode, current: str, potentials: dict[str, str], t: int) -> str:
        name = variable(node.name)
        y = current
        if node.gain is not None and node.shift is not None:
            row = t if len(node.gain) > 1 else 0
            shape = (-1, *[1] * (len(node.map_shape) - 1))
            gain = self._array(f"{name}_gain_{row}", node.gain[row].reshape(shape))
            shift = self._array(f"{name}_shift_{row}", node.shift[row].reshape(shape))
            y = self._op("Add", [self._op("Mul", [y, gain], f"{name}_scaled_{t}"), shift], f"{name}_normed_{t}")
        if node.neuron is not None:
            y = self._lif(node, node.neuron, y, potentials, t)
        if node.rectify:
            y = self._op("Relu", [y], f"{name}_rectified_{t}")
        return y if node.pool is None else self._pooled(node, y, t)

    def _lif(self, node: FlatNode, p: LIFParameters, current: str, potentials: dict[str, str], t: int) -> str:
        """u = decay * v + gain * current; spikes where u is at the smallest number that fires or above."""
        name = variable(node.name)
        u = current
        if p.gain != 1.0:
            u = self._op("Mul", [u, self._number(p.gain)], f"{name}_gained_{t}")
        if name in potentials and p.decay != 0.0:
            kept = self._op("Mul", [potentials[name], self._number(p.decay)], f"{name}_kept_{t}")
            u = self._op("Add", [kept, u], f"{name}_u_{t}")
        fires = self._op("GreaterOrEqual", [u, self._number(smallest_that_fires(p))], f"{name}_fires_{t}")
        spikes = self._op("Cast", [fires], f"{name}_spikes_{t}", to=1)
        if p.kind == "hard":
            potentials[name] = self._op("Where", [fires, self._number(0.0), u], f"{name}_v_{t}")
        else:
            less = self._op("Mul", [spikes, self._number(p.v_threshold)], f"{name}_less_{t}")
            potentials[name] = self._op("Sub", [u, less], f"{name}_v_{t}")
        return spikes

    def _pooled(self, node: FlatNode, x: str, t: int) -> str:
        pool = node.pool
        name = variable(node.name)
        assert pool is not None
        average = pool.kind == "average"
        if pool.size == 0:
            return self._op("GlobalAveragePool" if average else "GlobalMaxPool", [x], f"{name}_pooled_{t}")
        sizes = {
            "kernel_shape": [*pool.windows],
            "strides": [*pool.strides],
            "pads": [pool.padding] * 4,
            **({"count_include_pad": 1} if average else {}),
        }
        return self._op("AveragePool" if average else "MaxPool", [x], f"{name}_pooled_{t}", **sizes)

    def _op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _array(self, name: str, array: np.ndarray) -> str:
        self.arrays.setdefault(name, array)
        return name

    def _number(self, value: float) -> str:
        single = np.float32(value)
        return self._array(f"number_{single:.9g}", np.array(single))

    def _axes(self, *axes: int) -> str:
        return self._array(f"axes_{'_'.join(map(str, axes))}", np.array(axes, dtype=np.int64))
