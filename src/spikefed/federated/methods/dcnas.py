"""DC-NAS: Venkatesha, Kim, Park, Panda, "Divide-and-conquer the NAS puzzle in resource-constrained federated learning
systems", 2023: a search for an architecture in which every client trains a part of a supernet only.

The server draws branches for each client, sends those alone, and merges every entry over those who sent it. After the
search it keeps the best branches that fit a budget, prunes channels, and all clients train what is left.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import nn

from spikefed.errors import ConfigError
from spikefed.federated import averaging, priors, samplers, supersearch
from spikefed.federated.averaging import Downlink, Uplink
from spikefed.federated.contract import (
    ClientContext,
    Context,
    Diagnostics,
    Hyperparameters,
    MessageKind,
    NetworkFactory,
    State,
)
from spikefed.federated.local import train_locally
from spikefed.federated.messages import to_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.randomness import SERVER, derive_seed
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange
from spikefed.networks import Choice, Space, put_back, subnet
from spikefed.training import Mask
from spikefed.wire import Message, SelectedWeightsDownlink

_DISTANCE_LAST = 2.0
"""Default of ``method.distance_last``; where samples cannot be so far from each other it gives way."""


class DcNasHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of the search beside those of averaging and of local training."""

    sampler: str = Field(
        default="diversified",
        description="branches of each client: diversified, hadamard, uniform, full, or your own as 'module:function'",
    )
    share: float = Field(default=0.5, gt=0, le=1, description="rho: share of the branches that a client gets at most")
    limit: float = Field(
        default=0.55,
        gt=0,
        le=1,
        description="share of the supernet's MACs, and of its parameters, that it gets at most",
    )
    search_rounds: int = Field(
        default=20, ge=1, description="R_s: rounds of the search; those behind it train what was found"
    )
    distance: float | None = Field(
        default=None, gt=0, description="diversified, d_max: distance of two samples at first; default: n / 2"
    )
    distance_last: float = Field(
        default=_DISTANCE_LAST, ge=0, description="diversified, d_min: distance in the last search round"
    )
    distance_schedule: Literal["linear", "cosine"] = Field(
        default="linear", description="diversified: how the distance shrinks"
    )
    utility_decay: float = Field(
        default=0.8, ge=0, lt=1, description="what a utility keeps in a round, and a client's mean accuracy"
    )
    budget: float = Field(
        default=0.5, gt=0, le=1, description="share of the supernet's MACs that the branches kept may take"
    )
    devices: list[float] = Field(
        default=[],
        description="budgets of further, ever smaller classes of devices: client c is of class c mod (1 + their "
        "number), class 0 has method.budget; every class trains its own subnet of what was found",
        json_schema_extra={"since": "0.2"},
    )
    prior: str = Field(
        default="",
        description="score of untrained subnets that pi starts from, such as sahd or -parameters (docs/search.md); "
        "default: all branches alike",
        json_schema_extra={"since": "0.2"},
    )
    prune: float = Field(default=0.25, ge=0, lt=1, description="share of the channels pruned after the search")
    criterion: Literal["gamma", "l1"] = Field(
        default="gamma", description="channels kept: largest scales of norms, or largest weights"
    )
    retrain: Literal["keep", "initial"] = Field(
        default="keep", description="what is kept goes on from its weights, or from the initial ones"
    )


