"""What an input coding costs: the first layer counted once and in every step, random numbers, and what must be kept.

The rows of one network. Its own coding's arithmetic is that of the paper's formula (`spikefed.hardware`); what the
formula leaves out stands beside it:

================  ====================================================================================================
random numbers    one for each pixel and step of a coding that draws: a 32-bit xorshift (Marsaglia, J. Stat. Softw. 8,
                  2003: three shifts, three exclusive ors) and a comparison, each priced as a 32-bit integer addition
coder memory      bytes that are read so that the coding can go on for T steps: under direct coding the first layer's
                  currents (float32) once computed are read again in each later step; a coding that spikes reads the
                  pixels (a byte each) in every step
================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware import FP32, INT32, LayerCounts, arithmetic, count_operations, regime
from spikefed.hardware.costs import MEMORY_PJ_PER_BYTE
from spikefed.networks.monitor import device_of
from spikefed.neurons import Bernoulli, Direct, SignedPoisson
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject

DRAW_OPERATIONS = 7
"""Integer operations of one random number and its comparison with the pixel."""


class CodingHyperparameters(ProbeHyperparameters):
    """What `Coding` can be told."""

    images: int | None = Field(default=64, ge=1, description="use only the first so many test images")
    ann_bits: int = Field(default=3, ge=1, le=8, description="activations of the quantised ANN that it must beat")
    weight_bits: int = Field(default=8, ge=8, le=8, description="weights of both in that comparison")


class Coding(Probe):
    """Energy by input coding, with what the papers' formula leaves out."""

    name: ClassVar[str] = "coding"
    title: ClassVar[str] = "Input coding"
    summary: ClassVar[str] = (
        "cost of the input coding: first layer once and T times, random numbers, memory, break-even"
    )
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = CodingHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("item", "Item", unit="text"),
        Quantity("coding", "Coding", unit="text"),
        Quantity("steps", "Steps"),
        Quantity("operations", "Operations", "of an image, all steps together"),
        Quantity("moved_bytes", "Moved", "of an image, all steps together"),
        Quantity("energy_pj", "Energy", "of an image"),
        Quantity("against", "Compared with", unit="text"),
        Quantity("input_rate", "Spikes an input", "over all time steps, weighted by operations"),
        Quantity(
            "break_even_rate", "Break-even", "spikes an input below which the spiking network needs less", "limit"
        ),
        Quantity("snn_pj", "SNN", "of an image"),
        Quantity("ann_pj", "ANN", "of an image"),
        Quantity("coder_pj", "Coder", "random numbers and coder memory of an image"),
        Quantity("first_layer_pj", "First layer", "counted once where its input stays the same"),
        Quantity("network_pj", "Network", "the papers' formula, likewise"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in two parts: items of the cost, and the comparison with a quantised ANN."""
        hyper: CodingHyperparameters = ctx.hyper
        coder, steps = getattr(net, "encoder", None), int(getattr(net, "steps", 1))
        if coder is None:
            raise ConfigError("the network has no input coding; give one of this package")
        images = subject.preprocess(subject.images).to(device_of(net))
        layers = count_operations(net, images, ctx.generator)
        first, name, pixels = layers[0], str(coder.name), float(images[0].numel())
        kept = 4.0 * first.outputs * (steps - 1) if isinstance(coder, Direct) else pixels * steps
        drawn = pixels * steps if isinstance(coder, Bernoulli | SignedPoisson) else 0.0
        shared = {"part": "items", "coding": name, "steps": steps}
        rows: list[Record] = [
            {**shared, "item": f"first layer, {how}", **_first(first, steps, how)} for how in ("once", "every-step")
        ]
        rows += [
            {**shared, "item": "random numbers", "operations": drawn, "energy_pj": _draws_pj(drawn)},
            {**shared, "item": "coder memory", "moved_bytes": kept, "energy_pj": kept * MEMORY_PJ_PER_BYTE},
            *({**shared, "item": f"network, {how}", "energy_pj": _network_pj(layers, steps, how)} for how in HOW),
        ]
        return [*rows, *(_against(layers, steps, hyper, memory) for memory in (False, True))]

    def headline(self, records: Sequence[Record]) -> Record:
        """Coder, first layer and network."""
        cost = {str(row["item"]): float(row["energy_pj"] or 0) for row in records if row["part"] == "items"}
        return {
            "coder_pj": cost["random numbers"] + cost["coder memory"],
            "first_layer_pj": cost["first layer, once"],
            "network_pj": cost["network, once"],
        }


HOW: tuple[arithmetic.FirstLayer, ...] = ("once", "every-step")


def _first(first: LayerCounts, steps: int, how: arithmetic.FirstLayer) -> Record:
    passes = arithmetic.dense_passes(first, steps, how) if first.dense else first.input_rate
    return {"operations": first.macs * passes, "energy_pj": arithmetic.paper_pj(first, FP32, steps, how)}


def _draws_pj(drawn: float) -> float:
    return drawn * DRAW_OPERATIONS * INT32.add_pj


def _network_pj(layers: Sequence[LayerCounts], steps: int, how: arithmetic.FirstLayer) -> float:
    return sum(arithmetic.paper_pj(layer, FP32, steps, how) for layer in layers)


def _against(layers: Sequence[LayerCounts], steps: int, hyper: CodingHyperparameters, memory: bool) -> Record:
    numbers = regime(f"int{hyper.weight_bits}")
    model = "with memory" if memory else "arithmetic"
    settings = {"ann_mac_pj": numbers.quantised_mac_pj(hyper.ann_bits), "regime": numbers, "memory": memory}
    snn, ann = arithmetic.both_pj(layers, steps, **settings)
    return {
        "part": "break-even",
        "against": f"{hyper.ann_bits}-bit ANN, int{hyper.weight_bits} weights, {model}",
        "input_rate": arithmetic.mean_rate(layers),
        "break_even_rate": arithmetic.break_even(layers, steps, **settings),
        "snn_pj": snn,
        "ann_pj": ann,
    }
