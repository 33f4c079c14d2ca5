"""Federated adapters: one frozen network, and for each task a few numbers that clients learn together.

What a client sends in a round are the parts of the task that it learned, and those alone; the server merges them over
the clients that sent them and leaves the parts of absent tasks, and its optimiser's moments of them, as they are.
Setting and server optimisers: Venkatesha et al., "Addressing Client Drift in Federated Continual Learning with
Adaptive Optimization", 2022 (arXiv 2203.13321).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated import averaging
from spikefed.federated.averaging import Downlink, Uplink, change
from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    NetworkFactory,
    State,
)
from spikefed.federated.local import train_locally, validate
from spikefed.federated.messages import from_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from spikefed.federated.selection import Selection, everything
from spikefed.federated.setup import Setup
from spikefed.federated.tailoring import Tailor, after_dropping, check_tailor, check_time, has_proxies, tailoring
from spikefed.federated.traffic import Exchange
from spikefed.federated.updates import drift_ratio
from spikefed.networks import Adapter, check_frozen, kinds_of, low_thresholds, select_task
from spikefed.networks.roles import task
from spikefed.training import Mask, StepHook

SERVERS: dict[str, type[FedAvg]] = {
    "mean": FedAvg, "momentum": FedAvgM, "adagrad": FedAdagrad, "adam": FedAdam, "yogi": FedYogi,
}  # fmt: skip


class AdapterHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of the server's optimiser and of what stays with a client, beside those of FedAvg."""

    server: Literal["mean", "momentum", "adagrad", "adam", "yogi"] = Field(
        default="mean", description="the server's step towards the clients' mean: FedAvg, FedAvgM, FedAdagrad, ..."
    )
    server_lr: float | None = Field(
        default=None, gt=0, description="server step size eta; default: 1 for momentum, 0.01 for the adaptive ones"
    )
    server_momentum: float = Field(default=0.9, ge=0, lt=1, description="of server 'momentum' [Hsu et al.: 0.9]")
    beta1: float | None = Field(
        default=None, ge=0, lt=1, description="decay of the first moment; default: 0 for adagrad, 0.9 for the others"
    )
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the second moment [Reddi et al.: 0.99]")
    tau: float = Field(default=1e-3, gt=0, description="degree of adaptivity, added to sqrt(v) [Reddi et al.: 1e-3]")
    mu: float = Field(default=0.0, ge=0, description="pull of every client towards the global parts [FedProx]")
    sparsity: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="beta of beta sum exp(-tau) over a task's thresholds, which raises them (kinds mime, thresholds)",
        json_schema_extra={"since": "0.2"},
    )
    tailor: Tailor = Field(
        default=Tailor(),
        description="loss and pruning of NetTailor, of adapters 'proxy1x1' (docs/continual.md)",
        json_schema_extra={"since": "0.2"},
    )
    personal: list[Adapter] = Field(
        default=[], description="kinds of adapters that stay with each client, such as ['bn']"
    )

    @field_validator("send")
    @classmethod
    def _all(cls, value: Any) -> Any:
        if value != "all":
            raise ValueError("what travels are the adapters; keep some with the clients by 'personal'")
        return value


