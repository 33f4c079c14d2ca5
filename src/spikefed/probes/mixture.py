"""How much a client's answers on public images tell of what it holds: its mix of classes, guessed from its upload.

The attacker sees what methods that distil send: output spikes or soft outputs (``outputs``), or the class alone
(``labels``). It takes for a client's mix the share of its votes that a class gets, over the share that it gets from all
clients together. Nothing is trained, so the true leak is at least this. Answers are the network's own: randomised
response, where a run has it, comes after them, and what it hides is counted here.

    guess_k(c) ~ vote_k(c) / mean over clients of vote(c),   distance = 1/2 sum over c |guess_k(c) - mix_k(c)|

Who guesses that every client holds what all hold has the distance that stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import copy_tensors, load_tensors
from spikefed.probes.contract import Probe, ProbeContext, Quantity, Record, Subject

SMALLEST = 1e-6


class Mixture(Probe):
    """What answers on images that all know betray of a client's mix of classes."""

    name: ClassVar[str] = "mixture"
    title: ClassVar[str] = "What a client holds"
    summary: ClassVar[str] = "a client's mix of classes, guessed from its answers on images that all know"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("upload", "Upload", "outputs of every step, or the class alone", "text"),
        Quantity("client", "Client"),
        Quantity("distance_share", "Distance", "of the guess to the client's true mix: 0 all told, 1 nothing alike"),
        Quantity("blind_distance_share", "Blind", "of the guess that every client holds what all hold"),
        Quantity("correlation", "Correlation", "of guess and truth over the classes"),
        Quantity("largest_found", "Largest found", "the class that it holds most of was named", "share"),
        Quantity("told_share", "Told", "part of the blind guess's distance that the upload takes away"),
    )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """A row for each upload and client."""
        before = copy_tensors(net)
        outputs = {client: ctx.outputs(own, subject).mean(dim=2) for client, own in ctx.clients()}
        load_tensors(net, before)
        if len(outputs) < 2 or not len(subject.trained):
            raise ConfigError(
                "probe 'mixture' needs the own networks of two clients at least, and what they hold; give the folder "
                "of a run whose method keeps them, or that has run.keep_clients = true"
            )
        classes = len(subject.classes)
        truth = {k: subject.trained[k].labels.bincount(minlength=classes).double() for k in outputs}
        truth = {k: counts / counts.sum() for k, counts in truth.items()}
        rows: list[Record] = []
        for upload in ("outputs", "labels"):
            votes = {k: _votes(scores, upload) for k, scores in outputs.items()}
            for client, guess in guesses(votes).items():
                rows.append({"upload": upload, "client": client, **_told(guess, truth[client], _mean(truth))})
        return rows

    def headline(self, records: Sequence[Record]) -> Record:
        """Means over the clients, of the outputs."""
        mine = [row for row in records if row["upload"] == "outputs"]
        keys = ("distance_share", "blind_distance_share", "told_share")
        return {key: sum(float(row[key] or 0) for row in mine) / len(mine) for key in keys}


def guesses(votes: dict[int, Float[Tensor, " C"]]) -> dict[int, Float[Tensor, " C"]]:
    """Mix of classes of each client, from the share of its votes that each class gets."""
    usual = _mean(votes).clamp_min(SMALLEST)
    found = {client: (vote + SMALLEST) / usual for client, vote in votes.items()}
    return {client: ratio / ratio.sum() for client, ratio in found.items()}


def _votes(scores: Tensor, upload: str) -> Tensor:
    """Share of the votes ``[C]`` of mean outputs ``[N, C]``."""
    classes = scores.shape[1]
    if upload == "labels":
        return scores.argmax(dim=1).bincount(minlength=classes).double() / len(scores)
    shares = scores.clamp_min(0).double()
    total = shares.sum(dim=1, keepdim=True)
    even = torch.full_like(shares, 1 / classes)
    return torch.where(total > 0, shares / total.clamp_min(SMALLEST), even).mean(dim=0)


def _told(guess: Tensor, truth: Tensor, blind: Tensor) -> Record:
    """A row, without whose it is."""
    distance = float((guess - truth).abs().sum() / 2)
    beside = float((blind - truth).abs().sum() / 2)
    spread = float(guess.std() * truth.std())
    covariance = float(((guess - guess.mean()) * (truth - truth.mean())).sum() / (len(truth) - 1))
    return {
        "distance_share": distance,
        "blind_distance_share": beside,
        "correlation": covariance / spread if spread > 1e-12 else None,
        "largest_found": float(guess.argmax() == truth.argmax()),
        "told_share": (beside - distance) / beside if beside > 1e-9 else 0.0,
    }


def _mean(parts: dict[int, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).mean(dim=0)
