"""FSD+: FSD with every lever that was found to pay, each a switch so that it can be taken away again.

Against Algorithm 1 of Liu et al. 2022:

* a train is sent as ``groups`` bits instead of T (a bit says whether the class fired in at least half of the group's
  steps): what a vote needs of a train, and not when exactly each spike came; or only the most active class is named;
* a client answers for ``row_share`` of the public rows in a round, others each round; the server remembers what every
  client last said of every row, and votes over that;
* a row's vote weighs clients by how sure each is of this row, not only by one accuracy;
* it can weigh whom to believe on which class too, by how far each agrees with all on it;
* it can hold the classes of the public rows to even shares, which no vote of skewed clients would give them;
* the merge is sharpened;
* the server sends back what its own network says (dual distillation, CFD section III) instead of the vote;
* distillation adds a cross-entropy on the voted class and may augment the public images;
* a client never restarts, and rehearses what the server sent while it trains on its own data, not before: under skewed
  labels it would forget the classes that it does not hold;
* the server distils longer than the clients; labels are learned at every time step (TET) from scaled rates.

The defaults are the recipe that was found on validation data (docs/methods.md).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.balance import balanced
from spikefed.federated.contract import ClientContext, Context, Hyperparameters, MessageKind, NetworkFactory, State
from spikefed.federated.distillation import Goal, Merged
from spikefed.federated.local import LocalLoss
from spikefed.federated.methods.fsd import (
    Fsd,
    FsdHyperparameters,
    accuracy_weights,
    agreement,
    public_spikes,
    round_spikes,
    spike_goal,
)
from spikefed.federated.reliability import reliable_vote
from spikefed.federated.rowvotes import (
    answered_rows,
    answered_share,
    group_spikes,
    labels_of,
    sharpened,
    trains,
    vote_rows,
)
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange
from spikefed.training import AUGMENTATIONS, Augmentation
from spikefed.wire import LabelDownlink, LabelUplink, SpikeDownlink, SpikeUplink

MEMORY = ("answers", "known", "accuracies")
"""Entries of the server's state that hold something of every client."""


class FsdPlusHyperparameters(FsdHyperparameters):
    """Hyperparameters of FSD+ beside those of FSD, and its own defaults of some of those."""

    local_loss: LocalLoss = Field(
        default="tet",
        description="loss on labels: TET, cross-entropy or MSE on mean firing rates, or of [training.temporal]: "
        "prefix, skip, centroid",
    )
    logit_scale: float = Field(default=4.0, gt=0, description="factor on the rates before the cross-entropy [FSD: 1]")
    client_reset: Literal["common", "own", "never"] = Field(
        default="never", description="weights a client restarts from each round [FSD: common]"
    )
    distil_epochs: int = Field(default=0, ge=0, description="client epochs on what the server sent, alone [FSD: 5]")
    rehearse: float = Field(
        default=1.0, ge=0, description="weight of a batch of public rows beside each batch of local training [FSD: 0]"
    )
    server_epochs: int = Field(default=6, ge=0, description="server epochs on the merged predictions [FSD: 5]")
    send: Literal["spikes", "labels"] = Field(
        default="spikes", description="what travels: grouped trains, or only the class that fired most [CFD]"
    )
    abstain: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="'labels': least lead over the next class, in shares of T, to name one",
    )
    groups: int = Field(default=1, ge=1, le=64, description="bits sent for a train of T spikes; must divide T")
    row_share: float = Field(default=1.0, gt=0, le=1, description="share of the public rows that a client answers for")
    confidence: float = Field(
        default=4.0, ge=0, le=100, description="how much a row's vote follows clients sure of it; 0: FSD"
    )
    reliability: int = Field(
        default=0,
        ge=0,
        le=100,
        description="passes of counting, at the server, how far each client's word on each class can be trusted; "
        "a row's target is then how likely each class is [Dawid & Skene 1979]; 0: off [FSD]",
        json_schema_extra={"since": "0.2"},
    )
    reliability_from: int = Field(
        default=1,
        ge=1,
        description="first round in which `reliability` is used; early, mistakes are learned back by the clients",
        json_schema_extra={"since": "0.2"},
    )
    balance: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how far the classes' shares of the public rows are evened in a round's target, which is then how "
        "likely each class is; 1: all classes equally often [Asano et al. 2020], 0: off [FSD]",
        json_schema_extra={"since": "0.2"},
    )
    sharpen: float = Field(
        default=1.0, ge=1, le=100, description="exponent that moves merged spikes away from 0.5; 1: FSD"
    )
    answer: Literal["vote", "server"] = Field(
        default="server", description="what goes back: the rounded vote [FSD], or the server network's own spikes [CFD]"
    )
    label_weight: float = Field(default=0.1, ge=0, description="weight of the cross-entropy on the voted class; 0: FSD")
    label_ties: Literal["first", "shared"] = Field(
        default="first",
        description="the voted class where several fire most: the first of them, or all in equal shares",
    )
    distil_augment: Augmentation = Field(
        default="none", description="augmentation of public images in distillation; how far, see server_augment"
    )

    def unused(self, rounds: int) -> tuple[str, ...]:
        """See `Hyperparameters.unused`: reliability that begins later."""
        if not self.reliability or self.reliability_from <= rounds:
            return ()
        return (
            f"method.reliability = {self.reliability} does nothing in this run: it begins in round "
            f"{self.reliability_from} (method.reliability_from), and there are {rounds}",
        )


