"""Whether a network tells who was in its training set: attackers that know it, an image and the image's label.

===========  ========================================================================================================
attacker     its score, large for a member
===========  ========================================================================================================
loss         minus the cross-entropy (Yeom et al., CSF 2018)
ratio        log-odds of the true class, less their mean over images of the class that the attacker knows are none of
             the members, in deviations of these: a likelihood ratio without shadow networks (offline LiRA, Carlini et
             al., S&P 2022, with one Gaussian a class in place of one an image)
difference   log-odds, less those by the network of an earlier round (``before``): what came in since then, the attack
             on a client that joins a running federation, or on what one round added
reference    log-odds, less their mean over the networks of the other clients, which never saw the image: the shadow
             networks that a federation gives away (Watson et al., ICLR 2022); where two of them at least are known
===========  ========================================================================================================

The server's network is attacked, and every client's own where it is known: that is its upload of weights. With
``imitate`` so is what an upload without weights gives away: a network that the attacker teaches the client's answers,
spikes or classes, on its own images.

Of the images that nobody trained on, the attacker knows one half; on the other it is measured, weighted so that each
class has the share that it has among the members: a network that knows its client's classes better than others does not
tell its members by that. The area under the curve is 0.5 for whoever guesses; its interval is that of Hanley and
McNeil, Radiology 143 (1982), with as many strangers as the weights are worth, (sum w)^2 / sum w^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import ClassVar

import torch
from jaxtyping import Float, Integer
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import copy_tensors, load_tensors, read_tensors
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.probes.imitation import UPLOADS, Upload, imitate

RARE = 0.01
"""Share of strangers that may be called members where a careful attacker is measured [Carlini et al. 2022: 0.001]."""


class MembershipHyperparameters(ProbeHyperparameters):
    """What `Membership` can be told."""

    members: int = Field(default=1000, ge=2, description="members at most, the first of each client in equal parts")
    level: float = Field(default=0.95, gt=0, lt=1, description="coverage of the interval")
    logit_scale: float = Field(default=1.0, gt=0, description="factor on mean currents; that of training.logit_scale")
    imitate: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="epochs in which the attacker teaches a network what each client says of its half of the images, "
        "for uploads of spikes and of classes; 0: uploads of weights only",
    )
    before: str | None = Field(
        default=None, description="model file of an earlier round of the same network, for the attack by difference"
    )


class Membership(Probe):
    """How well members of the training set are told from strangers, by the area under the curve with its interval."""

    name: ClassVar[str] = "membership"
    title: ClassVar[str] = "Who was in the training set"
    summary: ClassVar[str] = "membership inference: loss, likelihood ratio, other clients as reference; AUC, interval"
    version: ClassVar[int] = 2
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = MembershipHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("network", "Network", "the server's, or a client's", "text"),
        Quantity("upload", "Upload", "what the attacker has of it: weights, outputs on its images, or classes", "text"),
        Quantity("attacker", "Attacker", unit="text"),
        Quantity("members", "Members"),
        Quantity("strangers", "Strangers", "images that nobody trained on, as many as their weights are worth"),
        Quantity("auc", "AUC", "0.5: no better than a guess"),
        Quantity("auc_low", "From", "lower end of the interval (Hanley and McNeil)"),
        Quantity("auc_high", "To", "upper end of the interval"),
        Quantity("caught_share", "Caught", "members found when one stranger in a hundred is taken for one"),
        Quantity("auc_largest", "Largest AUC", "over networks and attackers, not corrected for their number"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """A row for each network and attacker."""
        if not len(subject.trained):
            raise ConfigError(
                "probe 'membership' needs to know what the network was trained on; give the run's folder, whose data "
                "say so"
            )
        if len(subject) < 4:
            raise ConfigError(f"probe 'membership' needs at least 4 images that nobody trained on, not {len(subject)}")
        parts = [_first_of(subject.trained[k], len(subject.trained), ctx.hyper) for k in range(len(subject.trained))]
        asked = _joined([*parts, subject])
        sizes = [len(part) for part in parts]
        seen = {ctx.whose: log_odds(net, asked, ctx)}
        before = copy_tensors(net)
        earlier = None
        if ctx.hyper.before is not None:
            load_tensors(net, _earlier(Path(ctx.hyper.before)))
            earlier = log_odds(net, asked, ctx)
            load_tensors(net, before)
        own: dict[int, Tensor] = {}
        copied: dict[Upload, dict[int, Tensor]] = {upload: {} for upload in UPLOADS}
        for client, network in ctx.clients():
            own[client] = log_odds(network, asked, ctx)
            for upload in UPLOADS if ctx.hyper.imitate else ():
                copied[upload][client] = _imitated(network, upload, asked, sum(sizes), ctx)
        load_tensors(net, before)
        whose = {ctx.whose: [*range(len(sizes))]} | {f"client {client}": [client] for client in own}
        seen |= {f"client {client}": odds for client, odds in own.items()}
        rows: list[Record] = []
        for name, odds in seen.items():
            others = [theirs for client, theirs in own.items() if client not in whose[name]]
            place = _places(sizes, whose[name])
            rows += _attacked(
                name, "weights", odds, others, place, asked.labels, sum(sizes), ctx.hyper, earlier=earlier
            )
        for upload, odds_of in copied.items():
            for client, odds in odds_of.items():
                others = [theirs for other, theirs in odds_of.items() if other != client]
                place = _places(sizes, [client])
                name = f"client {client}"
                rows += _attacked(name, upload, odds, others, place, asked.labels, sum(sizes), ctx.hyper)
        return rows

    def headline(self, records: Sequence[Record]) -> Record:
        """Of the probed network to the attacker who knows only losses, and the largest of all."""
        first = records[0]
        found: Record = {key: first[key] for key in ("auc", "auc_low", "auc_high")}
        return found | {"auc_largest": max(float(row["auc"] or 0) for row in records)}


def log_odds(net: nn.Module, subject: Subject, ctx: ProbeContext) -> Float[Tensor, " N"]:
    """log p / (1 - p) of the true class. Of spikes p is the class's share of the counts, each half a spike larger."""
    outputs = ctx.outputs(net, subject)
    if getattr(net, "readout", "") == "spike":
        counts = outputs.sum(dim=2).clamp_min(0) + 0.5
        logs = (counts / counts.sum(dim=1, keepdim=True)).log()
    else:
        logs = torch.log_softmax(ctx.hyper.logit_scale * outputs.mean(dim=2), dim=1)
    true = logs.gather(1, subject.labels[:, None])[:, 0].double()
    rest = logs.double().scatter(1, subject.labels[:, None], float("-inf")).logsumexp(dim=1)
    return true - rest


