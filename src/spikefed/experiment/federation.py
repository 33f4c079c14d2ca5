"""Everything that an experiment is made of, before the first round: data, networks, who computes what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from spikefed import data
from spikefed.experiment.config import Experiment
from spikefed.experiment.methods import method_of
from spikefed.experiment.networks import config_of
from spikefed.experiment.publicsource import maker_of
from spikefed.experiment.stages import Stages, evaluation, stages_of
from spikefed.experiment.start import Start
from spikefed.federated import (
    ClientContext,
    ClientWorker,
    Context,
    Expectations,
    Labelled,
    Method,
    NetworkFactory,
    Participation,
    Server,
    Transport,
)
from spikefed.federated.attackers import Attacker
from spikefed.federated.chips import Fleet, OnChips
from spikefed.federated.memory import Remembering, memories
from spikefed.federated.publicsource import ClientSource, Maker, ServerSource
from spikefed.federated.randomness import CLIENT, EVALUATE, NETWORK, SERVER, SOURCE, derive_seed, generator, shared
from spikefed.federated.secure import SecureClient, SecureServer
from spikefed.federated.takehome import TakeHome, measured
from spikefed.federated.trust import Trust
from spikefed.hardware.crossbar import load_profile
from spikefed.training import Evaluation, Preprocess, evaluate, outputs
from spikefed.transports import LocalTransport, PoolTransport
from spikefed.wire import ClientLink, Ledger, ServerLink
from spikefed.wire.header import WEIGHT_KINDS

Keeper = Callable[[int], Callable[[nn.Module, int], None]]
"""Client number to what is given the client's own network, and the round that left it."""