class FsdPlus(Fsd):
    """Algorithm 1 with the levers above; all at their FSD values, and groups = T, it is Algorithm 1."""

    name: ClassVar[str] = "fsd+"
    title: ClassVar[str] = "FSD+"
    summary: ClassVar[str] = "FSD at its best: few bits a train, votes by row, the server's own spikes sent back"
    hyperparameters: ClassVar[type[Hyperparameters]] = FsdPlusHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "spikes"
    downlink_kind: ClassVar[MessageKind | None] = "spikes"
    votes: ClassVar[bool] = False

    def check(self, hyper: FsdPlusHyperparameters, setup: Setup) -> None:
        if hyper.vote not in ("weighted", "clipped"):
            raise ConfigError(f"method.vote = '{hyper.vote}' is not for fsd+, whose vote goes row by row; use clipped")
        if hyper.liars != FsdPlusHyperparameters.model_fields["liars"].default:
            raise ConfigError(
                f"method.liars = {hyper.liars} is for vote 'trimmed', which fsd+ does not have; leave it out"
            )
        if hyper.abstain and hyper.send != "labels":
            raise ConfigError("method.abstain is for labels; set method.send = 'labels' with it, or leave it out")
        if not hyper.distil_epochs and not hyper.rehearse:
            raise ConfigError(
                "method.distil_epochs = 0 and method.rehearse = 0: no client would learn from what the server sends; "
                "set one of them"
            )
        if hyper.reliability_from > 1 and not hyper.reliability:
            raise ConfigError(
                f"method.reliability_from = {hyper.reliability_from} says when method.reliability begins, which is 0; "
                "set method.reliability = 2 with it, or leave it out"
            )
        if hyper.send == "labels" and hyper.groups != 1:
            raise ConfigError(f"method.groups = {hyper.groups} is for spikes; a label has no steps, leave it out")
        if hyper.send == "labels" and hyper.answer == "vote" and hyper.row_share < 1.0:
            raise ConfigError(
                "method.answer = 'vote' with labels needs row_share = 1: no label says that nobody answered"
            )
        super().check(hyper, setup)

    def exchanges(
        self, hyper: FsdPlusHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        rows, classes, steps = shape
        if steps % hyper.groups:
            raise ConfigError(f"method.groups = {hyper.groups} does not divide network.steps = {steps}")
        count = len(answered_rows(rows, hyper.row_share, 0, 1))
        steps = 1 if hyper.send == "labels" else hyper.groups
        share = functools.partial(answered_share, rows, hyper.row_share)
        up = Exchange(hyper.send, (count, classes, steps), share=share)
        return up, Exchange(hyper.send, (rows, classes, steps))

    def _goal(self, target: np.ndarray, steps: int, hyper: FsdPlusHyperparameters, rows: Tensor | None = None) -> Goal:
        """Distillation on groups of steps ``[R, C, G]``, spread over the steps again, and on the voted class."""
        spread = np.repeat(target, steps // target.shape[2], axis=2)
        base = spike_goal(spread, hyper, rows)

        def loss(outputs: Tensor, goal: Tensor) -> Tensor:
            rates = goal.mean(dim=2)
            # A row on which nobody fires says nothing of the class.
            says = (rates.amax(dim=1) > 0).to(outputs.dtype)
            voted = rates.argmax(dim=1)
            if hyper.label_ties == "shared":
                most = (rates == rates.amax(dim=1, keepdim=True)).to(outputs.dtype)
                voted = most / most.sum(dim=1, keepdim=True)
            entropy = F.cross_entropy(outputs.mean(dim=0), voted, reduction="none")
            return base.loss(outputs, goal) + hyper.label_weight * (says * entropy).mean()

        augment = AUGMENTATIONS[hyper.distil_augment]
        return Goal(base.target, loss if hyper.label_weight else base.loss, rows, augment=augment)

    @staticmethod
    def _steps(net: nn.Module) -> int:
        return int(getattr(net, "steps", 1))

    def client_goal(self, downlink: SpikeDownlink | LabelDownlink, ctx: ClientContext) -> Goal:
        steps = self._steps(ctx.networks.network)
        spikes = trains(downlink)
        hyper: FsdPlusHyperparameters = ctx.hyper
        if hyper.send == "spikes" and hyper.answer == "vote" and hyper.row_share >= 1.0:
            return self._goal(spikes, steps, hyper)  # Algorithm 1: silence was voted
        # The server's network is silent where it does not know, and a vote where nobody answered.
        heard = torch.from_numpy(spikes.any(axis=(1, 2))).nonzero().flatten()
        return self._goal(spikes[heard.numpy()], steps, hyper, heard)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[SpikeUplink | LabelUplink, State, dict[str, float]]:
        hyper: FsdPlusHyperparameters = ctx.hyper
        rows = answered_rows(len(ctx.public), hyper.row_share, ctx.client, ctx.round)
        spikes = public_spikes(net, ctx, torch.from_numpy(rows))
        values = {"firing_rate": float(spikes.mean()) if spikes.size else 0.0}
        common: dict[str, Any] = {
            "round": ctx.round,
            "client": ctx.client,
            "accuracy": accuracy,
            "public_set_id": ctx.public_set_id,
            "share": answered_share(len(ctx.public), hyper.row_share, ctx.round, ctx.client),
        }
        if hyper.send == "labels":
            labels = labels_of(spikes, hyper.abstain)
            return LabelUplink(labels=labels, classes=spikes.shape[1], **common), {}, values
        return SpikeUplink(spikes=group_spikes(spikes, hyper.groups), **common), {}, values

    def merge(
        self, uplinks: Mapping[int, SpikeUplink | LabelUplink], state: State, ctx: Context
    ) -> tuple[Merged, State]:
        hyper: FsdPlusHyperparameters = ctx.hyper
        total = len(ctx.public)
        answers, known, accuracies = self._remember(uplinks, state, total, ctx)
        weights = accuracy_weights(accuracies, hyper)
        merged, heard = vote_rows(answers, known, weights, hyper.confidence)
        if hyper.send == "labels":
            heard &= merged.any(axis=(1, 2))
        if hyper.reliability and ctx.round >= hyper.reliability_from:
            likely = reliable_vote(answers, known, hyper.reliability, merged.mean(axis=2))
            merged = np.where(heard[:, None, None], likely[:, :, None], merged)
        if hyper.balance:
            merged = merged.copy()
            merged[heard] = balanced(merged[heard].mean(axis=2), hyper.balance)[:, :, None]
        merged = sharpened(merged, hyper.sharpen)
        rounded = round_spikes(merged, hyper.tie)
        rows = torch.from_numpy(np.flatnonzero(heard))
        target = (merged if hyper.server_targets == "soft" else rounded)[heard]
        goal = self._goal(target, self._steps(ctx.networks.network), hyper, rows)
        values = {
            "agreement": agreement(merged[heard]),
            "global_firing_rate": float(rounded[heard].mean()) if heard.any() else 0.0,
            "rows_heard": float(heard.mean()),
        }
        kept: dict[str, Any] = {
            "answers": {str(c): np.packbits(a) for c, a in answers.items()},
            "known": {str(c): np.packbits(k) for c, k in known.items()},
            "accuracies": {str(c): a for c, a in accuracies.items()},
        }
        here = {c: weights[c] for c in uplinks}
        return Merged(goal, merged if hyper.send == "labels" else rounded, here, values), kept

    @staticmethod
    def _remember(
        uplinks: Mapping[int, SpikeUplink | LabelUplink], state: State, total: int, ctx: Context
    ) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], dict[int, float]]:
        """What every client last said of every row, this round's uploads included."""
        said = {client: trains(uplink) for client, uplink in uplinks.items()}
        _, classes, groups = next(iter(said.values())).shape
        answers = {}
        known = {}
        accuracies = {int(c): a for c, a in state.get("accuracies", {}).items()}
        for client, packed in state.get("answers", {}).items():
            bits = np.unpackbits(packed, count=total * classes * groups)
            answers[int(client)] = bits.reshape(total, classes, groups)
            known[int(client)] = np.unpackbits(state["known"][client], count=total).astype(bool)
        for client, uplink in uplinks.items():
            rows = answered_rows(total, ctx.hyper.row_share, client, ctx.round)
            answers.setdefault(client, np.zeros((total, classes, groups), dtype=np.uint8))[rows] = said[client]
            known.setdefault(client, np.zeros(total, dtype=bool))[rows] = True
            accuracies[client] = uplink.accuracy
        return answers, known, accuracies

    def renewed(self, state: State) -> State:
        """The server's state without what clients said of the rows before."""
        return {name: value for name, value in state.items() if name not in MEMORY}

    @staticmethod
    def forget(state: State, clients: Collection[int]) -> State:
        """The server's state without the answers of these clients."""
        gone = {str(client) for client in clients}
        kept = {name: {c: said for c, said in state[name].items() if c not in gone} for name in MEMORY if name in state}
        return state | kept

    def downlink(self, merged: Merged, net: nn.Module, ctx: Context) -> SpikeDownlink | LabelDownlink:
        assert isinstance(merged.content, np.ndarray)
        content = public_spikes(net, ctx) if ctx.hyper.answer == "server" else merged.content
        common = {"round": ctx.round + 1, "public_set_id": ctx.public_set_id}
        if ctx.hyper.send == "labels":
            return LabelDownlink(labels=labels_of(content, ctx.hyper.abstain), classes=content.shape[1], **common)
        return SpikeDownlink(spikes=group_spikes(content, ctx.hyper.groups), **common)
