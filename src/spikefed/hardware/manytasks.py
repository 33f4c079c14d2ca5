"""Many tasks on one frozen network: what is stored, and an analytic model of what an image costs.

The setting is that of MIME (Bhattacharjee, Venkatesha, Moitra, Panda, DAC 2022): a parent network, and K tasks that
either have a whole network each, or share the parent's and keep a few numbers of their own. The paper's figures (3.48
times less memory, 2.4 to 3.1 times less energy) come from a set-up that it does not publish; this model is our own and
reproduces none of them. What it assumes:

* one chip holds one whole network at a time; what it lacks comes from DRAM, activations never leave the chip;
* a cycle is n images of each of the K tasks: ``singular`` shows them task by task, ``pipelined`` takes turns. Whole
  networks are loaded at every change of task; a shared one once a cycle, a task's own numbers at every change;
* a weight is read from SRAM once an image and layer, an input or output that is not 0 once each, and an operation is
  done for every weight that such an input meets;
* of a network without parts both sides are equally active, so that nothing is gained by sparsity; of one with parts
  the whole networks are as active as the parent, and the shared one as the task's parts make it.

Costs are counts of accesses to single numbers, in units of one multiply-accumulate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware.counts import LayerCounts
from spikefed.networks import adapter_rows, roles, state_tensors
from spikefed.networks.roles import NEURON

Own = Literal["thresholds-layer", "thresholds-channel", "thresholds-neuron", "bn", "head"]
"""What a task may have of its own; ``bn``: scales, shifts and running statistics."""
Mode = Literal["singular", "pipelined"]


@dataclass(frozen=True)
class AccessCosts:
    """Energy of one operation or access to one number, in multiply-accumulates.

    Attributes:
        mac: a multiply-accumulate, for inputs that are real numbers.
        add: an addition, for spikes: 0.9 of 4.6 pJ (Horowitz, ISSCC 2014, 32-bit floats at 45 nm).
        sram: on the chip: the global buffer of Eyeriss (Chen, Emer, Sze, ISCA 2016).
        dram: outside it (ibid.).
    """

    mac: float = 1.0
    add: float = 0.2
    sram: float = 6.0
    dram: float = 200.0


@dataclass(frozen=True)
class Split:
    """Energy of one image by where it is spent, in multiply-accumulates."""

    operations: float
    sram: float
    dram: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.operations + self.sram + self.dram


@dataclass(frozen=True)
class Numbers:
    """How many numbers a network has, and a task of its own.

    Attributes:
        network: weights, biases and normalisations of one whole network.
        own: of one task, where the rest is shared.
    """

    network: int
    own: int

    def stored(self, tasks: int) -> tuple[int, int]:
        """Numbers of the parent and so many tasks: a network each, and one for all."""
        return (1 + tasks) * self.network, self.network + tasks * self.own

    def ratio(self, tasks: int) -> float:
        """How many times less the shared network stores: (1 + K) P / (P + K p)."""
        whole, shared = self.stored(tasks)
        return whole / shared


def check_own(kinds: Sequence[Own]) -> None:
    """Refuse two kinds of thresholds.

    Raises:
        ConfigError: there are.
    """
    if sum(kind.startswith("thresholds") for kind in kinds) > 1:
        raise ConfigError("a task has one kind of thresholds; name thresholds-layer, -channel or -neuron, not several")


def own_numbers(net: nn.Module, layers: Sequence[LayerCounts], kinds: Sequence[Own]) -> Numbers:
    """Numbers of a network and of one task's part of it.

    Args:
        net: the network that the layers were counted on.
        layers: in the order in which they run (`count_operations`); the last is the head.
        kinds: what each task has of its own; together each number once.

    Raises:
        ConfigError: two kinds of thresholds.
    """
    check_own(kinds)
    role_of = roles(net)
    sizes = {name: t.numel() for name, t in state_tensors(net).items() if t.is_floating_point()}
    network = sum(size for name, size in sizes.items() if role_of[name] != NEURON)
    norms = sum(size for name, size in sizes.items() if role_of[name].startswith("bn"))
    firing = [layer for layer in layers if layer.neurons] or list(layers[:-1])  # of an ANN twin: its masks
    counts: Mapping[str, int] = {
        "thresholds-layer": len(firing),
        "thresholds-channel": sum(layer.out_channels for layer in firing),
        "thresholds-neuron": sum(layer.outputs for layer in firing),
        "bn": norms,
        "head": layers[-1].parameters,
    }
    return Numbers(network, sum(counts[kind] for kind in dict.fromkeys(kinds)))


def held_numbers(net: nn.Module) -> Numbers:
    """Numbers of a network that has parts for its tasks (`spikefed.networks.adapt`), and of one task's parts."""
    rows = {row.kind: row.values for row in adapter_rows(net)}
    return Numbers(rows.pop("frozen"), sum(rows.values()))


def on_chip(layers: Sequence[LayerCounts], numbers: Numbers, costs: AccessCosts) -> Split:
    """What one image costs on the chip, whatever comes from outside: the same for whole and for shared networks."""
    operations = sum(layer.events * (costs.mac if layer.dense else costs.add) for layer in layers)
    moved = sum(layer.active + (layer.spikes or layer.outputs) for layer in layers)
    return Split(operations, (moved + numbers.network) * costs.sram, 0.0)


def image_energy(
    layers: Sequence[LayerCounts],
    numbers: Numbers,
    *,
    tasks: int,
    images: int,
    mode: Mode,
    costs: AccessCosts,
    own_layers: Sequence[LayerCounts] | None = None,
) -> tuple[Split, Split]:
    """Mean energy of an image in a cycle over all tasks: with a network each, and with one for all.

    Args:
        layers: counted on images.
        numbers: of the network and of a task's part.
        tasks: K, at least 1.
        images: n of each task in a cycle, at least 1.
        mode: task by task, or in turns.
        costs: of operations and accesses.
        own_layers: counted with a task's parts on, for the shared network; None: it is as active as the whole ones.
    """
    inside = on_chip(layers, numbers, costs)
    shared_inside = inside if own_layers is None else on_chip(own_layers, numbers, costs)
    changes = 1.0 if mode == "pipelined" else 1.0 / images  # of task, for each image
    whole = numbers.network * changes
    shared = numbers.network / (tasks * images) + numbers.own * changes
    read = numbers.own * costs.sram  # a shared network reads thresholds beside its weights
    return (
        Split(inside.operations, inside.sram, whole * costs.dram),
        Split(shared_inside.operations, shared_inside.sram + read, shared * costs.dram),
    )