class DcNas(FedAvg):
    """FedAvg on a supernet, of which every client gets, trains and returns some branches."""

    name: ClassVar[str] = "dc-nas"
    title: ClassVar[str] = "DC-NAS"
    summary: ClassVar[str] = "searches an architecture; every client trains some branches of a supernet"
    hyperparameters: ClassVar[type[Hyperparameters]] = DcNasHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "selected-weights"
    downlink_kind: ClassVar[MessageKind | None] = "selected-weights"

    def maskable(self, hyper: Any, networks: NetworkFactory) -> frozenset[str]:
        """All tensors: a branch that does not travel takes its norm and its statistics along."""
        return frozenset(networks.roles)

    def check(self, hyper: Any, setup: Setup) -> None:
        super().check(hyper, setup)
        samplers.sampler(hyper.sampler)
        if setup.rounds and setup.rounds < hyper.search_rounds:
            raise ConfigError(
                f"this search takes {hyper.search_rounds} rounds but the run has {setup.rounds}; set rounds = "
                f"{hyper.search_rounds} or more, or lower method.search_rounds"
            )
        if setup.on_chip:
            raise ConfigError(
                "clients of dc-nas train another small network in every round, and their chips hold one; set "
                "chips.train = 'off-chip'"
            )
        if len(hyper.devices) >= setup.clients:
            raise ConfigError(
                f"method.devices makes {len(hyper.devices) + 1} classes of {setup.clients} clients; give fewer budgets"
            )
        if hyper.send != "all":
            raise ConfigError("clients send their branches whole; leave out method.send")
        if hyper.payload_down != "weights":
            raise ConfigError("clients get other branches in every round; leave method.payload_down at 'weights'")
        if hyper.merge != "mean":
            raise ConfigError(
                f"branches are merged over those who sent them, not by '{hyper.merge}'; leave method.merge at 'mean'"
            )

    def exchanges(self, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory) -> tuple[Exchange, Exchange]:
        _check_budgets(hyper, networks.network)
        return super().exchanges(hyper, shape, networks)

    # The client's side.

    def train(self, net: nn.Module, ctx: ClientContext, mask: Mask | None = None) -> float:
        """Local training of the branches and channels that came, as the small network that they make."""
        choice = Space.of(net).everything if mask is None else Space.of(net).choice(mask.kept)
        small = subnet(net, choice)
        loss = train_locally(small, ctx)
        put_back(net, small, choice)
        return loss

    # The server's side.

    def init_server(self, ctx: Context) -> tuple[State, Downlink | None]:
        state, downlink = super().init_server(ctx)
        space = Space.of(ctx.networks.network)
        search = supersearch.begin(sum(space.blocks))
        if ctx.hyper.prior:
            ask = dataclasses.replace(_first_ask(ctx.hyper, ctx.networks.network), generator=_draws(ctx))
            search["utilities"] = priors.prior(ctx.hyper.prior, ctx, samplers.uniform(ask, priors.SUBNETS))
        return {**state, "search": search}, downlink

    def addressed(self, state: State, downlink: Message, client: int, ctx: Context) -> Message:
        """The branches that the sampler draws for the client; after the search those of its class of devices.

        Args:
            state: the server's, with the utilities that the draw prefers by.
            downlink: all weights.
            client: who gets them.
            ctx: the server's context of the round.
        """
        space = Space.of(ctx.networks.network)
        if ctx.round > ctx.hyper.search_rounds:
            number = client % (1 + len(ctx.hyper.devices))
            if number == 0:
                return downlink
            choice = supersearch.of_device(state, space, number)
        else:
            choice = Choice(self.gates(state, client, ctx), space.everything.channels)
            if choice.whole:
                return downlink
        kept = space.kept(ctx.networks.initial(), choice)
        return dataclasses.replace(cast(SelectedWeightsDownlink, downlink), kept=to_wire(kept))

    def gates(self, state: State, client: int, ctx: Context) -> tuple[bool, ...]:
        """What a client gets in the context's round of the search."""
        ask = _ask(state, ctx)
        count = 1 << client.bit_length()  # the first rows of a longer draw are those of a shorter one
        drawn = samplers.sampler(ctx.hyper.sampler)(ask, count)
        return tuple(samplers.check_drawn(drawn, ask, ctx.hyper.sampler, count)[client].tolist())

    def server_round(
        self, state: State, uplinks: Mapping[int, Uplink], ctx: Context
    ) -> tuple[State, Downlink, Diagnostics]:
        space = Space.of(ctx.networks.network)
        choices = {c: space.choice(cast(Mask, averaging.mask_of(u)).kept) for c, u in uplinks.items()}
        merged, downlink, diagnostics = super().server_round(_plain(state), uplinks, ctx)
        values = self._costs(choices, uplinks, ctx)
        if ctx.round > ctx.hyper.search_rounds:
            new = {**merged, "search": state["search"]}
        else:
            values |= _distances(choices, _ask(state, ctx))
            gates = {c: choice.gates for c, choice in choices.items()}
            accuracies = {c: uplink.accuracy for c, uplink in uplinks.items()}
            search = supersearch.weighed(state["search"], gates, accuracies, ctx.hyper.utility_decay)
            new = {**merged, "search": search}
            if ctx.round == ctx.hyper.search_rounds:
                new = self._found(new, space, ctx)
                downlink = self._answer(new["weights"], merged["weights"], Mask(new["mask"]), ctx.round + 1, ctx)
        new["result"] = result = self._result(new, merged, space, ctx)
        kept = space.choice(result["mask"])
        values |= {f"gate_{j + 1}": float(gate) for j, gate in enumerate(kept.gates)}
        values["network_parameters"] = float(sum(int(mask.sum()) for mask in _trained(result["mask"], ctx)))
        if "devices" in new["search"]:
            values |= supersearch.device_sizes(new, ctx.networks.network)
        values |= {"searching": float(ctx.round <= ctx.hyper.search_rounds)}
        del diagnostics.values["model_deviation"]  # clients hold different networks
        return new, downlink, Diagnostics({**diagnostics.values, **values}, diagnostics.weights)

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        """The branches kept, and 0 for all others."""
        return ctx.networks.load(state.get("result", state)["weights"])

    def server_mask(self, state: State) -> Mask | None:
        return Mask(state.get("result", state)["mask"])

    def _found(self, state: State, space: Space, ctx: Context) -> State:
        """The state at the end of the search: the best branches that fit the budget, without the pruned channels."""
        net = ctx.networks.load(state["weights"])
        budgets = [ctx.hyper.budget, *ctx.hyper.devices]
        gates, *nested = supersearch.nested_gates(_preference(state, net), space.blocks, net, budgets)
        channels = supersearch.best_channels(net, gates, ctx.hyper.prune, ctx.hyper.criterion)
        mask = Mask(space.kept(state["weights"], Choice(gates, channels)))
        start = ctx.networks.initial() if ctx.hyper.retrain == "initial" else state["weights"]
        found = {**state, "weights": averaging.under(mask, start), "mask": dict(mask.kept)}
        if ctx.hyper.devices:
            found["search"] = {**state["search"], "devices": torch.tensor(nested)}
        return found

    def _result(self, state: State, merged: State, space: Space, ctx: Context) -> State:
        """The network of the round: the branches that would be kept if the search ended now, with its own statistics.

        At the end of a search that starts again, what it found is shown with the weights that it was found with.
        """
        net = ctx.networks.load(merged["weights"])
        kept = state["mask"]
        if ctx.round < ctx.hyper.search_rounds:
            choice = Choice(_best(state, space, net, ctx), space.everything.channels)
            kept = space.kept(merged["weights"], choice)
        return {"weights": supersearch.zeroed(net, kept, ctx), "mask": kept}

    def _costs(self, choices: Mapping[int, Choice], uplinks: Mapping[int, Uplink], ctx: Context) -> dict[str, float]:
        net = ctx.networks.network
        passes = {c: uplink.samples * ctx.hyper.local_epochs for c, uplink in uplinks.items()}
        return supersearch.spent(supersearch.Costs.of(net), net, choices, passes)


