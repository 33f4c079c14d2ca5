"""How often a network is right: by class, with an interval, and how far what it is sure of is right.

Mean outputs over the T steps are the scores; the first class wins a tie, as in the run's own measure.

=====================  ==============================================================================================
interval               Wilson's score interval of a share: Wilson, J. Am. Stat. Assoc. 22 (1927)
calibration error      ECE: sum over equal bins of confidence of (share of images in it) * |accuracy - mean
                       confidence|: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3
confidence             the share of a class in all output spikes, or the softmax of the mean outputs (logits)
merged vote            the mean of the clients' outputs, every client alike: what the ensemble says
=====================  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject

VOTE = "merged vote"


class AccuracyHyperparameters(ProbeHyperparameters):
    """What `Accuracy` can be told."""

    level: float = Field(default=0.95, gt=0, lt=1, description="coverage of the interval [Wilson 1927]")
    bins: int = Field(default=15, ge=1, le=1000, description="bins of confidence [Guo et al. 2017: 15]")
    confidence: Literal["auto", "softmax", "share"] = Field(
        default="auto",
        description="of a class: softmax of the mean outputs, or its share of all output spikes; 'auto': the share "
        "where outputs are spikes, as the softmax of rates between 0 and 1 is never sure of anything",
    )
    logit_scale: float = Field(
        default=1.0, gt=0, description="factor on the mean outputs before the softmax; that of training.logit_scale"
    )
    clients: bool = Field(
        default=True, description="measure the clients' own networks and their merged vote too, where they are known"
    )


class Accuracy(Probe):
    """Accuracy with its interval, calibration, precision and recall by class, confusion; of the clients too."""

    name: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "Accuracy"
    summary: ClassVar[str] = "accuracy with interval, calibration error, precision, recall and confusion, by class"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = AccuracyHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity(
            "network",
            "Network",
            "the server's, a client's own, or the vote of all clients together (mean of their outputs)",
            "text",
        ),
        Quantity("class", "Class", "true class", "text"),
        Quantity("said", "Said", "the class that the network said", "text"),
        Quantity("images", "Images"),
        Quantity("accuracy", "Accuracy", "share of images that it got right", "share"),
        Quantity("accuracy_low", "From", "lower end of Wilson's interval", "share"),
        Quantity("accuracy_high", "To", "upper end of Wilson's interval", "share"),
        Quantity("precision", "Precision", "share of what it called so that was", "share"),
        Quantity("recall", "Recall", "share of the class that it called so", "share"),
        Quantity("calibration_error", "Calibration error", "mean gap of confidence and accuracy (ECE)", "share"),
        Quantity("confidence", "Confidence", "mean confidence in what it said", "share"),
        Quantity("client_accuracy_mean", "Clients, mean", "of the clients' own networks", "share"),
        Quantity("client_accuracy_least", "Clients, least", "of the clients' own networks", "share"),
        Quantity("client_accuracy_most", "Clients, most", "of the clients' own networks", "share"),
        Quantity("vote_accuracy", "Merged vote", "of the mean of the clients' outputs", "share"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in three parts: a network, a class of the server's network, a cell of its confusion."""
        hyper: AccuracyHyperparameters = ctx.hyper
        share = hyper.confidence == "share" or (hyper.confidence == "auto" and getattr(net, "readout", "") == "spike")
        scores = ctx.outputs(net, subject).mean(dim=2)
        records = [_of_network(ctx.whose, scores, subject.labels, hyper, share)]
        together = torch.zeros_like(scores)
        count = 0
        for number, own in ctx.clients() if hyper.clients else ():
            theirs = ctx.outputs(own, subject).mean(dim=2)
            together += theirs
            count += 1
            if f"client {number}" != ctx.whose:
                records.append(_of_network(f"client {number}", theirs, subject.labels, hyper, share))
        if count:
            records.append(_of_network(VOTE, together / count, subject.labels, hyper, share))
        counts = confusion(scores, subject.labels)
        return [*records, *_of_classes(counts, subject.classes), *_cells(counts, subject.classes)]

    def headline(self, records: Sequence[Record]) -> Record:
        """Accuracy and calibration of the network; mean over the clients and their vote where they are known.

        Where there is no network at the server, the accuracy is the mean over the clients, as the run itself has it.
        """
        networks = [row for row in records if row["part"] == "networks"]
        own = [float(row["accuracy"] or 0) for row in networks if str(row["network"]).startswith("client ")]
        vote = [row for row in networks if row["network"] == VOTE]
        first = networks[0]
        found: Record = {key: first[key] for key in ("accuracy", "accuracy_low", "accuracy_high", "calibration_error")}
        if len(own) > 1 and str(first["network"]).startswith("client "):
            found = {"accuracy": fmean(own)}  # no interval is that of a mean over networks
        if vote:
            found |= {"client_accuracy_mean": fmean(own), "client_accuracy_least": min(own)}
            found |= {"client_accuracy_most": max(own), "vote_accuracy": vote[0]["accuracy"]}
        return found


def wilson(right: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share of which ``right`` of ``count`` were seen; (0, 1) of none."""
    if not count:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = right / count
    shrink = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrink
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5 / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def calibration_error(confidence: Tensor, right: Tensor, bins: int) -> float:
    """ECE of confidences in [0, 1] ``[N]`` and whether each was right ``[N]``."""
    place = (confidence * bins).long().clamp_(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64)
    gap.index_add_(0, place, right.double() - confidence.double())
    return float(gap.abs().sum()) / len(confidence)


def confusion(scores: Tensor, labels: Tensor) -> Tensor:
    """Counts ``[true class, said class]`` of scores ``[N, C]`` and labels ``[N]``."""
    classes = scores.shape[1]
    flat = torch.bincount(labels * classes + scores.argmax(dim=1), minlength=classes * classes)
    return flat.view(classes, classes)


def _of_network(name: str, scores: Tensor, labels: Tensor, hyper: AccuracyHyperparameters, share: bool) -> Record:
    said = scores.argmax(dim=1)
    right = said == labels
    low, high = wilson(int(right.sum()), len(labels), hyper.level)
    sure = (_shares(scores) if share else (scores * hyper.logit_scale).softmax(dim=1)).gather(1, said[:, None])[:, 0]
    return {
        "part": "networks",
        "network": name,
        "images": len(labels),
        "accuracy": float(right.sum()) / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "confidence": float(sure.double().mean()),
        "calibration_error": calibration_error(sure, right, hyper.bins),
    }


def _shares(scores: Tensor) -> Tensor:
    """Share of every class in the output spikes ``[N, C]``; where nothing fired all classes are alike."""
    total = scores.clamp_min(0).sum(dim=1, keepdim=True)
    return torch.where(total > 0, scores.clamp_min(0) / total, torch.full_like(scores, 1 / scores.shape[1]))


def _of_classes(counts: Tensor, names: Sequence[str]) -> list[Record]:
    rows: list[Record] = []
    for place, name in enumerate(names):
        right = int(counts[place, place])
        there = int(counts[place].sum())
        called = int(counts[:, place].sum())
        rows.append(
            {
                "part": "classes",
                "class": name,
                "images": there,
                "precision": right / called if called else None,
                "recall": right / there if there else None,
            }
        )
    return rows


def _cells(counts: Tensor, names: Sequence[str]) -> list[Record]:
    """Cells of the confusion that are not 0."""
    rows: list[Record] = []
    for cell in counts.nonzero():
        true = int(cell[0])
        said = int(cell[1])
        images = int(counts[true, said])
        rows.append({"part": "confusion", "class": names[true], "said": names[said], "images": images})
    return rows
