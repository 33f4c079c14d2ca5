"""What it would save to serve many tasks with this network frozen and a few numbers for each (`hardware.manytasks`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from spikefed.hardware import LayerCounts, count_operations
from spikefed.hardware.manytasks import (
    AccessCosts,
    Mode,
    Numbers,
    Own,
    check_own,
    held_numbers,
    image_energy,
    own_numbers,
)
from spikefed.networks import ANNNetwork, select_task, tasks_of, without_parts, zero_shares
from spikefed.probes.contract import Curve, Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject

KINDS: tuple[Own, ...] = ("thresholds-layer", "thresholds-channel", "thresholds-neuron", "bn", "head")
MODES: tuple[Mode, ...] = ("singular", "pipelined")
NUMBER_BYTES = 4
"""Float32."""
SWEPT = (50.0, 100.0, 200.0, 400.0)
"""Costs of DRAM that the table of costs is varied by."""


class ManyTasksHyperparameters(ProbeHyperparameters):
    """What `ManyTasks` can be told."""

    images: int | None = Field(default=64, ge=1, description="use only the first so many test images")
    tasks: int = Field(default=3, ge=1, le=10_000, description="K, tasks beside the parent's own [MIME: 3]")
    own: list[Own] = Field(
        default=["thresholds-channel", "head"],
        min_length=1,
        description="what each task would have of its own; a network that has parts for tasks is taken with these",
    )
    task: int = Field(default=0, ge=0, description="whose parts are on, of a network that has parts for tasks")
    run_lengths: list[Annotated[int, Field(ge=1)]] = Field(
        default=[1, 2, 5, 10, 100, 1000], min_length=1, description="n, images of each task in a cycle"
    )
    mac: float = Field(default=1.0, gt=0, description="cost of a multiply-accumulate, the unit of the others")
    add: float = Field(default=0.2, gt=0, description="cost of an addition [Horowitz 2014: 0.9 of 4.6 pJ]")
    sram: float = Field(default=6.0, gt=0, description="cost of a number from the chip's buffer [Eyeriss: 6]")
    dram: float = Field(default=200.0, gt=0, description="cost of a number from DRAM [Eyeriss: 200]")

    @property
    def costs(self) -> AccessCosts:
        """The table of costs."""
        return AccessCosts(self.mac, self.add, self.sram, self.dram)


class ManyTasks(Probe):
    """Storage in closed form, energy by an analytic model with its parts, over run lengths and costs of DRAM."""

    name: ClassVar[str] = "many-tasks"
    title: ClassVar[str] = "Many tasks on one network"
    summary: ClassVar[str] = "storage and energy of many tasks with a network each, or one frozen network for all"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = ManyTasksHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("own", "A task's own", "what every task has beside the shared network", "text"),
        Quantity("numbers", "Numbers a task"),
        Quantity("of_network_share", "Of a network"),
        Quantity("whole_bytes", "A network each", "parent and tasks, float32"),
        Quantity("shared_bytes", "One for all"),
        Quantity("memory_ratio", "Memory ratio", "(1 + K) P / (P + K p)"),
        Quantity("mode", "Mode", "task by task (singular), or in turns (pipelined)", "text"),
        Quantity("run_length", "Run length", "images of each task in a cycle"),
        Quantity("dram_cost", "Cost of DRAM", "in multiply-accumulates"),
        Quantity("operations", "Operations", "of an image, in multiply-accumulates, a network each"),
        Quantity("shared_operations", "Operations, one for all"),
        Quantity("whole_sram", "On chip, a network each"),
        Quantity("whole_dram", "DRAM, a network each"),
        Quantity("shared_sram", "On chip, one for all"),
        Quantity("shared_dram", "DRAM, one for all"),
        Quantity("energy_ratio", "Energy ratio", "above 1 one network for all needs less"),
        Quantity("zero_share", "Zeros", "hidden activations that are 0, with the task's parts", "share"),
        Quantity("zero_deviation", "Deviation", "of these between images", "share"),
        Quantity("parent_zero_share", "Zeros of the parent", "with ReLU", "share"),
        Quantity("singular_ratio", "Singular", "energy ratio, task by task"),
        Quantity("pipelined_ratio", "Pipelined", "energy ratio, in turns"),
    )
    curves: ClassVar[tuple[Curve, ...]] = (
        Curve("run_length", "pipelined_ratio", "ratios"),
        Curve("run_length", "singular_ratio", "ratios"),
    )

    def check(self, hyper: ManyTasksHyperparameters) -> None:
        """Refuse two kinds of thresholds before anything runs."""
        check_own(hyper.own)

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in parts: storage, energy, ratios over the run length and at other costs of DRAM, activity of masks."""
        hyper: ManyTasksHyperparameters = ctx.hyper
        images = subject.preprocess(subject.images)
        adapted = tasks_of(net) > 0
        with without_parts(net):
            layers = count_operations(net, images, generator=ctx.generator)
        own_layers = None
        if adapted:
            select_task(net, hyper.task)
            own_layers = count_operations(net, images, generator=ctx.generator)
        choices: list[list[Own]] = [*([kind] for kind in KINDS if [kind] != hyper.own), hyper.own]
        stored = {" + ".join(own): own_numbers(net, layers, own) for own in choices} if not adapted else {}
        numbers = held_numbers(net) if adapted else list(stored.values())[-1]
        stored = stored or {"its parts": numbers}
        cycle = Cycle(layers, own_layers, numbers, hyper.tasks)
        return [
            *(_stored(each, own, hyper.tasks) for own, each in stored.items()),
            *(_spent(cycle, mode, length, hyper.costs) for length in hyper.run_lengths for mode in MODES),
            *_varied(cycle, hyper),
            *(_activity(net, images, hyper.task) if adapted and isinstance(net, ANNNetwork) else []),
        ]

    def headline(self, records: Sequence[Record]) -> Record:
        """Memory of what was asked for, and the ratios at the longest run."""
        stored = [row for row in records if row["part"] == "storage"][-1]
        last = [row for row in records if row["part"] == "ratios"][-1]
        return {
            "memory_ratio": stored["memory_ratio"],
            "singular_ratio": last["singular_ratio"],
            "pipelined_ratio": last["pipelined_ratio"],
        }