def auc(
    members: Float[Tensor, " M"], strangers: Float[Tensor, " S"], weights: Float[Tensor, " S"] | None = None
) -> float:
    """Chance that a member's score is above a stranger's, ties half: the area under the curve.

    Args:
        members: their scores.
        strangers: likewise.
        weights: of the strangers; all alike when None.
    """
    order = strangers.sort()
    weight = torch.ones_like(strangers) if weights is None else weights[order.indices]
    sums = torch.cat([weight.new_zeros(1), weight.cumsum(0)])
    below = sums[torch.searchsorted(order.values, members.contiguous())]
    up_to = sums[torch.searchsorted(order.values, members.contiguous(), right=True)]
    return float(((below + up_to) / 2).mean() / sums[-1])


def auc_interval(area: float, members: float, strangers: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of an area under the curve (Hanley and McNeil 1982, eq. 2), within [0, 1].

    Args:
        area: that was found.
        members: positives.
        strangers: negatives.
        level: coverage.
    """
    above = area / (2 - area)
    below = 2 * area * area / (1 + area)
    spread = (members - 1) * (above - area * area) + (strangers - 1) * (below - area * area)
    variance = (area * (1 - area) + spread) / (members * strangers)
    half = NormalDist().inv_cdf((1 + level) / 2) * max(variance, 0.0) ** 0.5
    return max(0.0, area - half), min(1.0, area + half)


def caught(
    members: Float[Tensor, " M"],
    strangers: Float[Tensor, " S"],
    weights: Float[Tensor, " S"] | None = None,
    share: float = RARE,
) -> float:
    """Share of members above the score that at most ``share`` of the strangers exceed.

    Args:
        members: their scores.
        strangers: likewise.
        weights: of the strangers; all alike when None.
        share: of strangers that may be taken for members.
    """
    order = strangers.sort(descending=True)
    weight = torch.ones_like(strangers) if weights is None else weights[order.indices]
    over = weight.cumsum(0) > share * weight.sum() + 1e-12
    return float((members > order.values[over.nonzero()[0, 0]]).double().mean())


def class_weights(members: Integer[Tensor, " M"], strangers: Integer[Tensor, " S"]) -> Float[Tensor, " S"]:
    """Weights with which strangers have the members' mix of classes, from the labels of both."""
    classes = int(torch.cat([members, strangers]).max()) + 1
    wanted = members.bincount(minlength=classes).double() / len(members)
    there = strangers.bincount(minlength=classes).double()
    return (wanted / there.clamp_min(1))[strangers]


def _earlier(path: Path) -> dict[str, Tensor]:
    """Tensors of a model file. Shapes are the network's.

    Raises:
        ConfigError: there is none.
    """
    if not path.is_file():
        raise ConfigError(f"probe 'membership': before = '{path}' is no model file; give a model.safetensors")
    return read_tensors(path).tensors


def _imitated(network: nn.Module, upload: Upload, asked: Subject, known: int, ctx: ProbeContext) -> Tensor:
    """Odds ``[N]`` by a network that learned the client's answers on the attacker's half of the strangers.

    Args:
        network: the client's.
        upload: what of its answers travels.
        asked: all images, those that somebody trained on first.
        known: how many these are.
        ctx: epochs, randomness.
    """
    mine = replace(asked, images=asked.images[known::2], labels=asked.labels[known::2])
    pupil = imitate(network, mine, ctx.outputs(network, mine), upload, ctx.hyper.imitate, ctx.generator)
    return log_odds(pupil, asked, ctx)


def _attacked(
    name: str,
    upload: str,
    odds: Tensor,
    others: list[Tensor],
    members: Tensor,
    labels: Tensor,
    known: int,
    hyper: MembershipHyperparameters,
    earlier: Tensor | None = None,
) -> Iterator[Record]:
    """Rows of one network.

    Args:
        name: whose it is.
        upload: what the attacker has of it.
        odds: of all images ``[N]``, those that somebody trained on first.
        others: odds by networks that trained on none of its members.
        members: places of these.
        labels: of all images.
        known: how many somebody trained on.
        hyper: of the probe.
        earlier: odds ``[N]`` by the network of an earlier round, where one is given.
    """
    held = torch.arange(known, len(odds), 2)  # the attacker's own
    strangers = torch.arange(known + 1, len(odds), 2)
    scores = {"loss": odds, "ratio": _standardised(odds, labels, held)}
    if earlier is not None:
        scores["difference"] = odds - earlier
    if len(others) > 1:
        scores["reference"] = odds - torch.stack(others).mean(dim=0)
    known_classes = torch.isin(labels[members], labels[strangers])
    members = members[known_classes]
    if not len(members):
        raise ConfigError(
            f"probe 'membership': no stranger is of a class that {name} trained on; give more test images"
        )
    weights = class_weights(labels[members], labels[strangers])
    worth = float(weights.sum() ** 2 / weights.square().sum())
    for attacker, score in scores.items():
        inside = score[members]
        outside = score[strangers]
        area = auc(inside, outside, weights)
        low, high = auc_interval(area, len(inside), worth, hyper.level)
        yield {
            "network": name,
            "upload": upload,
            "attacker": attacker,
            "members": len(inside),
            "strangers": round(worth),
            "auc": area,
            "auc_low": low,
            "auc_high": high,
            "caught_share": caught(inside, outside, weights),
        }


def _standardised(odds: Tensor, labels: Integer[Tensor, " N"], held: Tensor) -> Tensor:
    """Odds in deviations from what strangers of the class have; of a class without two strangers, from all of them."""
    found = torch.empty_like(odds)
    for label in labels.unique().tolist():
        mine = odds[held[labels[held] == label]]
        mine = mine if len(mine) > 1 else odds[held]
        spread = mine.std() if len(mine) > 1 else odds.new_ones(())
        here = labels == label
        found[here] = (odds[here] - mine.mean()) / spread.clamp_min(1e-9)
    return found


def _first_of(subject: Subject, clients: int, hyper: MembershipHyperparameters) -> Subject:
    return subject.first(max(2, hyper.members // clients))


def _joined(parts: Sequence[Subject]) -> Subject:
    images = torch.cat([part.images for part in parts])
    return replace(parts[-1], images=images, labels=torch.cat([part.labels for part in parts]), trained=())


def _places(sizes: Sequence[int], clients: Sequence[int]) -> Tensor:
    """Rows of these clients where all stand one behind the other."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return torch.cat([torch.arange(ends[k] - sizes[k], ends[k]) for k in clients])
