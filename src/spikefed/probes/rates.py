"""How often the neurons of each layer fire: by step and by class, and how many never do or nearly always do.

A rate is spikes per neuron, image and time step, in [0, 1]. A silent neuron fired on no image that was shown; it costs
memory and says nothing. A saturated one fires whatever it is shown and says nothing either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.probes.spikes import watched

ALL = "all layers"


class RatesHyperparameters(ProbeHyperparameters):
    """What `Rates` can be told."""

    saturated: float = Field(
        default=0.95, gt=0, le=1, description="share of images and steps from which on a neuron counts as saturated"
    )


class _Counts:
    """Spikes of one layer, summed over the images."""

    def __init__(self, steps: int, classes: int, neurons: int) -> None:
        self.by_step = torch.zeros(steps, classes, dtype=torch.int64)
        self.by_neuron = torch.zeros(neurons, dtype=torch.int64)

    def add(self, fired: Tensor, labels: Tensor) -> None:
        """Spikes ``[T, B, neurons]`` of a batch with these labels."""
        self.by_step.index_add_(1, labels, fired.sum(dim=2).cpu())
        self.by_neuron += fired.sum(dim=(0, 1)).cpu()


class Rates(Probe):
    """Spikes a layer, step and class; silent and saturated neurons."""

    name: ClassVar[str] = "rates"
    title: ClassVar[str] = "Firing rates"
    summary: ClassVar[str] = "spikes by layer, time step and class; silent and saturated neurons"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = RatesHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("layer", "Layer", unit="text"),
        Quantity("step", "Step", "time step, from 1"),
        Quantity("class", "Class", unit="text"),
        Quantity("neurons", "Neurons"),
        Quantity("rate", "Rate", "spikes a neuron, image and time step"),
        Quantity("image_spikes", "Spikes an image", "of all neurons, over all time steps"),
        Quantity("silent_share", "Silent", "neurons that fired on no image", "share"),
        Quantity("saturated_share", "Saturated", "neurons that fired on nearly every image and step", "share"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in three parts: a layer, a layer's step, a layer's class."""
        hyper: RatesHyperparameters = ctx.hyper
        shown = torch.bincount(subject.labels, minlength=len(subject.classes))
        counts: dict[str, _Counts] = {}

        def see(layer: str, fired: Tensor, rows: slice) -> None:
            steps, _, neurons = fired.shape
            counts.setdefault(layer, _Counts(steps, len(shown), neurons)).add(fired, subject.labels[rows])

        for _ in watched(net, subject, ctx, see):
            pass
        records = [_of_layers(name, [layer], len(subject), hyper.saturated) for name, layer in counts.items()]
        records.append(_of_layers(ALL, list(counts.values()), len(subject), hyper.saturated))
        for name, layer in counts.items():
            records += _of_steps(name, layer, len(subject))
        for name, layer in counts.items():
            records += _of_classes(name, layer, shown, subject.classes)
        return records

    def headline(self, records: Sequence[Record]) -> Record:
        """Of all layers together."""
        whole = next(row for row in records if row["part"] == "layers" and row["layer"] == ALL)
        return {key: whole[key] for key in ("rate", "image_spikes", "silent_share", "saturated_share")}


def _of_layers(name: str, layers: Sequence[_Counts], images: int, saturated: float) -> Record:
    """A layer, or several together."""
    neurons = sum(len(layer.by_neuron) for layer in layers)
    spikes = sum(int(layer.by_neuron.sum()) for layer in layers)
    slots = [len(layer.by_step) * images for layer in layers]  # in which a neuron could have fired
    full = sum(int((layer.by_neuron >= saturated * n).sum()) for layer, n in zip(layers, slots, strict=True))
    return {
        "part": "layers",
        "layer": name,
        "neurons": neurons,
        "rate": spikes / sum(len(layer.by_neuron) * n for layer, n in zip(layers, slots, strict=True)),
        "image_spikes": spikes / images,
        "silent_share": sum(int((layer.by_neuron == 0).sum()) for layer in layers) / neurons,
        "saturated_share": full / neurons,
    }


def _of_steps(name: str, layer: _Counts, images: int) -> list[Record]:
    spikes = layer.by_step.sum(dim=1).tolist()
    return [
        {
            "part": "steps",
            "layer": name,
            "step": step,
            "rate": count / images / len(layer.by_neuron),
            "image_spikes": count / images,
        }
        for step, count in enumerate(spikes, start=1)
    ]


def _of_classes(name: str, layer: _Counts, shown: Tensor, classes: Sequence[str]) -> list[Record]:
    """A row a class of which an image was shown."""
    spikes = layer.by_step.sum(dim=0).tolist()
    slots = len(layer.by_step) * len(layer.by_neuron)
    return [
        {
            "part": "classes",
            "layer": name,
            "class": label,
            "rate": count / images / slots,
            "image_spikes": count / images,
        }
        for label, count, images in zip(classes, spikes, shown.tolist(), strict=True)
        if images
    ]
