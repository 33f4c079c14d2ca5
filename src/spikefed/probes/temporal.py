"""When a network knows: information about the label in the first t of T steps, and how early its answer is the last.

Prefix readout ybar_t = mean of the first t outputs, p_t = softmax(scale * ybar_t). Fisher information of the weights
I_t = mean_n ||grad log p_t(y_n | x_n)||^2 and its centroid IC = sum_t t I_t / sum_t I_t (Kim et al., AAAI 2023, eq. 6
and 7); KL profile D_t = KL(p_t || p_T), relative to D_2 (Kim et al., ECCV 2022, Algorithm 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import PerSample, per_sample
from spikefed.networks.monitor import device_of
from spikefed.probes.contract import Curve, Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.probes.information import (
    batch_information,
    centroid_of,
    chosen_labels,
    counted_parameters,
    early_by_information,
    early_by_kl,
    expected_information,
    sample_information,
)
from spikefed.training import prefix_divergences, prefix_means

ALL = "all layers"


class TemporalHyperparameters(ProbeHyperparameters):
    """What `Temporal` can be told."""

    split: Literal["test", "train"] = Field(
        default="test", description="images: held out, or those that the clients trained on [Kim et al. 2023: train]"
    )
    labels: Literal["true", "sampled", "expected"] = Field(
        default="true",
        description="y of log p(y): the true label [eq. 6], drawn from p_t (Fisher's definition), or all in the mean",
    )
    affine: bool = Field(default=True, description="count scale and shift of the normalisations [released code: true]")
    logit_scale: float = Field(
        default=1.0, gt=0, description="factor on the mean outputs before the softmax; that of training.logit_scale"
    )
    batch: int = Field(default=64, ge=1, description="images at a time; changes memory, and released alone changes I_t")
    released: bool = Field(
        default=False, description="square the gradient of each batch's mean loss instead, as the released code [16]"
    )
    kl: Literal["paper", "released"] = Field(
        default="paper", description="KL(p_t || p_T) over D_2, or KL(p_T || p_t) over the largest, as the released code"
    )
    kl_level: float = Field(default=0.6, gt=0, description="lambda: a prefix is early enough below this KL [2022: 0.6]")
    share_level: float = Field(
        default=0.9, gt=0, le=1, description="eta: a prefix is long enough at this share of the information"
    )


class Temporal(Probe):
    """Information by prefix of the time steps and by layer, its centroid, KL to the last answer, and two choices of T.

    What it measures runs in eval mode with running statistics and in float32, whatever the run did.
    """

    name: ClassVar[str] = "temporal"
    title: ClassVar[str] = "Temporal information"
    summary: ClassVar[str] = "Fisher information after the first t time steps, its centroid, KL to the last answer"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = TemporalHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("layer", "Layer", unit="text"),
        Quantity("steps", "Steps", "t: time steps that were waited for"),
        Quantity("information", "Information", "I_t: mean squared norm of the gradient of log p_t(y)"),
        Quantity("information_se", "Its error", "standard error over the images"),
        Quantity("information_share", "Share", "of the sum over all prefixes", "share"),
        Quantity("accuracy", "Accuracy", "of the mean output of these steps", "share"),
        Quantity("kl", "KL", "from the answer after all steps, nats"),
        Quantity("kl_ratio", "Relative KL", "to that of two steps"),
        Quantity("images", "Images"),
        Quantity("centroid", "Centroid", "sum of t I_t over sum of I_t; lower is earlier"),
        Quantity("centroid_se", "Its error", "standard error over the images, delta method"),
        Quantity("steps_by_kl", "T by KL", "fewest steps (from 2) whose relative KL is below kl_level"),
        Quantity("steps_by_information", "T by information", "fewest steps with share_level of the information"),
    )

    curves: ClassVar[tuple[Curve, ...]] = (Curve("steps", "information", "steps"), Curve("steps", "kl", "steps"))

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """The whole network in a row, then a row a prefix, then a row a layer and prefix."""
        hyper: TemporalHyperparameters = ctx.hyper
        shown = subject if hyper.split == "test" else trained(subject, hyper.images)
        layers, information, means = _measured(net, shown, ctx)
        profile = prefix_divergences(hyper.logit_scale * means, reverse=hyper.kl == "released")
        ratio = profile / (profile[1:].max() if hyper.kl == "released" and len(profile) > 1 else profile[:2][-1])
        right = (means.argmax(2) == shown.labels).double().mean(1)
        total = information.sum(0)
        records = [_whole(total, ratio, len(shown), hyper)]
        for place, row in enumerate(_rows(total, hyper)):
            found = {"accuracy": right[place], "kl": profile[place], "kl_ratio": ratio[place]}
            records.append({"part": "steps", **row, **{key: float(value) for key, value in found.items()}})
        for name, mine in zip(layers, information, strict=True):
            records += [{"part": "layers", "layer": name, **row} for row in _rows(mine, hyper)]
        return records

    def headline(self, records: Sequence[Record]) -> Record:
        """The centroid, its error, and the two choices of T."""
        keys = ("centroid", "centroid_se", "steps_by_kl", "steps_by_information")
        return {key: records[0][key] for key in keys}


def trained(subject: Subject, images: int | None) -> Subject:
    """What the clients trained on, equally many of each up to ``images``, as one subject.

    Raises:
        ConfigError: that is not known here.
    """
    if not len(subject.trained):
        raise ConfigError(
            "probe 'temporal' does not know what this network was trained on; give the run's folder instead of a model "
            "file, or split = 'test'"
        )
    each = None if images is None else -(-images // len(subject.trained))
    parts = [client.first(each) for client in subject.trained]
    shown = torch.cat([part.images for part in parts])[:images]
    labels = torch.cat([part.labels for part in parts])[:images]
    return Subject(shown, labels, subject.preprocess, subject.classes)


def _measured(net: nn.Module, shown: Subject, ctx: ProbeContext) -> tuple[list[str], Tensor, Tensor]:
    """Names of the layers; information ``[layers, images (batches if released), T]``; mean outputs ``[T, N, C]``."""
    hyper: TemporalHyperparameters = ctx.hyper
    counted = counted_parameters(net, hyper.affine)
    if not counted:
        raise ConfigError("probe 'temporal' needs a network with trainable parameters; this one has none that count")
    if hyper.released and hyper.labels == "expected":
        raise ConfigError(
            "probe 'temporal': released = true squares gradients of batches, which have no mean over labels = "
            "'expected'; take labels = 'sampled', or released = false"
        )
    device = device_of(net)
    drawn = ctx.generator if hyper.labels == "sampled" else None
    done: dict[str, Any] = ctx.restore() or {"rows": 0}
    with _way(net, hyper.released) as way:
        for row, x, labels in shown.batches(hyper.batch, start=done["rows"]):
            x = x.to(device)
            labels = labels.to(device)
            outputs = way.outputs(x, ctx.generator) if way else _plain(net, x, ctx.generator)
            chosen = chosen_labels(outputs, labels, hyper.logit_scale, drawn)
            if way and hyper.labels == "expected":
                found = expected_information(way, outputs, hyper.logit_scale, counted)
            elif way:
                found = sample_information(way, outputs, chosen, hyper.logit_scale, counted)
            else:
                found = batch_information(net, x, chosen, hyper.logit_scale, counted, ctx.generator)
            parts = {"information": torch.stack(list(found.values())), "means": prefix_means(outputs.cpu())}
            done = {
                "rows": row + len(x),
                "layers": list(found),
                **{key: torch.cat([done[key], part], dim=1) if key in done else part for key, part in parts.items()},
            }
            ctx.save(done)
            ctx.progress(done["rows"], len(shown), "images")
    return done["layers"], done["information"], done["means"]


@contextmanager
def _way(net: nn.Module, released: bool) -> Iterator[PerSample | None]:
    """Every sample's norms; None for the released procedure, which asks the network itself."""
    if released:
        yield None
    else:
        with per_sample(net) as way:
            yield way


