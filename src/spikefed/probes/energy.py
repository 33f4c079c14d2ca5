"""What an image costs by published models of hardware: the numbers of `spikefed.hardware.energy_report` as records.

A run also leaves them whole in ``energy.json``, as it did before there were probes; `records_of` reads such a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.hardware import energy_report
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject

IMAGES = 64
"""Enough for steady rates."""


class EnergyHyperparameters(ProbeHyperparameters):
    """What `Energy` can be told."""

    images: int | None = Field(default=IMAGES, ge=1, description="use only the first so many test images")
    first_layer: Literal["once", "every-step"] = Field(
        default="once", description="direct coding's first layer is charged once, or in every step"
    )
    weight_bits: Literal[8, 32] = Field(
        default=8, description="weights of the quantised ordinary network, and of the spiking one beside it"
    )


class Energy(Probe):
    """Energy of one inference by several published models, layer by layer, beside an ordinary network's."""

    name: ClassVar[str] = "energy"
    title: ClassVar[str] = "Energy"
    summary: ClassVar[str] = "energy of an image by published models, by layer, beside an ordinary network of the same"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = EnergyHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("layer", "Layer", unit="text"),
        Quantity(
            "against", "Compared with", "the ordinary network (ANN) of the same layers, and what is counted", "text"
        ),
        Quantity("macs", "MACs", "multiply-accumulates of one dense pass"),
        Quantity("synops", "Synops", "weights that spikes touch, all steps together"),
        Quantity("spike_rate", "Spike rate", "spikes a neuron and time step"),
        Quantity("input_rate", "Spikes an input", "over all time steps"),
        Quantity(
            "break_even_rate", "Break-even", "spikes an input below which the spiking network needs less", "limit"
        ),
        Quantity("ann_pj", "ANN", "an ordinary network of the same layers, arithmetic in FP32"),
        Quantity("snn_pj", "SNN", "arithmetic in FP32"),
        Quantity("ann_over_snn", "ANN / SNN", "above 1 the spiking network needs less"),
        Quantity("memory_pj", "With memory", "arithmetic, and a flat price for every byte moved"),
        Quantity("lemaire_pj", "Lemaire", "arithmetic, memory and addressing by Lemaire et al."),
        Quantity("spikesim_pj", "SpikeSim", "in-memory crossbars by SpikeSim"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in two parts: a layer or the total, and a comparison with an ordinary network."""
        hyper: EnergyHyperparameters = ctx.hyper
        return records_of(
            energy_tree(net, subject, ctx.generator, first_layer=hyper.first_layer, weight_bits=hyper.weight_bits)
        )

    def headline(self, records: Sequence[Record]) -> Record:
        """The network's total by each model."""
        total = next(row for row in records if row["part"] == "layers" and row["layer"] == "total")
        return {key: value for key, value in total.items() if key.endswith("_pj") and value is not None}


def energy_tree(net: nn.Module, subject: Subject, generator: torch.Generator, **settings: Any) -> dict[str, Any]:
    """Totals and layers as ``energy.json`` has them (keywords of `spikefed.hardware.energy_report`).

    Args:
        net: the network measured.
        subject: images ``[N, C, H, W]`` with labels.
        generator: draws of the encoding.
        **settings: keywords of `spikefed.hardware.energy_report`.
    """
    shown: Tensor = subject.preprocess(subject.images)
    return json.loads(energy_report(net, shown, generator=generator, **settings).to_json())


def records_of(tree: Mapping[str, Any]) -> list[Record]:
    """Records of the probe from what ``energy.json`` holds.

    Raises:
        KeyError, TypeError: it is no such tree.
    """
    layers = tree["layers"]
    totals = tree["totals"]
    spiking = bool(totals["break_even"])
    records: list[Record] = [_layer(layer, spiking) for layer in layers]
    records.append(
        {
            "part": "layers",
            "layer": "total",
            "macs": totals["macs_dense"],
            "synops": totals["synops"],
            "spike_rate": None,
            "input_rate": totals["mean_input_rate"] if spiking else None,
            "ann_pj": totals["ann_fp32_pj"],
            "snn_pj": totals["paper_formula_fp32_pj"] if spiking else None,
            "memory_pj": totals["simple_with_memory_pj"],
            "lemaire_pj": totals["lemaire_pj"],
            "spikesim_pj": totals["spikesim_dense_pj"] if spiking else None,
        }
    )
    for row in totals["break_even"]:
        records.append(
            {
                "part": "comparisons",
                "against": row["against"],
                "input_rate": row["measured"],
                "break_even_rate": row["rate"],
                "ann_pj": row["ann_pj"],
                "snn_pj": row["snn_pj"],
                "ann_over_snn": row["ratio"],
            }
        )
    return records


def _layer(layer: Mapping[str, Any], spiking: bool) -> Record:
    counts = layer["counts"]
    dense = counts["input"] == "real"
    return {
        "part": "layers",
        "layer": counts["name"],
        "macs": counts["macs"],
        "synops": None if dense else counts["events"],
        "spike_rate": counts["spikes"] / counts["updates"] if counts["updates"] else None,
        "input_rate": None if dense else counts["active"] / counts["inputs"],
        "ann_pj": layer["ann_pj"],
        "snn_pj": layer["paper_fp32_pj"] if spiking else None,
        "memory_pj": layer["simple_pj"],
        "lemaire_pj": layer["lemaire_pj"],
        "spikesim_pj": layer["spikesim_pj"] if spiking else None,
    }