class Adapters(FedAvg):
    """Clients train the parts of their task in a frozen network; the server merges what they send."""

    name: ClassVar[str] = "adapters"
    title: ClassVar[str] = "Adapters"
    summary: ClassVar[str] = "one frozen network; clients train and send small parts for each task"
    hyperparameters: ClassVar[type[Hyperparameters]] = AdapterHyperparameters

    # What travels.

    def shared(self, hyper: AdapterHyperparameters, networks: NetworkFactory, number: int | None = None) -> Selection:
        """The parts of one task that clients share; of None those of all tasks."""
        kinds = kinds_of(networks.network)
        chosen = [name for name, kind in kinds.items() if kind not in hyper.personal]
        return everything(name for name in chosen if number is None or networks.roles[name] == task(number))

    def selection(self, hyper: Any, networks: NetworkFactory) -> Selection:
        return self.shared(hyper, networks)

    def exchanges(self, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory) -> tuple[Exchange, Exchange]:
        self._check_kinds(hyper, networks)
        calendar = networks.calendar
        by_task: dict[int, Selection] = {}

        def select(round: int, client: int) -> Selection:
            number = 0 if calendar is None else calendar.task(client, round)
            if number not in by_task:
                by_task[number] = self.shared(hyper, networks, number)
            return by_task[number]

        up = Exchange(self.uplink_kind, exact=self._exact(hyper, networks), select=select)
        return up, Exchange(self.downlink_kind, select=select)

    def addressed(self, state: State, downlink: Downlink, client: int, ctx: Context) -> Downlink:
        """The parts of the task that the client learns in the round.

        Args:
            state: the server's.
            downlink: the parts of all tasks.
            client: who gets it.
            ctx: the server's context of the round.
        """
        calendar = ctx.networks.calendar
        if calendar is None:
            return downlink
        own = self.shared(ctx.hyper, ctx.networks, calendar.task(client, ctx.round))
        return dataclasses.replace(downlink, tensors={n: a for n, a in downlink.tensors.items() if n in own})

    def message_sizes(self, hyper: Any, networks: NetworkFactory, rounds: int) -> list[float]:
        """Numbers of the parts that a client sends, mean over the clients: heads of two tasks may differ in size."""
        calendar = networks.calendar
        if calendar is None:
            return [1.0] * rounds
        tensors = networks.initial()
        by_task = [
            sum(tensors[name].numel() for name in tensors if name in self.shared(hyper, networks, number))
            for number in range(calendar.tasks)
        ]
        stages = [float(fmean(by_task[order[stage]] for order in calendar.orders)) for stage in range(calendar.tasks)]
        return [stages[calendar.stage(round)] for round in range(1, rounds + 1)]

    # Checks.

    def check(self, hyper: Any, setup: Setup) -> None:
        super().check(hyper, setup)
        if hyper.payload_down != "weights":
            raise ConfigError("clients get other parts at every stage; leave method.payload_down at 'weights'")
        if hyper.merge != "mean":
            raise ConfigError(
                f"method.merge = '{hyper.merge}' compares uploads of one form, and clients of two tasks send other "
                "parts; set method.merge = 'mean'"
            )
        check_time(hyper.tailor, setup.rounds, "the run")
        if hyper.update_noise:
            raise ConfigError("method.update_noise is for whole networks; leave it out with adapters")

    @staticmethod
    def _exact(hyper: AdapterHyperparameters, networks: NetworkFactory) -> frozenset[str]:
        """Running statistics of a task's norms, which lossy codecs must leave alone."""
        return networks.buffers & kinds_of(networks.network).keys() if hyper.payload == "change" else frozenset()

    @staticmethod
    def _check_kinds(hyper: AdapterHyperparameters, networks: NetworkFactory) -> None:
        there = set(kinds_of(networks.network).values())
        check_tailor(hyper.tailor, networks)
        if strangers := [kind for kind in hyper.personal if kind not in there]:
            raise ConfigError(
                f"method.personal names {strangers[0]}, and network.adapters.kinds are {', '.join(sorted(there))}; "
                "leave it out, or add it there"
            )
        if hyper.sparsity and not there & {"mime", "thresholds"}:
            raise ConfigError(
                "method.sparsity raises thresholds, and the tasks have none; add 'mime' or 'thresholds' to "
                "network.adapters.kinds, or leave it out"
            )
        if there and there <= set(hyper.personal):
            raise ConfigError("method.personal keeps all adapters with the clients and shares none; leave one out")

    def has_server_model(self, hyper: Any, networks: NetworkFactory) -> bool:
        return not hyper.personal

    # The client's side.

    def train(
        self, net: nn.Module, ctx: ClientContext, mask: Mask | None = None, hooks: Sequence[StepHook] = ()
    ) -> float:
        """Local training of the task's parts; with ``mu`` pulled towards where they began, with ``sparsity`` up.

        Args:
            net: with the parts of the task on.
            ctx: of the round.
            mask: none is held here.
            hooks: of every step, beside those of the options.
        """
        mu, beta = ctx.hyper.mu, ctx.hyper.sparsity
        if not mu and not beta:
            return train_locally(net, ctx, hooks=hooks)
        named = {name: p for name, p in net.named_parameters() if p.requires_grad}
        own = [p for name, p in named.items() if ctx.networks.roles[name] == task(ctx.task or 0)]
        begin = [p.detach().clone() for p in own]

        def pulls(outputs: Tensor, labels: Tensor) -> Tensor:
            low = low_thresholds(net) if beta else None
            value = outputs.new_zeros(()) if low is None else beta * low
            if mu:
                distances = [(p - w).square().sum() for p, w in zip(own, begin, strict=True)]
                value = value + 0.5 * mu * torch.stack(distances).sum()
            return value

        return train_locally(net, ctx, extra=pulls, hooks=hooks)

    def client_round(
        self, state: State, downlink: Downlink | None, ctx: ClientContext
    ) -> tuple[State, Uplink, ClientReport]:
        hyper: AdapterHyperparameters = ctx.hyper
        number = ctx.task or 0
        received = {} if downlink is None else from_wire(downlink.tensors)
        held = state.get("parts", {}) | received
        begin = ctx.networks.initial()
        start = begin | held
        net = ctx.networks.load(start)
        select_task(net, number)
        hooks, memory = tailoring(net, state, ctx) if has_proxies(ctx.networks) else ([], {})
        train_loss = self.train(net, ctx, hooks=hooks)
        weights = ctx.networks.weights(net)
        if "proxy1x1" in hyper.personal:
            weights = after_dropping(weights, [number], ctx)
            net = ctx.networks.load(weights)
            select_task(net, number)
        accuracy = validate(net, ctx)
        check_frozen(net, weights, begin)
        sent = self.shared(hyper, ctx.networks, number).of(weights)
        uplink = averaging.uplink(
            change(sent, start) if hyper.payload == "change" else sent,
            None,
            round=ctx.round,
            client=ctx.client,
            samples=len(ctx.train),
            accuracy=accuracy,
            exact=self._exact(hyper, ctx.networks),
        )
        kept = {name: weights[name] for name in kinds_of(net)} if hyper.personal else {}
        return ({"parts": kept} if kept else {}) | memory, uplink, ClientReport({"train_loss": train_loss})

    def client_network(self, state: State, ctx: Context) -> nn.Module | None:
        """Where some adapters stay with the clients: the client's own network after its last training."""
        return ctx.networks.load(ctx.networks.initial() | state["parts"]) if "parts" in state else None

    # The server's side.

    def step(self, state: State, merged: dict[str, Tensor], ctx: Context) -> tuple[dict[str, Tensor], State]:
        hyper: AdapterHyperparameters = ctx.hyper
        chosen = SERVERS[hyper.server]()
        rate = hyper.server_lr or (1.0 if hyper.server == "momentum" else 0.01)
        beta1 = hyper.beta1 if hyper.beta1 is not None else 0.0 if hyper.server == "adagrad" else 0.9
        settled = hyper.model_copy(update={"server_lr": rate, "beta1": beta1})
        new, kept = chosen.step(state, merged, dataclasses.replace(ctx, hyper=settled))
        calendar = ctx.networks.calendar
        present = [0] if calendar is None else calendar.present(calendar.stage(ctx.round))
        return after_dropping(new, present, ctx) if has_proxies(ctx.networks) else new, kept

    def server_round(
        self, state: State, uplinks: Mapping[int, Uplink], ctx: Context
    ) -> tuple[State, Downlink, Diagnostics]:
        after, downlink, diagnostics = super().server_round(state, uplinks, ctx)
        sent = {client: from_wire(uplink.tensors) for client, uplink in uplinks.items()}
        before = state["weights"]
        moves = sent if ctx.hyper.payload == "change" else {c: change(own, before) for c, own in sent.items()}
        learned = {c: {n: t for n, t in own.items() if n not in ctx.networks.buffers} for c, own in moves.items()}
        values = {**diagnostics.values, "drift_ratio": drift_ratio(learned, diagnostics.weights)}
        return after, downlink, Diagnostics(values, diagnostics.weights)
