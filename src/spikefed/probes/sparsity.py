"""What is left of a network: weights, the additions that spikes cause through them, bytes of its file, time.

Fewer weights save synaptic operations only as far as the spikes do not grow, so both are counted: a spike costs one
addition for every non-zero weight that it meets, at the borders of a map as well. Inputs of a first layer that is given
real numbers cost multiplications instead; they are counted the same way, by non-zero inputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import as_input, by_input, copy_tensors, geometry, weight_of, weighted, write_tensors
from spikefed.neurons import dense_weights
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject

BATCH = 32
"""Images that are computed at once when operations are counted, and whose time is taken."""
ALL = "all layers"
TOLD = ("left_share", "synops", "file_bytes", "image_s")


class SparsityHyperparameters(ProbeHyperparameters):
    """What `Sparsity` can be told."""

    images: int | None = Field(default=64, ge=1, description="use only the first so many test images")
    repeats: int = Field(
        default=0,
        ge=0,
        le=100,
        description="measurements of time, of which the median is told; 0: none, as no two agree",
    )


class Sparsity(Probe):
    """Weights left, synaptic operations, bytes and time, by layer and of all."""

    name: ClassVar[str] = "sparsity"
    title: ClassVar[str] = "What is left"
    summary: ClassVar[str] = "weights left, synaptic operations through them, bytes of the file, measured time"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = SparsityHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("layer", "Layer", unit="text"),
        Quantity("weights", "Weights", "of convolutions and linear layers"),
        Quantity("left", "Left", "that are not zero"),
        Quantity("left_share", "Left", "of all"),
        Quantity("input_rate", "Active inputs", "share of a layer's inputs that are not zero, over all steps", "share"),
        Quantity("synops", "Operations an image", "a non-zero input meets a non-zero weight, all steps together"),
        Quantity("synops_share", "Of those with all weights", "at the same activity"),
        Quantity("file_bytes", "File", "of the weights, sparse where that is smaller"),
        Quantity("dense_bytes", "File, dense"),
        Quantity("image_s", "Time an image", "processor time in batches of 32, on this machine"),
        Quantity("dense_image_s", "The same, dense", "with products over all weights"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """A row a layer, and one of all."""
        layers = {name: module for name, module in net.named_modules() if weighted(module)}
        if not layers:
            raise ConfigError(
                "this network has no convolution or linear layer that spikes enter, whose weights the probe counts; "
                "those of an ANN twin are not counted"
            )
        counted = _operations(net, layers, subject, ctx)
        records: list[Record] = [self._row(name, weight_of(layers[name]), *counted[name]) for name in layers]
        weights, left = (sum(int(row[key] or 0) for row in records) for key in ("weights", "left"))
        synops, whole = (sum(counted[name][i] for name in layers) for i in (0, 1))
        total: Record = {
            "layer": ALL,
            "weights": weights,
            "left": left,
            "left_share": left / weights,
            "synops": synops,
            "synops_share": synops / whole if whole else None,
            **_bytes(net, layers),
            **(self._times(net, subject, ctx) if ctx.hyper.repeats else {}),
        }
        return [*records, total]

    def headline(self, records: Sequence[Record]) -> Record:
        """What is left of all layers."""
        return {key: value for key, value in records[-1].items() if key in TOLD}

    @staticmethod
    def _row(name: str, weight: Tensor, synops: float, whole: float, rate: float) -> Record:
        left = int(weight.count_nonzero())
        return {
            "layer": name,
            "weights": weight.numel(),
            "left": left,
            "left_share": left / weight.numel(),
            "input_rate": rate,
            "synops": synops,
            "synops_share": synops / whole if whole else None,
        }

    @staticmethod
    def _times(net: nn.Module, subject: Subject, ctx: ProbeContext) -> Record:
        shown = subject.first(min(len(subject), BATCH))
        times: dict[str, list[float]] = {"image_s": [], "dense_image_s": []}
        ctx.outputs(net, shown)
        for _ in range(ctx.hyper.repeats):
            times["image_s"].append(_seconds(lambda: ctx.outputs(net, shown)))
            with dense_weights():
                times["dense_image_s"].append(_seconds(lambda: ctx.outputs(net, shown)))
        return {key: median(values) / len(shown) for key, values in times.items()}


def _operations(
    net: nn.Module, layers: dict[str, nn.Module], subject: Subject, ctx: ProbeContext
) -> dict[str, tuple[float, float, float]]:
    """By layer: operations an image through the weights that are left, through all, and the share of active inputs."""
    sums = {name: torch.zeros(4, dtype=torch.float64) for name in layers}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            sums[name] += _counted(module, inputs[0].detach())

        return before

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in layers.items()]
    try:
        ctx.outputs(net, subject)
    finally:
        for handle in handles:
            handle.remove()
    images = len(subject)
    return {
        name: (float(s[0]) / images, float(s[1]) / images, float(s[2] / s[3]) if s[3] else 0.0)
        for name, s in sums.items()
    }


@torch.no_grad()
def _counted(module: nn.Module, x: Tensor) -> Tensor:
    """Operations through non-zero weights, through all, active inputs, inputs: float64 ``[4]``."""
    weight = weight_of(module)
    active = (x != 0).float()
    kept = (weight != 0).float()
    if weight.dim() == 2:
        counted = as_input(weight, active).sum(0, dtype=torch.float64)
        through = [counted @ kept.sum(0, dtype=torch.float64), counted.sum() * len(weight)]
    else:
        parts = list(_parts(active, BATCH))
        weights = (by_input(module, kept), by_input(module, torch.ones_like(kept)))
        met = [[F.conv2d(part, w, **geometry(module)) for part in parts] for w in weights]
        through = [torch.stack([maps.sum(dtype=torch.float64) for maps in each]).sum() for each in met]
    counts = [*through, active.sum(dtype=torch.float64), active.numel()]
    return torch.tensor([float(count) for count in counts], dtype=torch.float64)


def _parts(x: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(x), size):
        yield x[start : start + size]


def _bytes(net: nn.Module, layers: dict[str, nn.Module]) -> Record:
    """Bytes of the network's file: as it would be stored sparse, and dense."""
    tensors = copy_tensors(net)
    names = [f"{name}.weight".lstrip(".") for name in layers]
    kept = {name: tensors[name] != 0 for name in names if name in tensors and not bool(tensors[name].all())}
    dense = len(write_tensors(tensors))
    return {"file_bytes": min(len(write_tensors(tensors, kept)), dense), "dense_bytes": dense}


def _seconds(call: Callable[[], Any]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before
