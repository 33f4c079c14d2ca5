"""A network as one C99 file without dependencies: event-driven, float32 or int8 weights, every buffer static.

The text of the file is made of the pieces of ``network.c`` that the network needs, its arrays, and one call a line for
each layer. Weights stand with the output channel innermost, so that a spike adds one row of them, or where few are left
the survivors of one (``cweights.py``); int8 weights have a scale for each output channel, w = scale * round(w / scale),
scale = max |w| / 127 (symmetric quantisation). With spikes as input the sums of int8 weights are exact in float32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np

from spikefed.errors import ConfigError
from spikefed.interop.about import About
from spikefed.interop.ctext import array_text, functions, indented, layer_lines, literal, pieces
from spikefed.interop.cweights import MOST_LEFT, Held, held
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
        layers: how the weights of each layer stand in it.
    """

    text: str
    flash_bytes: int
    ram_bytes: int
    notes: tuple[str, ...]
    layers: tuple[Held, ...]

    @property
    def facts(self) -> dict[str, int]:
        """Numbers worth knowing: sizes, weights, and multiply-adds of a time step in which every input is active."""
        return {
            "flash_bytes": self.flash_bytes,
            "ram_bytes": self.ram_bytes,
            "weights": sum(layer.whole for layer in self.layers),
            "weights_left": sum(layer.left for layer in self.layers),
            "layers_as_lists": sum(layer.form == "lists" for layer in self.layers),
            "most_operations_a_step": sum(
                layer.most_whole if layer.form == "rows" else layer.most for layer in self.layers
            ),
        }


def c_file(network: Flat, about: About, weights: str = "float32", lists: str = "auto") -> CFile:
    """The C file; equal networks give equal texts.

    Args:
        network: with the weights.
        about: how pixels enter it.
        weights: ``float32``, or ``int8`` for a quarter of the flash.
        lists: pruned layers as lists of the weights that are left where these are smaller and faster: ``auto`` on a
            processor without vectors (at most half of a layer's weights), ``vectors`` on any (a fiftieth), ``never``.

    Raises:
        ConfigError: send-on-delta coding, or another word for the weights or lists.
    """
    if lists not in MOST_LEFT:
        raise ConfigError(f"lists '{lists}' is not known to the C export; use {', '.join(MOST_LEFT)}")
    if weights not in WEIGHTS:
        raise ConfigError(f"weights '{weights}' are not known to the C export; use {' or '.join(WEIGHTS)}")
    if network.encoder.name == "delta":
        raise ConfigError(
            "input coding 'delta' is not written as C, since it remembers its input; use network.coding = 'direct' for "
            "a network that leaves as C, or export it to torch"
        )
    return _Writer(network, about, weights == "int8", lists).file()


@dataclass
class _Writer:
    """Collects arrays, buffers and calls while it walks the network."""

    network: Flat
    about: About
    int8: bool
    lists: str
    layers: list[Held] = field(default_factory=list)
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
            "LAYERS": layer_lines(self.layers),
            "BEFORE": indented(before, 4),
            "STEP": indented(step, 8),
            "OUTPUT": self.places[self.network.output],
            "AFTER": indented(after, 8),
        }
        parts = pieces()
        body = [parts["head"], *self.constants, *self.buffers, *functions(parts, self.used)]
        text = "\n".join([*body, parts["predict"], parts["main"]])
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        return CFile(re.sub(r"\n{3,}", "\n\n", text), self.flash, self.ram, self._notes(), tuple(self.layers))

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
        made = held(node, self.int8, self.lists)
        self.layers.append(made)
        if made.form == "none":
            lines = [f"memset({current}, 0, sizeof(float) * {prod(node.map_shape)});"]
        else:
            run, arrays = self._product(node, made), self._held(name, made)
            lines = [f"{run}({entering}, {current}, {arrays}, {_sizes(node)});"]
        scales = made.scales
        shift = node.shift if node.gain is None else None
        if scales is not None and shift is not None:
            self._scaled(lines, name, current, scales, shift, pixels, channels)
        elif scales is not None:
            self._call(lines, "times", current, pixels, channels, **{f"{name}_scale": scales})
        elif shift is not None:
            self._call(lines, "shift", current, pixels, channels, **{f"{name}_shift": shift})
        return lines

    def _product(self, node: FlatNode, made: Held) -> str:
        """The function that adds weights up for what enters, its pieces noted."""
        run = "line" if node.line else node.kind
        if made.form == "rows":
            self.used |= {"events", "add_row", run}
            return run
        place = made.suffix.partition("_")[0]
        self.used |= {"events", f"add_list_{place}", f"{run}_lists_{made.suffix}"}
        return f"{run}_lists_{made.suffix}"

    def _held(self, name: str, made: Held) -> str:
        """The arrays of the weights, as arguments."""
        arrays = {"weight": made.weight}
        if made.first is not None and made.at is not None:
            arrays = {"first": made.first, "at": made.at, **arrays}
        for what, array in arrays.items():
            self.flash += array.nbytes
            kind = "network_weight" if what == "weight" else f"uint{8 * array.itemsize}_t"
            self.constants.append(array_text(kind, f"{name}_{what}", array))
        return ", ".join(f"{name}_{what}" for what in arrays)

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
        numbers = [literal(p.decay), literal(p.gain), literal(smallest_that_fires(p))]
        numbers += [literal(p.v_threshold)] if p.kind == "soft" else []
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

    def _float_array(self, name: str, array: np.ndarray) -> None:
        self.flash += array.size * 4
        self.constants.append(array_text("float", name, np.asarray(array, dtype=np.float32)))

    def _buffer(self, name: str, count: int) -> str:
        self.ram += 4 * count
        self.buffers.append(f"static float {name}[{count}];")
        return name


def _sizes(node: FlatNode) -> str:
    """What the function of a layer is told of its maps."""
    channels = node.map_shape[0]
    if node.kind != "conv":
        return f"{prod(node.in_shape)}, {channels}"
    inside, height, width = node.in_shape
    _, rows, columns = node.map_shape
    out = f"{columns}" if node.line else f"{rows}, {columns}"
    return f"{height}, {width}, {inside}, {out}, {channels}, {node.kernel}, {node.stride}"
