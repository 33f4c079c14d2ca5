"""FedAvg: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.

The baseline of FSD: same network, data, optimiser and ledger; what travels is every state tensor of the network, or its
change over the round, which codecs for changes (STC, QSGD, cosine, top-k) make small. `send` leaves some roles with the
clients: without those of the normalisation it is FedBN (Li et al., ICLR 2021). A variant may hold a mask (`maskable`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated import averaging
from spikefed.federated.averaging import Downlink, Uplink, apply_change, change, exact_tensors
from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    MessageKind,
    Method,
    NetworkFactory,
    State,
)
from spikefed.federated.local import LocalTraining, train_locally, validate
from spikefed.federated.messages import from_wire, to_wire
from spikefed.federated.robust import Merge, merge_tensors
from spikefed.federated.selection import Selection, by_role, check_roles, everything, merge_selected, union, untouched
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange
from spikefed.federated.updates import add_update_noise, drift_ratio, model_deviation
from spikefed.networks.roles import FROZEN
from spikefed.training import Mask, density


class FedAvgHyperparameters(LocalTraining):
    """Hyperparameters of FedAvg beside those of local training."""

    weighting: str = Field(
        default="samples",
        pattern="^(samples|uniform)$",
        description="mean over clients weighted by training samples (FedAvg eq. 1), or uniform (released V-SNN code)",
    )
    update_noise: float = Field(
        default=0.0,
        ge=0,
        description="normal noise on every uploaded tensor, in units of its mean absolute update [V-SNN: 0 to 5]",
    )
    update_noise_statistics: bool = Field(
        default=True, description="noise on running statistics of normalisations too [V-SNN code: true]"
    )
    payload: Literal["weights", "change"] = Field(
        default="weights", description="clients send their weights, or the change since they got them (lossy codecs)"
    )
    payload_down: Literal["weights", "change"] = Field(
        default="weights", description="the server sends the global weights, or their change [STC: both ways]"
    )
    merge: Merge = Field(default="mean", description="how weights are merged [FedAvg: mean]; see docs/privacy.md")
    liars: int = Field(default=1, ge=0, description="clients assumed to lie, merge 'trimmed' and 'krum'")
    send: Literal["all"] | list[str] = Field(
        default="all",
        description="roles of the tensors that travel, all others stay with their client: "
        '["weight", "neuron"] leaves normalisations there [FedBN]',
        json_schema_extra={"since": "0.2"},
    )

    @field_validator("send", mode="before")
    @classmethod
    def _roles(cls, value: Any) -> Any:
        roles = [value] if isinstance(value, str) else value
        if not isinstance(roles, list) or not roles or not all(isinstance(role, str) for role in roles):
            raise ValueError('give "all", or a list of roles such as ["weight", "neuron"]')
        if roles == ["all"]:
            return "all"
        try:
            check_roles(roles)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return roles


@dataclass(frozen=True)
class Sent:
    """What the clients of a round sent, by client.

    Attributes:
        tensors: their weights, by name.
        weights: shares of the mean, which sum to 1.
        samples: items that each trained on.
        selections: what each sent of its tensors.
    """

    tensors: Mapping[int, Mapping[str, Tensor]]
    weights: Mapping[int, float]
    samples: Mapping[int, int]
    selections: Mapping[int, Selection]


class FedAvg(Method):
    """Clients train the global weights on their own data; the server averages what they send."""

    name: ClassVar[str] = "fedavg"
    title: ClassVar[str] = "FedAvg"
    summary: ClassVar[str] = "average of all weights and normalisation statistics, by samples"
    hyperparameters: ClassVar[type[Hyperparameters]] = FedAvgHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "weights"
    downlink_kind: ClassVar[MessageKind | None] = "weights"

    # What the variants change.

    def train(self, net: nn.Module, ctx: ClientContext, mask: Mask | None = None) -> float:
        """Local training from the global weights, in place, under the mask; returns the last epoch's mean loss."""
        return train_locally(net, ctx, mask=mask)

    def combine(self, sent: Sent, before: dict[str, Tensor], ctx: Context) -> dict[str, Tensor]:
        """What the clients' weights become together, before `step`; not asked for a robust ``merge``. Here: the mean.

        Every tensor keeps its shape.
        """
        return merge_selected(sent.tensors, sent.weights, before, sent.selections)

    def step(self, state: State, merged: dict[str, Tensor], ctx: Context) -> tuple[dict[str, Tensor], State]:
        """The server's step from its weights to the clients' mean: new weights, and what to keep. Here: the mean.

        What it does to entries that nobody sent is undone, in the weights and in all that it keeps by tensor name.
        Every tensor keeps its shape.
        """
        return merged, {}

    def selection(self, hyper: FedAvgHyperparameters, networks: NetworkFactory) -> Selection:
        """The tensors that travel."""
        if hyper.send == "all":
            return everything(networks.roles)
        try:
            return by_role(networks.roles, hyper.send)
        except ConfigError as error:
            raise ConfigError(f"'method.send' = {hyper.send}: {error}") from error

    def maskable(self, hyper: FedAvgHyperparameters, networks: NetworkFactory) -> frozenset[str]:
        """Names of the tensors that a mask may prune, of those that travel; without any no mask travels.

        A variant with masks also says ``uplink_kind = downlink_kind = "selected-weights"``.
        """
        return frozenset()

    def next_mask(self, state: State, ctx: Context) -> Mask | None:
        """The mask that holds from the next round on (in ``init_server`` the first), one for all that is maskable.

        Args:
            state: the server's after its step: ``weights``, ``mask`` as it was (absent at first), what `step` keeps.
        """
        if "mask" in state:
            return Mask(state["mask"])
        names = self.maskable(ctx.hyper, ctx.networks)
        return _unmasked(state["weights"], names) if names else None

    def own_masks(self, hyper: FedAvgHyperparameters) -> bool:
        """Whether clients prune by masks of their own (`next_own_mask`), each within the server's mask."""
        return False

    def next_own_mask(self, state: State, ctx: ClientContext) -> Mask | None:
        """Where `own_masks`: the mask of one client from its next round on, over all that is maskable.

        It stays in the client's state; the server learns of it what the uploads carry, a bitmap once per change and
        the survivors, and merges every entry over those who sent it.

        Args:
            state: what the client holds: ``weights`` after its training, ``own_mask`` as it was (absent at first).

        Returns:
            the mask; None as long as there is none, and the server's alone holds.
        """
        return Mask(state["own_mask"]) if "own_mask" in state else None

    # The four steps.

    def has_server_model(self, hyper: FedAvgHyperparameters, networks: NetworkFactory) -> bool:
        """Only where all that training changes comes to the server."""
        selection = self.selection(hyper, networks)
        return all(name in selection or role == FROZEN for name, role in networks.roles.items())

    def check(self, hyper: FedAvgHyperparameters, setup: Setup) -> None:
        setup.need_change("weights_up", "payload", hyper.payload)
        setup.need_change("weights_down", "payload_down", hyper.payload_down)
        if hyper.payload_down == "change" and not setup.everybody:
            raise ConfigError(
                "method.payload_down = 'change' needs every client in every round (a missed change cannot be made up); "
                "use 'weights', or participation.schedule = 'all' without straggle"
            )

    def exchanges(
        self, hyper: FedAvgHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        selection = self.selection(hyper, networks)
        masked = self.maskable(hyper, networks)
        select = None if hyper.send == "all" else lambda round, client: selection

        def exchange(kind: MessageKind | None, payload: str) -> Exchange:
            exact = exact_tensors(payload, networks) & selection.entries.keys()
            return Exchange(kind, exact=exact, select=select, masked=masked)

        up = dataclasses.replace(exchange(self.uplink_kind, hyper.payload), own_mask=self.own_masks(hyper))
        return up, exchange(self.downlink_kind, hyper.payload_down)

    def init_client(self, ctx: ClientContext) -> State:
        return {}

    def init_server(self, ctx: Context) -> tuple[State, Downlink | None]:
        weights = ctx.networks.initial()
        state, mask = self._masked({"weights": weights}, ctx)
        if ctx.hyper.payload_down == "change" and (mask is None or density(mask) == 1):
            return state, None  # everybody holds the common initial weights
        return state, self._answer(state["weights"], weights, mask, 1, ctx)

    def client_round(
        self, state: State, downlink: Downlink | None, ctx: ClientContext
    ) -> tuple[State, Uplink, ClientReport]:
        hyper: FedAvgHyperparameters = ctx.hyper
        selection = self.selection(hyper, ctx.networks)
        received, mask = self._received(state, downlink, selection, ctx)
        own = {} if hyper.send == "all" else state.get("weights") or ctx.networks.initial()
        start = own | received
        if "own_mask" in state:
            mask = Mask(state["own_mask"]) if mask is None else mask & Mask(state["own_mask"])
            start = averaging.under(mask, start)
        net = ctx.networks.load(start)
        train_loss = self.train(net, ctx) if mask is None else self.train(net, ctx, mask)
        accuracy = validate(net, ctx)
        weights = ctx.networks.weights(net)
        sent = selection.of(_noisy(weights, start, ctx) if hyper.update_noise else weights)
        uplink = averaging.uplink(
            change(sent, start) if hyper.payload == "change" else sent,
            mask,
            round=ctx.round,
            client=ctx.client,
            samples=len(ctx.train),
            accuracy=accuracy,
            exact=exact_tensors(hyper.payload, ctx.networks),
        )
        kept: State = {"global": received, "round": ctx.round} if hyper.payload_down == "change" else {}
        if hyper.send != "all":
            kept["weights"] = weights
        values = {"train_loss": train_loss}
        if self.own_masks(hyper):
            kept |= self._own_mask(state, weights, ctx)
            values["own_density"] = 1.0 if mask is None else density(mask)
        return kept, uplink, ClientReport(values)

    def _own_mask(self, state: State, weights: dict[str, Tensor], ctx: ClientContext) -> State:
        """The client's mask of its next round, as its state keeps it."""
        past = {"own_mask": state["own_mask"]} if "own_mask" in state else {}
        mask = self.next_own_mask({"weights": weights} | past, ctx)
        if mask is None:
            return {}
        self._check_masked(mask, "next_own_mask", ctx)
        return {"own_mask": dict(mask.kept)}

    def _received(
        self, state: State, downlink: Downlink | None, selection: Selection, ctx: ClientContext
    ) -> tuple[dict[str, Tensor], Mask | None]:
        """The server's weights, as far as they travel, and the mask over them."""
        initial = selection.of(ctx.networks.initial()) if downlink is None or not state.get("global") else {}
        if downlink is None:
            names = self.maskable(ctx.hyper, ctx.networks)
            return initial, _unmasked(initial, names) if names else None
        received = from_wire(downlink.tensors)
        mask = averaging.mask_of(downlink)
        if ctx.hyper.payload_down == "weights":
            return received, mask
        if state.get("round", 1 if downlink.round == 2 else 0) != downlink.round - 1:
            raise ConfigError(
                f"client {ctx.client} missed rounds before {downlink.round}, so the change of the global weights does "
                "not fit what it holds; use method.payload_down = 'weights' where clients may miss rounds"
            )
        changed = apply_change(state.get("global") or initial, received)
        return changed if mask is None else averaging.under(mask, changed), mask

    def server_round(
        self, state: State, uplinks: Mapping[int, Uplink], ctx: Context
    ) -> tuple[State, Downlink, Diagnostics]:
        hyper: FedAvgHyperparameters = ctx.hyper
        before: dict[str, Tensor] = state["weights"]
        counts = {c: float(u.samples if hyper.weighting == "samples" else 1) for c, u in uplinks.items()}
        total = sum(counts.values())
        weights = {c: n / total for c, n in counts.items()}
        tensors = {c: from_wire(u.tensors) for c, u in uplinks.items()}
        if hyper.payload == "change":
            tensors = {c: apply_change(before, delta) for c, delta in tensors.items()}
        selections = {c: Selection.of_message(u) for c, u in uplinks.items()}
        if hyper.merge == "mean":
            samples = {c: u.samples for c, u in uplinks.items()}
            merged = self.combine(Sent(tensors, weights, samples, selections), before, ctx)
        else:
            arrays = {c: to_wire(own) for c, own in tensors.items()}
            robust, weights = merge_tensors(arrays, weights, hyper.merge, hyper.liars)
            merged = {**before, **from_wire(robust)}
        sent = union(selections.values())
        deviations = model_deviation(tensors, sent.of(merged), ctx.networks.roles)
        values = {"model_deviation": sum(deviations.values()) / len(deviations)}
        if ctx.networks.calendar is not None:
            values["drift_ratio"] = _drift(tensors, before, weights, ctx)
        new, kept = self.step(state, merged, ctx)
        new = untouched(new, before, sent)
        kept = {k: untouched(v, state.get(k, {}), sent) if isinstance(v, dict) else v for k, v in kept.items()}
        past = {"mask": state["mask"]} if "mask" in state else {}
        after, mask = self._masked({"weights": new} | past | kept, ctx)
        if mask is not None:
            values["mask_density"] = density(mask)
        downlink = self._answer(after["weights"], before, mask, ctx.round + 1, ctx)
        return after, downlink, Diagnostics(values, weights)

    def _masked(self, state: State, ctx: Context) -> tuple[State, Mask | None]:
        """The server's state under its next mask: 0 in the weights and in all that is kept by tensor name."""
        mask = self.next_mask(state, ctx)
        if mask is None:
            return state, None
        self._check_masked(mask, "next_mask", ctx)
        held = {k: averaging.under(mask, v) if isinstance(v, dict) else v for k, v in state.items() if k != "mask"}
        return held | {"mask": dict(mask.kept)}, mask

    def _check_masked(self, mask: Mask, hook: str, ctx: Context) -> None:
        if strangers := mask.kept.keys() ^ self.maskable(ctx.hyper, ctx.networks):
            raise ConfigError(
                f"method {self.name} masks '{min(strangers)}' in '{hook}', which is not what 'maskable' names; give a "
                "mask of all of these tensors and no other"
            )

    def _answer(
        self, weights: dict[str, Tensor], before: dict[str, Tensor], mask: Mask | None, round: int, ctx: Context
    ) -> Downlink:
        """What the server says of its new weights."""
        sent = self.selection(ctx.hyper, ctx.networks).of(weights)
        if ctx.hyper.payload_down == "change":
            sent = change(sent, before)
        return averaging.downlink(sent, mask, round, exact_tensors(ctx.hyper.payload_down, ctx.networks))

    def repeated(self, downlink: Downlink, round: int, ctx: Context) -> Downlink:
        """The downlink of a round after one that changed nothing: a change must not be applied twice."""
        if ctx.hyper.payload_down == "weights":
            return dataclasses.replace(downlink, round=round)
        still = {n: np.zeros_like(a) if a.dtype.kind == "f" else a for n, a in downlink.tensors.items()}
        return dataclasses.replace(downlink, round=round, tensors=still)

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        return ctx.networks.load(state["weights"])

    def server_mask(self, state: State) -> Mask | None:
        return Mask(state["mask"]) if "mask" in state else None

    def client_network(self, state: State, ctx: Context) -> nn.Module | None:
        """Where something stays with the clients: the client's own network after its last training."""
        return ctx.networks.load(state["weights"]) if "weights" in state else None


def _unmasked(tensors: Mapping[str, Tensor], names: frozenset[str]) -> Mask:
    return Mask({name: torch.ones(tensors[name].shape, dtype=torch.bool) for name in tensors if name in names})


def _drift(
    tensors: Mapping[int, Mapping[str, Tensor]],
    before: Mapping[str, Tensor],
    weights: Mapping[int, float],
    ctx: Context,
) -> float:
    """Drift ratio of what the clients of a round trained; running statistics are no step of theirs.

    Args:
        tensors: that each client sent.
        before: the server's, of the same shapes.
        weights: shares of the mean.
        ctx: the server's.
    """
    buffers = ctx.networks.buffers
    moves = {c: {n: t - before[n] for n, t in own.items() if n not in buffers} for c, own in tensors.items()}
    return drift_ratio(moves, weights)


def _noisy(weights: dict[str, Tensor], start: Mapping[str, Tensor], ctx: ClientContext) -> dict[str, Tensor]:
    """The weights with the noise of V-SNN's study on what a client uploads."""
    hyper: FedAvgHyperparameters = ctx.hyper
    sigma = hyper.update_noise
    statistics = hyper.update_noise_statistics
    return add_update_noise(weights, start, sigma, ctx.networks.roles, ctx.generator, statistics=statistics)
