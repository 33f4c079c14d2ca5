"""What a network knows after the first t steps, t = 1..T: accuracy, and the spikes that it took until then.

A network that runs forward in time does not know how long it will go on: its outputs of the first t steps are those of
a run of t steps, and their mean is its answer then. (With batch statistics kept while predicting, `train_bn_at_eval`,
and in a wrapped network that looks at all steps at once, the later steps do take part.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.probes.accuracy import wilson
from spikefed.probes.contract import Curve, Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.probes.spikes import watched


class LatencyHyperparameters(ProbeHyperparameters):
    """What `Latency` can be told."""

    level: float = Field(default=0.95, gt=0, lt=1, description="coverage of the interval [Wilson 1927]")
    tolerance: float = Field(
        default=0.01, ge=0, lt=1, description="accuracy that an early answer may lack and still count as good enough"
    )


class Latency(Probe):
    """Accuracy and spikes after the first t steps."""

    name: ClassVar[str] = "latency"
    title: ClassVar[str] = "Latency"
    summary: ClassVar[str] = "accuracy and spikes after the first t time steps, t = 1..T"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = LatencyHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("steps", "Steps", "time steps that were waited for"),
        Quantity("accuracy", "Accuracy", "of the mean output of these steps", "share"),
        Quantity("accuracy_low", "From", "lower end of Wilson's interval", "share"),
        Quantity("accuracy_high", "To", "upper end of Wilson's interval", "share"),
        Quantity("settled_share", "Settled", "images with the answer that the last step gives", "share"),
        Quantity("image_spikes", "Spikes an image", "of all layers, until then"),
        Quantity("spikes_share", "Of all spikes", "until then", "share"),
        Quantity(
            "good_enough", "Good enough", "whether the accuracy is that of all steps, but for the tolerance", "text"
        ),
    )

    curves: ClassVar[tuple[Curve, ...]] = (Curve("steps", "accuracy"),)

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """A row a number of steps."""
        hyper: LatencyHyperparameters = ctx.hyper
        steps = int(getattr(net, "steps", 1))
        spikes = torch.zeros(steps, dtype=torch.int64)

        def see(layer: str, fired: Tensor, rows: slice) -> None:
            spikes.add_(fired.sum(dim=(1, 2)).cpu())

        said = torch.cat([_answers(outputs).cpu() for _, outputs in watched(net, subject, ctx, see)], dim=1)
        right = (said == subject.labels).sum(dim=1)
        settled = (said == said[-1]).sum(dim=1)
        until = spikes.cumsum(0)
        count = len(subject)
        records: list[Record] = []
        for place in range(steps):
            low, high = wilson(int(right[place]), count, hyper.level)
            records.append(
                {
                    "steps": place + 1,
                    "accuracy": int(right[place]) / count,
                    "accuracy_low": low,
                    "accuracy_high": high,
                    "settled_share": int(settled[place]) / count,
                    "image_spikes": int(until[place]) / count,
                    "spikes_share": int(until[place]) / int(until[-1]) if int(until[-1]) else None,
                    "good_enough": int(right[place]) >= int(right[-1]) - hyper.tolerance * count,
                }
            )
        return records

    def headline(self, records: Sequence[Record]) -> Record:
        """The fewest steps that are good enough, with what they give and cost."""
        first = next(row for row in records if row["good_enough"])
        return {key: first[key] for key in ("steps", "accuracy", "spikes_share")}


def _answers(outputs: Tensor) -> Tensor:
    """The class of the largest mean over the first t steps ``[T, B]``, from outputs ``[T, B, C]``."""
    # The mean is taken as the run takes it: a sum that is carried along rounds otherwise, and a tie would break.
    found = [outputs[: t + 1].float().permute(1, 2, 0).contiguous().mean(dim=2) for t in range(len(outputs))]
    return torch.stack([scores.argmax(dim=1) for scores in found])
