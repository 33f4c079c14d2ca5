"""The contract of a federated method: four pure steps, named like the pseudocode of the papers.

A method does no I/O, reads no clock and knows no engine. Its states are nested dicts of tensors, numbers and strings,
so a checkpoint comes for free; its randomness is the generator in the context. `docs/adding-a-method.md` walks through
a whole method in one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.calendar import Calendar
from spikefed.federated.setup import Setup
from spikefed.federated.traffic import Exchange, MessageKind, standard
from spikefed.hyper import Hyperparameters
from spikefed.networks import Role, WrappedNetwork, copy_tensors, load_tensors, norm, retie, roles, select_task, ties
from spikefed.networks.roles import WEIGHT
from spikefed.training import Mask, Preprocess

State = dict[str, Any]
"""Nested dict with str keys; leaves are tensors, numbers, strings, booleans or None."""

Message = Any
"""A decoded wire message (`spikefed.wire`): a frozen dataclass with ``kind``."""


class NetworkFactory:
    """Gives out one network per process, loaded with the weights that a step asks for.

    Many clients share the memory of one module: `load` overwrites it, so a network is valid until the next `load`.

    Args:
        build: makes the network from an integer seed, without touching global randomness.
        seed: the seed whose weights every participant starts from (the common initial weights).
        device: where the network computes; weights given and taken are on the host.
        begin: tensors by name that every participant starts from, whatever the seed.
        calendar: who learns which task when, in a run of stages.

    Attributes:
        buffers: names of the tensors that no optimiser steps on.
        roles: role of every state tensor by name (`spikefed.networks.roles`); a tied one has its first name only.
        finite: names of the tensors whose initial values are all finite numbers (a mask of -inf is not one of them).
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        seed: int,
        device: str = "cpu",
        begin: Mapping[str, Tensor] | None = None,
        calendar: Calendar | None = None,
    ) -> None:
        self._build = build
        self.calendar = calendar
        self._begin = dict(begin or {})
        self._seed = seed
        net = build(seed)
        tied = ties(net)
        self._net = net.to(device)
        retie(self._net, tied)
        self._initial = copy_tensors(self._net) | self._begin
        self.roles: dict[str, Role] = {n: role for n, role in roles(self._net).items() if n in self._initial}
        self.buffers: frozenset[str] = frozenset(name for name, _ in self._net.named_buffers())
        self.finite: frozenset[str] = frozenset(
            n for n, t in self._initial.items() if t.is_floating_point() and bool(torch.isfinite(t).all())
        )

    @cached_property
    def initial_norm(self) -> float:
        """2-norm of all weights and biases at the start."""
        return norm(self._initial[name] for name in self.weight_names)

    @cached_property
    def weight_names(self) -> list[str]:
        """Names of the tensors of role ``weight`` that are `finite` at the start."""
        return [name for name, role in self.roles.items() if role == WEIGHT and name in self.finite]

    @property
    def network(self) -> nn.Module:
        """The shared network as it stands, for what does not depend on weights (its time steps, say)."""
        return self._net

    def initial(self, own_seed: int | None = None) -> dict[str, Tensor]:
        """The common initial weights, or those of ``own_seed``: copies that nobody else holds.

        Shapes are the network's.
        """
        if own_seed is not None:
            fresh = copy_tensors(self._build(own_seed))
            return fresh | {name: tensor.clone() for name, tensor in self._begin.items()}
        return {name: tensor.clone() for name, tensor in self._initial.items()}

    def load(self, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
        """The shared network holding ``weights`` (the common initial ones when None). Shapes are the network's.

        Raises:
            ConfigError: these are weights of another network.
        """
        load_tensors(self._net, self._initial if weights is None else weights)
        if isinstance(self._net, WrappedNetwork):
            self._net.fresh()  # whose state is kept between batches, a participant's step begins without any
        for parameter in self._net.parameters():
            parameter.grad = None
        select_task(self._net, 0)
        return self._net

    @staticmethod
    def weights(net: nn.Module) -> dict[str, Tensor]:
        """A copy of all state tensors of a network; a tied one is there once, under the first of its names.

        Shapes are the network's.
        """
        return copy_tensors(net)


@dataclass(frozen=True)
class Labelled:
    """Images with labels: uint8 ``[N, C, H, W]`` and int64 ``[N]``."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Context:
    """What both sides may use in a step.

    Attributes:
        round: 1-based global epoch; 0 in the ``init_*`` steps.
        networks: the network factory.
        public: public images, uint8 ``[P, C, H, W]``, in the order both sides know; no labels.
        public_set_id: SHA-256 of the public set, carried in every packet.
        hyper: the method's hyperparameters.
        preprocess: pixels to network input.
        generator: this step's randomness, derived from (seed, participant, round).
        seed: integer drawn for this participant (own initial weights).
        clients: how many the federation has, whether they take part in this round or not; 0: not known.
        task: what the client learns in the round, from 0, in a run of stages; None without, and at the server.
        outputs: the outputs that belong to the task, where tasks have heads of their own; None: all.
        told: images and id of the public set that the round's downlink speaks of, where public rows change during a
            run (`spikefed.federated.publicsource`); None: the same as ``public``.
    """

    round: int
    networks: NetworkFactory
    public: Tensor
    public_set_id: bytes
    hyper: Any
    preprocess: Preprocess
    generator: torch.Generator
    seed: int
    clients: int = field(default=0, kw_only=True)
    task: int | None = field(default=None, kw_only=True)
    outputs: tuple[int, ...] | None = field(default=None, kw_only=True)
    told: tuple[Tensor, bytes] | None = field(default=None, kw_only=True)

    def about_told(self) -> Self:
        """The same with the public set that the downlink speaks of; itself where that is the round's own."""
        return self if self.told is None else replace(self, public=self.told[0], public_set_id=self.told[1])


Wider = TypeVar("Wider", bound="ClientContext")


@dataclass(frozen=True)
class ClientContext(Context):
    """A context with one client's private data.

    Attributes:
        client: its number.
        train, validation: what it holds of the task in hand.
        memory: what it remembers of tasks before, where it is asked to; local training writes into it.
    """

    client: int
    train: Labelled
    validation: Labelled
    memory: dict[str, Any] | None = field(default=None, kw_only=True)

    def widened(self, kind: type[Wider], **more: Any) -> Wider:
        """This context as a method's own ``kind`` of it, with the fields that the kind adds."""
        return kind(**{f.name: getattr(self, f.name) for f in fields(ClientContext)}, **more)


@dataclass(frozen=True)
class ClientReport:
    """What a client says of its round beside the packet; it never steers the server.

    Attributes:
        values: floats for the metrics file (losses, firing rate, seconds).
    """

    values: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Diagnostics:
    """What a server step tells the metrics file.

    Attributes:
        values: floats of the round.
        weights: merge weight by client.
    """

    values: dict[str, float] = field(default_factory=dict[str, float])
    weights: dict[int, float] = field(default_factory=dict[int, float])


class Method(ABC):
    """The four steps and the network they make; below them hooks, which do the usual thing unless a method differs.

    A whole method, whose clients stay as they began and send nothing:

    >>> class Silent(Method):
    ...     name = "silent"
    ...     summary = "every client stays as it began; nothing travels"
    ...     def init_client(self, ctx):
    ...         return {"weights": ctx.networks.initial()}
    ...     def init_server(self, ctx):
    ...         return {"weights": ctx.networks.initial()}, None
    ...     def client_round(self, state, downlink, ctx):
    ...         return state, None, ClientReport({"rounds": float(ctx.round)})
    ...     def server_round(self, state, uplinks, ctx):
    ...         return state, None, Diagnostics({"clients": float(len(uplinks))})
    ...     def server_network(self, state, ctx):
    ...         return ctx.networks.load(state["weights"])
    >>> Silent().server_round({}, {0: None, 3: None}, None)[2].values
    {'clients': 2.0}

    Attributes:
        name: what an experiment file says.
        title: what tables and figures say; the name when empty. A class named as ``module:Class`` that gives itself
            none goes by ``Class``.
        summary: one line for ``spikefed list methods``.
        hyperparameters: the class of ``ctx.hyper``; one on `LocalTraining` has the keys of ``[training]``, which every
            experiment of this project sets, one on `Hyperparameters` refuses them.
        uplink_kind, downlink_kind: what the wire carries each way; None: nothing.
        server_model: whether there is a network at the server; without one a run reports the mean over its clients' own
            (`client_network`), which only works where all of them are in one process; see `has_server_model`.
        pooled: one client holds everybody's private data.
        public_rows: who looks at the public set.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    summary: ClassVar[str]
    hyperparameters: ClassVar[type[Hyperparameters]] = Hyperparameters
    uplink_kind: ClassVar[MessageKind | None] = None
    downlink_kind: ClassVar[MessageKind | None] = None
    server_model: ClassVar[bool] = True
    pooled: ClassVar[bool] = False
    public_rows: ClassVar[Literal["nobody", "server", "everyone"]] = "nobody"

    @abstractmethod
    def init_client(self, ctx: ClientContext) -> State:
        """State of a client before its first round."""

    @abstractmethod
    def init_server(self, ctx: Context) -> tuple[State, Message | None]:
        """State of the server and the downlink of round 1 (None: the first round has none)."""

    @abstractmethod
    def client_round(
        self, state: State, downlink: Message | None, ctx: ClientContext
    ) -> tuple[State, Message | None, ClientReport]:
        """One client's part of a round; the message is None where ``uplink_kind`` is."""

    @abstractmethod
    def server_round(
        self, state: State, uplinks: Mapping[int, Message], ctx: Context
    ) -> tuple[State, Message | None, Diagnostics]:
        """The server's part; ``uplinks`` maps client numbers to accepted messages and is never empty."""

    @abstractmethod
    def server_network(self, state: State, ctx: Context) -> nn.Module:
        """The network that the run reports and saves; not called where ``server_model`` is False."""

    def check(self, hyper: Any, setup: Setup) -> None:
        """Hook: refuse hyperparameters that contradict each other or the experiment around the method.

        Raises:
            ConfigError: one sentence on what does not fit and what to set instead.
        """
        setup.need_change("weights_up", "payload", "weights")
        setup.need_change("weights_down", "payload_down", "weights")
        if any("spikes" in (kind or "") for kind in (self.uplink_kind, self.downlink_kind)):
            setup.need_spikes(self.name)

    def client_network(self, state: State, ctx: Context) -> nn.Module | None:
        """Hook: the network that a client with this state would use itself, or None where it has none of its own."""
        return None

    def taken_home(self, state: State, ctx: Context) -> nn.Module:
        """Hook: the network that a client could use itself right after its step of the round, which left this state.

        Default: what the client keeps (`client_network`), else the shared network as the step left it.
        """
        own = self.client_network(state, ctx)
        return ctx.networks.load(ctx.networks.weights(ctx.networks.network)) if own is None else own

    def has_server_model(self, hyper: Any, networks: NetworkFactory) -> bool:
        """Hook: ``server_model``, where it depends on the hyperparameters."""
        return self.server_model

    def server_mask(self, state: State) -> Mask | None:
        """Hook: the mask of the server's network, under which it is stored; None: it has none."""
        return None

    def addressed(self, state: State, downlink: Message, client: int, ctx: Context) -> Message:
        """Hook: what one client gets of the server's downlink, such as the selection of its own branch.

        It draws nothing and changes no state. Clients that get the same object share one coded payload; a codec with
        error feedback (STC, top-k) has one state for all clients, so that all must then get the whole downlink.

        Args:
            state: the server's.
            downlink: what the server has to say in the round.
            client: who gets it.
            ctx: the server's context of the round.
        """
        return downlink

    def exchanges(self, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory) -> tuple[Exchange, Exchange]:
        """Hook: what travels up and down, where kinds or shapes depend on the hyperparameters.

        Args:
            hyper: the method's hyperparameters.
            shape: public rows, classes, time steps.
            networks: for names and shapes of tensors.
        """
        return standard(self.uplink_kind, shape), standard(self.downlink_kind, shape)

    def message_sizes(self, hyper: Any, networks: NetworkFactory, rounds: int) -> list[float]:
        """Hook: how large the messages of each round are beside those of a dense one, as far as the settings say.

        For plans of what a run will cost; 1 throughout where nothing shrinks on purpose.

        Args:
            hyper: the method's hyperparameters.
            networks: for names and shapes of tensors.
            rounds: how many numbers are wanted.
        """
        return [1.0] * rounds

    def repeated(self, downlink: Message, round: int, ctx: Context) -> Message | None:
        """Hook: the downlink of a round that follows one without quorum, made from the one that was sent before."""
        return replace(downlink, round=round)

    def echo(self, weights: Mapping[str, Tensor], downlink: Message, ctx: Context) -> dict[str, Tensor]:
        """Hook: what a network with these weights becomes that learns a downlink and nothing else.

        Everybody who has the downlink computes the same: it draws from the context's generator alone. Shapes are the
        network's.

        Args:
            weights: of the network before.
            downlink: as clients decode it.
            ctx: a context whose public set is the one that the downlink speaks of.

        Raises:
            ConfigError: downlinks of this method teach nothing.
        """
        raise ConfigError(f"downlinks of method {self.name} teach no network; set data.public_source.kind = 'sent'")

    def renewed(self, state: State) -> State:
        """Hook: the server's state without what it remembers of single public rows, which are others now."""
        return state

    def forget(self, state: State, clients: Collection[int]) -> State:
        """Hook: the server's state without what it remembers of these clients, which were set aside as liars."""
        return state
