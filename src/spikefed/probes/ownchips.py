"""Every client's own chip: what the shared network is worth on each of them, and what a repair by the client brings.

Client k has the chip of seed ``seed + k`` and of the k-th profile (repeated in turn). Onto it goes the client's own
network where it keeps one, and the probed network beside it; a repair looks at what that client trained on. A model
file alone is one client's, which has the training part of the data named beside it; where no training images are known
it has every second image of the subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar import (
    TREATMENTS,
    Changes,
    ChipProfile,
    Examples,
    OnChip,
    check_treatments,
    load_profile,
    soft_answers,
    treated,
)
from spikefed.networks import copy_tensors, load_tensors
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject

SHARED = "shared"
OWN = "own"


class OwnChipsHyperparameters(ProbeHyperparameters):
    """What `OwnChips` can be told."""

    profiles: list[str] = Field(
        default=["rram"], min_length=1, description="kind of each client's chip, repeated in turn; or TOML files"
    )
    changes: Changes = Field(
        default={}, description="numbers that are others in all of them, such as {noise.read = 0.2}"
    )
    seed: int = Field(default=0, ge=0, description="seed of client 0's chip; client k has this plus k")
    age_s: float = Field(default=0.0, ge=0, description="age of the chips, in seconds after they were written")
    repairs: list[str] = Field(
        default=["none", "adapt", "soft", "labels"],
        min_length=1,
        description="none; gain (drift compensation); adapt (statistics); labels, soft (scale and shift too)",
    )
    calibration: int = Field(default=1000, ge=1, description="a client's images that its repair sees at most")
    logit_scale: float = Field(default=1.0, gt=0, description="of the loss on labels; that of training.logit_scale")


class OwnChips(Probe):
    """Accuracy of each client on its own chip, before and after its own repair."""

    name: ClassVar[str] = "own-chips"
    title: ClassVar[str] = "On every client's own chip"
    summary: ClassVar[str] = "accuracy on each client's own imperfect chip, before and after its own repair"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = OwnChipsHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("network", "Network", "the probed one, or the clients' own where they keep one", "text"),
        Quantity("repair", "Repair", "digital: no chip at all", "text"),
        Quantity("client", "Client"),
        Quantity("profile", "Chip", unit="text"),
        Quantity("accuracy", "Accuracy", "mean over the clients", "share"),
        Quantity("accuracy_least", "Least", "of the clients", "share"),
        Quantity("accuracy_most", "Most", "of the clients", "share"),
        Quantity("repaired_accuracy", "Repaired", "the best repair's, mean over the clients", "share"),
        Quantity("digital_accuracy", "Digital", "without chips", "share"),
    )

    def check(self, hyper: OwnChipsHyperparameters) -> None:
        """The profiles and all their changes are read before a run begins."""
        for name in hyper.repairs:
            if name not in TREATMENTS:
                raise ConfigError(f"'repairs' of probe 'own-chips': '{name}' is not known; use {', '.join(TREATMENTS)}")
        _profiles(hyper)

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in two parts: over all clients, and a client."""
        hyper: OwnChipsHyperparameters = ctx.hyper
        self.check(hyper)
        check_treatments(net, hyper.repairs)
        subject = _federated(subject)
        rows = [row for client in range(len(subject.trained)) for row in _of_client(net, SHARED, client, subject, ctx)]
        before = copy_tensors(net)
        for client, own in ctx.clients():
            rows += _of_client(own, OWN, client, subject, ctx)
        load_tensors(net, before)
        return [*_means(rows), *({"part": "clients", **row} for row in rows)]

    def headline(self, records: Sequence[Record]) -> Record:
        """Of the clients' own networks where there are some, else of the shared one."""
        means = [row for row in records if row["part"] == "means"]
        mine = [row for row in means if row["network"] == means[-1]["network"]]
        on_chip = [row for row in mine if row["repair"] != "digital"]
        return {
            "accuracy": on_chip[0]["accuracy"],
            "repaired_accuracy": max(float(row["accuracy"] or 0) for row in on_chip),
            "digital_accuracy": next(row["accuracy"] for row in mine if row["repair"] == "digital"),
        }


def _profiles(hyper: OwnChipsHyperparameters) -> list[ChipProfile]:
    return [load_profile(name).changed(hyper.changes) for name in hyper.profiles]


def _federated(subject: Subject) -> Subject:
    """The subject, with a client of its own if it has none."""
    if len(subject.trained):
        return subject
    if len(subject) < 2:
        raise ConfigError("probe 'own-chips' needs an image to repair on beside that which it measures on; give two")
    other = replace(subject, images=subject.images[1::2], labels=subject.labels[1::2])
    return replace(subject, images=subject.images[::2], labels=subject.labels[::2], trained=[other])


def _of_client(net: nn.Module, whose: str, client: int, subject: Subject, ctx: ProbeContext) -> Iterator[Record]:
    hyper: OwnChipsHyperparameters = ctx.hyper
    profile = _profiles(hyper)[client % len(hyper.profiles)]
    trained = subject.trained[client].first(hyper.calibration)
    draws = torch.Generator().manual_seed((ctx.generator.initial_seed() + 104729 * (client + 1)) % 2**63)
    soft = None
    if "soft" in hyper.repairs:
        soft = soft_answers(net, trained.images, preprocess=subject.preprocess, generator=draws)
    row = {"network": whose, "client": client, "profile": profile.name}
    scores = ctx.outputs(net, subject).mean(dim=2)
    yield row | {"repair": "digital", "accuracy": float((scores.argmax(dim=1) == subject.labels).double().mean())}
    for name, accuracy in treated(
        OnChip(net, profile, hyper.seed + client),
        hyper.repairs,
        Examples(trained.images, trained.labels, soft),
        Examples(subject.images, subject.labels),
        age_s=hyper.age_s,
        preprocess=subject.preprocess,
        generator=draws,
        train_bn=ctx.train_bn,
        logit_scale=hyper.logit_scale,
    ):
        yield row | {"repair": name, "accuracy": accuracy}


def _means(rows: Sequence[Record]) -> Iterator[Record]:
    for network, name in dict.fromkeys((row["network"], row["repair"]) for row in rows):
        found = [float(row["accuracy"] or 0) for row in rows if (row["network"], row["repair"]) == (network, name)]
        yield {
            "part": "means",
            "network": network,
            "repair": name,
            "accuracy": fmean(found),
            "accuracy_least": min(found),
            "accuracy_most": max(found),
        }