@torch.no_grad()
def _plain(net: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor:
    return net(x, generator=generator)


def _mean(information: Tensor, released: bool) -> Tensor:
    """I_t ``[T]`` over rows; the released code divides the sum over n batches by n - 1."""
    rows = len(information)
    return information.sum(0) / max(rows - released, 1)


def _rows(information: Tensor, hyper: TemporalHyperparameters) -> list[Record]:
    """A row a prefix, from ``[N, T]``."""
    mean = _mean(information, hyper.released)
    rows = len(information)
    error = information.std(0) / rows**0.5 if rows > 1 else torch.full_like(mean, torch.nan)
    share = mean / mean.sum()
    return [
        {"steps": t, "information": float(i), "information_se": float(e), "information_share": float(s)}
        for t, (i, e, s) in enumerate(zip(mean, error, share, strict=True), start=1)
    ]


def _whole(information: Tensor, ratio: Tensor, images: int, hyper: TemporalHyperparameters) -> Record:
    centroid, error = centroid_of(information)
    return {
        "part": "network",
        "images": images,
        "centroid": centroid,
        "centroid_se": error,
        "steps_by_kl": early_by_kl(ratio.tolist(), hyper.kl_level),
        "steps_by_information": early_by_information(_mean(information, hyper.released).tolist(), hyper.share_level),
    }
