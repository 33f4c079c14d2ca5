"""A network as one C99 file without dependencies: event-driven, float32 or int8 weights, every buffer static.

The text of the file is made of the pieces of ``network.c`` that the network needs, its arrays, and one call a line for
each layer. Weights stand with the output channel innermost, so that a spike adds one row of them; int8 weights have a
scale for each output channel, w = scale * round(w / scale), scale = max |w| / 127 (symmetric quantisation). With spikes
as input the sums of int8 weights are exact in float32.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from importlib.resources import files
from math import prod
from typing import Literal

import numpy as np

from spikefed.errors import ConfigError
from spikefed.interop.about import About
from spikefed.interop.flat import Flat, FlatNode
from spikefed.interop.memory import Arena
from spikefed.interop.script import variable
from spikefed.networks.graph import INPUT
from spikefed.neurons import LIFParameters
from spikefed.neurons.fused import smallest_that_fires

Weights = Literal["float32", "int8"]
WEIGHTS: tuple[Weights, ...] = ("float32", "int8")


@dataclass(frozen=True)
class CFile:
    """A C file and what it takes.

    Attributes:
        text: the file.
        flash_bytes: of its constants: weights, scales, biases.
        ram_bytes: of its static buffers: potentials, currents, values between layers.
        notes: what whoever uses it should know, a sentence each.
    """

    text: str
    flash_bytes: int
    ram_bytes: int
    notes: tuple[str, ...]


def c_file(network: Flat, about: About, weights: str = "float32") -> CFile:
    """The C file; equal networks give equal texts.

    Args:
        network: with the weights.
        about: how pixels enter it.
        weights: ``float32``, or ``int8`` for a quarter of the flash.

    Raises:
        ConfigError: send-on-delta coding, or another word for the weights.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"weights '{weights}' are not known to the C export; use {' or '.join(WEIGHTS)}")
    if network.encoder.name == "delta":
        raise ConfigError(
            "input coding 'delta' is not written as C, since it remembers its input; use network.coding = 'direct' for "
            "a network that leaves as C, or export it to torch"
        )
    return _Writer(network, about, weights == "int8").file()