@dataclass(frozen=True)
class Cycle:
    """What a cycle over tasks is made of.

    Attributes:
        layers: counted on the network without parts.
        own_layers: counted with a task's parts on; None: it has none.
        numbers: of the network and a task.
        tasks: how many.
    """

    layers: Sequence[LayerCounts]
    own_layers: Sequence[LayerCounts] | None
    numbers: Numbers
    tasks: int


def _stored(numbers: Numbers, own: str, tasks: int) -> Record:
    whole, shared = numbers.stored(tasks)
    return {
        "part": "storage",
        "own": own,
        "numbers": numbers.own,
        "of_network_share": numbers.own / numbers.network,
        "whole_bytes": whole * NUMBER_BYTES,
        "shared_bytes": shared * NUMBER_BYTES,
        "memory_ratio": numbers.ratio(tasks),
    }


def _spent(cycle: Cycle, mode: Mode, length: int, costs: AccessCosts) -> Record:
    """One row of energy.

    Args:
        cycle: networks and tasks.
        mode: task by task, or in turns.
        length: images of each task in it.
        costs: of accesses.
    """
    whole, shared = image_energy(
        cycle.layers,
        cycle.numbers,
        tasks=cycle.tasks,
        images=length,
        mode=mode,
        costs=costs,
        own_layers=cycle.own_layers,
    )
    return {
        "part": "energy",
        "mode": mode,
        "run_length": length,
        "operations": whole.operations,
        "whole_sram": whole.sram,
        "whole_dram": whole.dram,
        "shared_operations": shared.operations,
        "shared_sram": shared.sram,
        "shared_dram": shared.dram,
        "energy_ratio": whole.total / shared.total,
    }


def _varied(cycle: Cycle, hyper: ManyTasksHyperparameters) -> list[Record]:
    """Ratios over the run length, and at other costs of DRAM."""

    def ratios(length: int, costs: AccessCosts) -> dict[str, Any]:
        return {f"{mode}_ratio": _spent(cycle, mode, length, costs)["energy_ratio"] for mode in MODES}

    longest = max(hyper.run_lengths)
    over = [{"part": "ratios", "run_length": n} | ratios(n, hyper.costs) for n in sorted(hyper.run_lengths)]
    costs = [AccessCosts(hyper.mac, hyper.add, hyper.sram, dram) for dram in SWEPT]
    other = [
        {"part": "other costs", "dram_cost": each.dram, "run_length": longest} | ratios(longest, each) for each in costs
    ]
    return [*over, *other]


def _activity(net: nn.Module, images: Tensor, task: int) -> list[Record]:
    """How sparse an ANN twin's activations are with a task's parts, and how much that differs between images."""
    with without_parts(net):
        before = zero_shares(net, images)
    now = zero_shares(net, images)
    return [
        {
            "part": "activity",
            "task": task,
            "zero_share": float(now.mean()),
            "zero_deviation": float(now.std(correction=0)),
            "parent_zero_share": float(before.mean()),
        }
    ]