def _plain(state: State) -> State:
    """What FedAvg knows of the server's state."""
    return {key: state[key] for key in ("weights", "mask")}


def _trained(kept: Mapping[str, torch.Tensor], ctx: Context) -> list[torch.Tensor]:
    """The masks of what training moves, without statistics. Shapes are the tensors'."""
    return [kept[name] for name, _ in ctx.networks.network.named_parameters()]


def _ask(state: State, ctx: Context) -> samplers.Ask:
    """What a sampler is asked in the context's round; the draws depend on the seed and the round alone."""
    hyper = ctx.hyper
    ask = _first_ask(hyper, ctx.networks.network)
    part = (ctx.round - 1) / max(hyper.search_rounds - 1, 1)
    last = min(hyper.distance_last, ask.farthest)
    return dataclasses.replace(
        ask,
        distance=samplers.target_distance(part, ask.farthest, last, hyper.distance_schedule),
        preference=supersearch.log_odds(state["search"]["utilities"]),
        generator=_draws(ctx),
    )


def _draws(ctx: Context) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(ctx.seed, SERVER, ctx.round))


def _first_ask(hyper: Any, net: nn.Module) -> samplers.Ask:
    """What a sampler is asked before anything is known of the branches."""
    blocks = Space.of(net).blocks
    n = sum(blocks)
    costs = supersearch.Costs.of(net)
    most = n if hyper.sampler == "full" else int(hyper.share * n)
    reach = samplers.farthest_distance(n, most)
    farthest = reach if hyper.distance is None or hyper.sampler == "full" else hyper.distance
    return samplers.Ask(
        blocks=blocks,
        most=most,
        distance=farthest,
        farthest=farthest,
        preference=(0.0,) * n,
        generator=torch.Generator(),
        costs=(costs.macs, costs.parameters),
        room=(hyper.limit - costs.rest[0], hyper.limit - costs.rest[1]),
    )