@dataclass
class _Writer:
    """Collects arrays, buffers and calls while it walks the network."""

    network: Flat
    about: About
    int8: bool
    constants: list[str] = field(default_factory=list)
    buffers: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    flash: int = 0
    ram: int = 0

    def __post_init__(self) -> None:
        self.still = self.network.encoder.name == "direct" and not self.about.timed
        self.places = {INPUT: "input"}
        self.arena = Arena()

    def file(self) -> CFile:
        before, step = self._walk()
        back = sorted({s.name for node in self.network.nodes for s in node.sources if s.back})
        after = [f"memcpy({variable(n)}_before, {self.places[n]}, sizeof {variable(n)}_before);" for n in back]
        values = {
            "TITLE": self.about.origin.replace("*/", "* /"),
            "INPUTS": str(self._inputs()),
            "STEPS": str(self.network.steps),
            "CLASSES": str(self.network.classes),
            "VALUES": {"pixels": "bytes from 0 to 255"}.get(self.about.values, "32-bit floats, little-endian"),
            "INPUT_TYPE": "uint8_t" if self.about.values == "pixels" else "float",
            "WEIGHT_TYPE": "int8_t" if self.int8 else "float",
            "FLASH": str(self.flash),
            "RAM": str(self.ram),
            "BEFORE": _indented(before, 4),
            "STEP": _indented(step, 8),
            "OUTPUT": self.places[self.network.output],
            "AFTER": _indented(after, 8),
        }
        pieces = _pieces()
        wanted = [name for name in pieces if name in self.used]
        body = [pieces["head"], *self.constants, *self.buffers, *(pieces[name] for name in _in_order(wanted))]
        text = "\n".join([*body, pieces["predict"], pieces["main"]])
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        return CFile(re.sub(r"\n{3,}", "\n\n", text), self.flash, self.ram, self._notes())

    def _inputs(self) -> int:
        return prod(self.network.input_shape) * (self.network.steps if self.about.timed else 1)

    def _notes(self) -> tuple[str, ...]:
        if self.network.encoder.name in ("direct", "latency"):
            return ()
        return (
            f"input coding {self.network.encoder.name} draws its spikes from a generator of the C file's own "
            "(network_seed), so single predictions differ from spikefed's as those of two seeds do",
        )

    def _walk(self) -> tuple[list[str], list[str]]:
        """Calls before the loop over time steps, and calls of one step."""
        nodes = self.network.nodes
        self._buffer("input", prod(self.network.coded_shape))
        last_use = {s.name: i for i, node in enumerate(nodes) for s in node.sources if not s.back}
        last_use |= {s.name: len(nodes) for node in nodes for s in node.sources if s.back}
        last_use[self.network.output] = len(nodes)
        before = [f"memset({variable(n.name)}_v, 0, sizeof {variable(n.name)}_v);" for n in nodes if n.neuron]
        back = sorted({s.name for node in nodes for s in node.sources if s.back})
        for name in back:
            self._buffer(f"{variable(name)}_before", prod(self.network.node(name).out_shape))
            before.append(f"memset({variable(name)}_before, 0, sizeof {variable(name)}_before);")
        step: list[str] = []
        (before if self.still else step).extend(self._input_lines())
        work = 0
        for index, node in enumerate(nodes):
            hoisted = self.still and node.once
            work = max(work, self._node(node, index, last_use.get(node.name, index), hoisted, before, step))
        if work:
            self._buffer("work", work)
        if self.arena.size:
            self._buffer("arena", self.arena.size)
        return before, step

    def _node(self, node: FlatNode, index: int, last: int, hoisted: bool, before: list[str], step: list[str]) -> int:
        """The calls of one node; gives the numbers of work memory that it needs."""
        lines = before if hoisted else step
        count = prod(node.map_shape)
        entering = self._entering(node, lines)
        moving = node.neuron is not None or (node.gain is not None and len(node.gain) > 1)
        if hoisted and moving:
            current = self._buffer(f"{variable(node.name)}_current", count)
        else:
            current = "work" if node.pool is not None else ""
        target = self._target(node, index, last, hoisted and not moving)
        current = current or target
        lines += self._weights(node, entering, current)
        lines = step if moving else lines
        if hoisted and node.gain is not None and len(node.gain) > 1:  # each step scales a copy
            copy = target if node.neuron is None and node.pool is None else "work"
            lines.append(f"memcpy({copy}, {current}, sizeof {current});")
            current = copy
        lines += self._normed(node, current)
        if node.neuron is not None:
            fired = target if node.pool is None else "work"
            if current != fired:
                lines.append(f"memcpy({fired}, {current}, sizeof(float) * {count});")
            lines.append(self._lif(node, node.neuron, fired))
            current = fired
        if node.rectify:
            self.used.add("rectify")
            lines.append(f"rectify({current}, {count});")
        if node.pool is not None:
            lines.append(self._pooled(node, current, target))
        return 0 if node.pool is None else count

    def _target(self, node: FlatNode, index: int, last: int, kept: bool) -> str:
        """Where a node's values go: a place in the arena, or memory of their own where they stay for all steps."""
        size = prod(node.out_shape)
        if kept:
            self.places[node.name] = self._buffer(f"{variable(node.name)}_out", size)
        else:
            self.places[node.name] = f"(arena + {self.arena.take(size, index, last)})"
        return self.places[node.name]

    def _entering(self, node: FlatNode, lines: list[str]) -> str:
        """The memory that holds what enters, summed up if several do."""
        names = [f"{variable(s.name)}_before" if s.back else self.places[s.name] for s in node.sources]
        if len(names) == 1:
            return names[0]
        count = prod(node.in_shape)
        sums = self._buffer(f"{variable(node.name)}_in", count)
        lines.append(f"memcpy({sums}, {names[0]}, sizeof {sums});")
        self.used.add("add")
        lines += [f"add({sums}, {name}, {count});" for name in names[1:]]
        return sums

    def _weights(self, node: FlatNode, entering: str, current: str) -> list[str]:
        name = variable(node.name)
        if node.weight is None:
            if node.votes > 1:
                self.used.add("vote")
                return [f"vote({entering}, {current}, {prod(node.map_shape)}, {node.votes});"]
            return [f"memcpy({current}, {entering}, sizeof(float) * {prod(node.map_shape)});"]
        pixels = prod(node.map_shape[1:])
        channels = node.map_shape[0]
        array, scales = self._quantised(_ordered(node))
        self._weight_array(f"{name}_weight", array)
        run = "line" if node.line else node.kind
        self.used |= {"add_row", run}
        if node.line:
            inside, height, width = node.in_shape
            columns = node.map_shape[2]
            sizes = f"{height}, {width}, {inside}, {columns}, {channels}, {node.kernel}, {node.stride}"
        elif node.kind == "conv":
            inside, height, width = node.in_shape
            _, rows, columns = node.map_shape
            sizes = f"{height}, {width}, {inside}, {rows}, {columns}, {channels}, {node.kernel}, {node.stride}"
        else:
            sizes = f"{prod(node.in_shape)}, {channels}"
        lines = [f"{run}({entering}, {current}, {name}_weight, {sizes});"]
        shift = node.shift if node.gain is None else None
        if scales is not None and shift is not None:
            self._scaled(lines, name, current, scales, shift, pixels, channels)
        elif scales is not None:
            self._call(lines, "times", current, pixels, channels, **{f"{name}_scale": scales})
        elif shift is not None:
            self._call(lines, "shift", current, pixels, channels, **{f"{name}_shift": shift})
        return lines

    def _scaled(
        self, lines: list[str], name: str, current: str, gain: np.ndarray, shift: np.ndarray, pixels: int, channels: int
    ) -> None:
        self._call(lines, "scale", current, pixels, channels, **{f"{name}_scale": gain, f"{name}_shift": shift})

    def _call(
        self, lines: list[str], what: str, current: str, pixels: int, channels: int, **arrays: np.ndarray
    ) -> None:
        self.used.add(what)
        for name, array in arrays.items():
            self._float_array(name, array)
        lines.append(f"{what}({current}, {', '.join(arrays)}, {pixels}, {channels});")

    def _normed(self, node: FlatNode, current: str) -> list[str]:
        """A norm with rows of its own for each time step."""
        if node.gain is None or node.shift is None:
            return []
        name = variable(node.name)
        pixels = prod(node.map_shape[1:])
        channels = node.map_shape[0]
        self._float_array(f"{name}_gain", node.gain)
        self._float_array(f"{name}_offset", node.shift)
        row = f" + t * {channels}" if len(node.gain) > 1 else ""
        self.used.add("scale")
        return [f"scale({current}, {name}_gain{row}, {name}_offset{row}, {pixels}, {channels});"]

    def _lif(self, node: FlatNode, p: LIFParameters, place: str) -> str:
        name = variable(node.name)
        count = prod(node.map_shape)
        self._buffer(f"{name}_v", count)
        self.used.add(f"lif_{p.kind}")
        numbers = [_literal(p.decay), _literal(p.gain), _literal(smallest_that_fires(p))]
        numbers += [_literal(p.v_threshold)] if p.kind == "soft" else []
        return f"lif_{p.kind}({place}, {name}_v, {count}, {', '.join(numbers)});"

    def _pooled(self, node: FlatNode, current: str, target: str) -> str:
        pool = node.pool
        assert pool is not None
        channels, height, width = node.map_shape
        _, rows, columns = node.out_shape
        if pool.line:  # rows are independent, and lie one after the other
            height, rows = 1, 1
        tall, wide = (height, width) if pool.size == 0 else pool.windows
        stride = pool.stride or pool.size or 1
        run = "average" if pool.kind == "average" else "largest"
        self.used.add(run)
        sizes = ", ".join(map(str, (height, width, channels, rows, columns, tall, wide, stride, pool.padding)))
        if not pool.line or node.map_shape[1] == 1:
            return f"{run}({current}, {target}, {sizes});"
        places = f"{current} + r * {width * channels}, {target} + r * {columns * channels}"
        return f"for (int r = 0; r < {node.map_shape[1]}; ++r) {run}({places}, {sizes});"

    def _input_lines(self) -> list[str]:
        """The loop that turns numbers of the data set into the input of a step."""
        channels, height, width = self.network.input_shape
        told = self.about.preprocess
        offset = f"t * {prod(self.network.input_shape)} + " if self.about.timed else ""
        value = "(float)image[at]"
        if told.mode == "unit":
            value += " / 255.0f"
        elif told.mode == "signed":
            value += " / 127.5f - 1.0f"
        elif told.mode == "standard":
            self._float_array("pixel_mean", np.broadcast_to(np.array(told.mean, dtype=np.float32), (channels,)))
            self._float_array("pixel_std", np.broadcast_to(np.array(told.std, dtype=np.float32), (channels,)))
            value = f"({value} - pixel_mean[c]) / pixel_std[c]"
        coded, value = self._coded(value)
        lines = [f"const long at = {offset}(long)c * {height * width} + p;", *coded]
        lines.append(f"input[p * {channels} + c] = {value};")
        return [
            f"for (int c = 0; c < {channels}; ++c)",
            f"    for (int p = 0; p < {height * width}; ++p) {{",
            *(f"        {line}" for line in lines),
            "    }",
        ]

    def _coded(self, value: str) -> tuple[list[str], str]:
        """Lines before, and the expression of, a number of the input coding at step ``t``."""
        coder = self.network.encoder.name
        if coder == "direct":
            return [], value
        self.used.add("nearest" if coder == "latency" else "uniform")
        if coder == "bernoulli":
            return [], f"{value} > uniform() ? 1.0f : 0.0f"
        lines = [f"const float value = {value};"]
        if coder == "latency":
            before = "(1.0f - (value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value))"
            lines.append(f"const int time = nearest({before} * {self.network.steps - 1}.0f);")
            return lines, "value > 0.0f && time == t ? 1.0f : 0.0f"
        lines.append("const int fires = 2.0f * uniform() <= (value < 0.0f ? -value : value);")
        return lines, "!fires ? 0.0f : value > 0.0f ? 1.0f : value < 0.0f ? -1.0f : 0.0f"

    def _quantised(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.int8:
            return array, None
        largest = np.abs(array).reshape(-1, array.shape[-1]).max(0)
        scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        return np.rint(array / scales).clip(-127, 127).astype(np.int8), scales

    def _weight_array(self, name: str, array: np.ndarray) -> None:
        self.flash += array.nbytes
        self.constants.append(_array("network_weight", name, array))

    def _float_array(self, name: str, array: np.ndarray) -> None:
        self.flash += array.size * 4
        self.constants.append(_array("float", name, np.asarray(array, dtype=np.float32)))

    def _buffer(self, name: str, count: int) -> str:
        self.ram += 4 * count
        self.buffers.append(f"static float {name}[{count}];")
        return name


def _ordered(node: FlatNode) -> np.ndarray:
    """Weights with the output channel innermost and the input as maps are stored, ``[row][column][channel]``."""
    weight = node.weight
    assert weight is not None
    if node.kind == "conv":
        return np.ascontiguousarray(weight[..., ::-1].transpose(2, 1, 3, 0))  # [K, Cin, K, Cout]
    if len(node.in_shape) == 3:
        weight = weight.reshape(-1, *node.in_shape).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    return np.ascontiguousarray(weight.T)  # [Fin, Fout]


def _array(kind: str, name: str, array: np.ndarray) -> str:
    flat = array.reshape(-1)
    told = [str(int(v)) for v in flat] if flat.dtype == np.int8 else [_literal(float(v)) for v in flat]
    lines = textwrap.wrap(", ".join(told), 118, break_long_words=False) if len(told) < 64 else _rows(told)
    return f"static const {kind} {name}[{len(flat)}] = {{\n  " + "\n  ".join(lines) + "\n};"


def _rows(told: list[str]) -> list[str]:
    each = 24 if "." not in told[0] else 8
    return [", ".join(told[i : i + each]) + "," for i in range(0, len(told), each)]


def _literal(value: float) -> str:
    """A float32 constant that reads back to the bit."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _pieces() -> dict[str, str]:
    """The parts of the template by name."""
    template = files("spikefed.interop").joinpath("network.c").read_text(encoding="utf-8")
    parts = re.split(r"^//@ (\w+)\n", template, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _in_order(names: list[str]) -> list[str]:
    """What others call comes first."""
    return sorted(names, key=lambda name: name != "add_row")


def _indented(lines: list[str], by: int) -> str:
    return textwrap.indent("\n".join(lines), " " * by)