@dataclass(frozen=True)
class Federation:
    """Everything that an experiment is made of, before the first round.

    Attributes:
        config: the experiment.
        test: labelled test set.
        split: who holds what.
        train: the data set that the split's indices point into.
        preprocess: pixels to network input.
        networks: the network factory.
        expectations: shapes of messages.
        near: rows of the public set with alike images, which every participant derives for itself (codec `context`).
        start: the trained network that everybody begins with; None: fresh weights.
        others: of networks that clients have and the server has not, by name.
    """

    config: Experiment
    train: data.ImageSet
    test: data.ImageSet
    split: data.FederatedSplit
    preprocess: Preprocess
    networks: NetworkFactory
    expectations: Expectations
    near: np.ndarray | None = None
    start: Start | None = None
    others: Mapping[str, NetworkFactory] = field(default_factory=dict)

    def of_client(self, client: int) -> Federation:
        """The federation with the network of one client, where clients have other networks than the server."""
        config = config_of(self.config, client)
        return dataclasses.replace(self, config=config, networks=self.others.get(config.network.name, self.networks))

    @cached_property
    def stages(self) -> Stages | None:
        """Who learns which task when; None without stages."""
        return stages_of(self.config, self.train.classes)

    def _of_task(self, index: torch.Tensor, task: int | None) -> Labelled:
        """Those of a client's rows that are of a task; of None all."""
        if task is None:
            return self.labelled(index)
        return self.labelled(index[torch.from_numpy(self.train.columns[data.TASK][index.numpy()] == task)])

    def labelled(self, index: torch.Tensor) -> Labelled:
        """Rows of the training set. ``index`` is int64 ``[n]``."""
        return Labelled(self.train.images[index], self.train.labels[index])

    def context(self, round: int, purpose: int = SERVER, participant: int = 0) -> Context:
        """The server's context of a round."""
        seed = self.config.seed
        return Context(
            round=round,
            networks=self.networks,
            public=self.split.public_images,
            public_set_id=self.expectations.public_set_id,
            hyper=self.config.hyper(),
            preprocess=self.preprocess,
            generator=generator(seed, purpose, participant, round),
            seed=derive_seed(seed, NETWORK, 1 + participant),
            clients=len(self.split.clients),
        )

    def client_context(self, client: int, round: int) -> ClientContext:
        """A client's context of a round: the server's, with the client's own data and randomness."""
        indices = self.split.clients[client]
        stages = self.stages
        task = None if stages is None else stages.calendar.task(client, round)
        own = None if stages is None or task is None else stages.own(task)
        return ClientContext(
            **{**vars(self.of_client(client).context(round, CLIENT, client)), "task": task, "outputs": own},
            client=client,
            train=self._of_task(indices.train, task),
            validation=self._of_task(indices.validation, task),
        )

    def evaluate(self, net: nn.Module, round: int) -> Evaluation:
        """The network on the test set."""
        draws = generator(self.config.seed, EVALUATE, round)
        train_bn = getattr(self.config.hyper(), "train_bn_at_eval", False)
        if self.stages is not None:

            def shown(net: nn.Module, images: torch.Tensor, task: int) -> torch.Tensor:
                return outputs(net, images, preprocess=self.preprocess, generator=draws, train_bn=train_bn)

            with shared(draws):
                return evaluation(net, self.test, self.stages, shown)
        with shared(draws):
            return evaluate(
                net,
                self.test.images,
                self.test.labels,
                preprocess=self.preprocess,
                generator=draws,
                train_bn=train_bn,
            )

    def take_home(self, net: nn.Module, round: int) -> TakeHome:
        """A client's own network on the test set: the images, and the spikes of their coding, that `evaluate` uses."""
        draws = generator(self.config.seed, EVALUATE, round)
        with shared(draws):
            train_bn = getattr(self.config.hyper(), "train_bn_at_eval", False)
            found = outputs(net, self.test.images, preprocess=self.preprocess, generator=draws, train_bn=train_bn)
        return measured(found.mean(dim=2), self.test.labels)

    def worker(self, client: int, keep: Keeper | None = None) -> ClientWorker:
        """A client of this experiment; ``keep(client)`` says who is given its own network after every step."""
        up, down = self.codecs()
        steps: Any = method_of(self.config)
        if memories(self.config.hyper()):
            steps = Remembering(steps)
        attack = self.config.attack
        fleet = self.fleet
        if fleet is not None and self.config.chips.train == "on-chip":
            steps = OnChips(steps, fleet)
        if client in attack.clients:
            steps = cast(Method, Attacker(steps, attack.kind, self.train.classes, attack.factor, attack.claim))
        return ClientWorker(
            client,
            steps,
            self.client_context,
            ClientLink(client=client, up=up, down=down, near=self.near),
            self.expectations,
            self._secure_client(client) if self.secure else None,
            self.take_home if self.config.run.take_home else None,
            None if keep is None else keep(client),
            ClientSource(self.maker) if self.maker is not None and steps.public_rows == "everyone" else None,
        )

    @cached_property
    def maker(self) -> Maker | None:
        """Makes public rows anew during the run; None: they stay."""
        context = partial(self.context, purpose=SOURCE)
        return maker_of(self.config, context, self.train.classes, self.near is not None)

    def _decoded(self, downlink: Any) -> Any:
        """A downlink as clients decode it: lossy codecs round."""
        up, down = self.codecs()
        data = ServerLink(up, down, near=self.near).encode(downlink, client=0, intra=True)
        expectations = self.expectations.about(downlink.public_set_id)
        return ClientLink(0, up, down, self.near).decode(data, expectations.plan("down", downlink.round, 0))

    def _server_source(self) -> ServerSource | None:
        everyone = method_of(self.config).public_rows == "everyone"
        return None if self.maker is None else ServerSource(self.maker, self._decoded, everyone)

    def public_facts(self) -> data.PublicFacts:
        """What two machines compare before they believe that row n means the same to both."""
        pixels = self.preprocess
        scale = data.scale_text(pixels.mode, pixels.mean, pixels.std)
        return data.facts_of(self.split.public_images, self.train.classes, self.train.class_names, scale)

    @property
    def fleet(self) -> Fleet | None:
        """The clients' chips, if they have any."""
        chips = self.config.chips
        if not chips.profiles:
            return None
        profiles = [load_profile(name).changed(chips.changes) for name in chips.profiles]
        return Fleet(profiles, self.config.chip_seed(), chips.age_s, chips.rewrite)

    @property
    def secure(self) -> bool:
        """Whether the server sees sums only."""
        return self.expectations.up.kind == "masked-votes"

    def _secure_client(self, client: int) -> SecureClient:
        from spikefed.privacy.secure import SecureVotes  # needs the optional package cryptography

        return SecureVotes(client, self.expectations.public_set_id, self.config.privacy.vote_levels)

    def _secure_server(self) -> SecureServer:
        from spikefed.privacy.secure import SecureSum

        levels = self.config.privacy.vote_levels
        return SecureSum(self.expectations.public_set_id, levels, self.config.participation.deadline_s)

    def server(self, transport: Transport, ledger: Ledger) -> Server:
        """The server of this experiment."""
        up, down = self.codecs()
        p = self.config.participation
        return Server(
            method_of(self.config),
            self.context,
            ServerLink(up=up, down=down, ledger=ledger, near=self.near),
            self.expectations,
            transport,
            participation_for(self.config, len(self.split.clients)),
            self.evaluate,
            p.deadline_s,
            p.quorum,
            self.config.deploy.repeats,
            Trust(self.config.deploy.strikes, self.config.deploy.set_aside_rounds),
            self._secure_server() if self.secure else None,
            self.client_context if self.config.network.clients else None,
            self._server_source(),
        )

    def local_transport(self, keep: Keeper | None = None) -> LocalTransport | PoolTransport:
        """All clients on this machine: in this process, or spread over ``run.workers`` others (`worker`)."""
        make = partial(self.worker, keep=keep)
        workers = min(self.config.run.workers, len(self.split.clients))
        return LocalTransport(make) if workers <= 1 else PoolTransport(make, workers)

    def codecs(self) -> tuple[str, str]:
        """Codec names of the two directions."""
        return codec_of(self.config, self.expectations.up.kind, "up"), codec_of(
            self.config, self.expectations.down.kind, "down"
        )


def codec_of(config: Experiment, kind: str | None, direction: str) -> str:
    """The config's codec for a kind of message; a direction without messages takes any name."""
    if kind is None:
        return "none"
    if kind == "masked-votes":
        return "ring"
    key = "weights" if kind in WEIGHT_KINDS else kind.replace("-", "_")
    return getattr(config.wire, f"{key}_{direction}" if key in ("spikes", "weights") else key)


def participation_for(config: Experiment, clients: int) -> Participation:
    """Who takes part in which round of an experiment of so many clients."""
    told = config.participation
    schedule = "all" if clients == 1 else told.schedule  # pooled: one client, always there
    rounds = tuple(tuple(chosen) for chosen in told.rounds)
    return Participation(clients, schedule, rounds, told.fraction, told.straggle, config.seed)