def _distances(choices: Mapping[int, Choice], ask: samplers.Ask) -> dict[str, float]:
    """Mean distance of what clients trained in the round, and the one that was asked for."""
    rows = torch.tensor([choices[c].gates for c in sorted(choices)])
    return {"distance": samplers.mean_distance(rows), "distance_asked": ask.distance}


def _best(state: State, space: Space, net: nn.Module, ctx: Context) -> tuple[bool, ...]:
    """a*: by utilities, and as long as nothing tells branches apart by their scales."""
    return supersearch.best_gates(_preference(state, net), space.blocks, supersearch.Costs.of(net), ctx.hyper.budget)


def _preference(state: State, net: nn.Module) -> tuple[float, ...]:
    utilities = state["search"]["utilities"]
    return supersearch.log_odds(utilities if utilities.any() else supersearch.scales(net))


def _check_budgets(hyper: Any, net: nn.Module) -> None:
    """Refuse shares, distances and budgets that no sample or network of this supernet has."""
    priors.check(hyper.prior, net)
    ask = _first_ask(hyper, net)
    costs = supersearch.Costs.of(net)
    blocks = len(ask.blocks)
    if ask.most < blocks:
        raise ConfigError(
            f"method.share = {hyper.share:g} opens {ask.most} of {ask.size} branches, but each of the {blocks} blocks "
            f"needs one; set it to {blocks / ask.size:.2f} or more"
        )
    if hyper.sampler != "full" and costs.least(ask.blocks) > hyper.limit:
        raise ConfigError(
            f"method.limit = {hyper.limit:g} is less than the smallest subnet takes, {costs.least(ask.blocks):.3f} of "
            "the supernet's parameters or multiply-accumulates; raise it, or give blocks a cheaper branch such as 1 "
            "(skip)"
        )
    reach = samplers.farthest_distance(ask.size, ask.most)
    if ask.farthest > reach:
        raise ConfigError(
            f"method.distance = {ask.farthest:g} is farther than samples of {ask.most} of {ask.size} branches can be "
            f"from each other on average; set it to {reach:.1f} or less"
        )
    if hyper.sampler != "full" and hyper.distance_last > ask.farthest and hyper.distance_last != _DISTANCE_LAST:
        raise ConfigError(
            f"method.distance_last = {hyper.distance_last:g} is farther than the distance that the search begins with, "
            f"{ask.farthest:g} (method.distance); set it to that or less"
        )
    gates = supersearch.best_gates(ask.preference, ask.blocks, costs, hyper.budget)
    _check_devices(hyper, costs.share(costs.cheapest(ask.blocks)))
    subnet(net, Choice(gates, Space.of(net).everything.channels))  # refuses what subnets cannot have


def _check_devices(hyper: Any, least: float) -> None:
    """Refuse classes of devices that hold no subnet, or none smaller than the class before.

    Args:
        hyper: of the method.
        least: share of the supernet's multiply-accumulates that the smallest subnet takes.
    """
    for before, budget in itertools.pairwise([hyper.budget, *hyper.devices]):
        if budget < least:
            raise ConfigError(
                f"method.devices = {hyper.devices} has {budget:g}, which is less than the smallest subnet takes, "
                f"{least:.3f} of the supernet's multiply-accumulates; raise it, or give blocks a cheaper branch such "
                "as 1 (skip)"
            )
        if budget >= before:
            raise ConfigError(
                f"method.devices = {hyper.devices} must fall from class to class and begin below method.budget = "
                f"{hyper.budget:g}, and {budget:g} comes after {before:g}; give each class less than the one before"
            )
