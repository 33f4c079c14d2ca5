"""From a validated config to the objects of a run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from spikefed import data, interop, networks
from spikefed.errors import ConfigError, DataError
from spikefed.experiment.checks import check
from spikefed.experiment.config import DataConfig, Experiment, load
from spikefed.experiment.shares import from_shares, read_shares
from spikefed.experiment.singles import check_singles
from spikefed.experiment.stages import Stages, adapters_of, calendar_of, evaluation, staged, stages_of
from spikefed.experiment.start import Start, read_start
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
    method,
)
from spikefed.federated.attackers import Attacker
from spikefed.federated.chips import Fleet, OnChips
from spikefed.federated.randomness import CLIENT, EVALUATE, NETWORK, SERVER, SPLIT, derive_seed, generator, shared
from spikefed.federated.secure import SecureClient, SecureServer
from spikefed.federated.takehome import TakeHome, measured
from spikefed.federated.trust import Trust
from spikefed.hardware.crossbar import check_treatments, load_profile
from spikefed.neurons import LIFParameters, SendOnDelta, settle_precision, surrogate
from spikefed.objects import is_own
from spikefed.training import Evaluation, Preprocess, evaluate, outputs
from spikefed.transports import LocalTransport, PoolTransport
from spikefed.wire import ClientLink, Ledger, ServerLink
from spikefed.wire.header import WEIGHT_KINDS
from spikefed.wire.neighbours import nearest_rows

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
        steps: Any = method(self.config.method["name"])
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
        )

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

        hyper: Any = self.config.hyper()
        return SecureVotes(client, self.expectations.public_set_id, hyper.vote_levels)

    def _secure_server(self) -> SecureServer:
        from spikefed.privacy.secure import SecureSum

        hyper: Any = self.config.hyper()
        return SecureSum(self.expectations.public_set_id, hyper.vote_levels, self.config.participation.deadline_s)

    def server(self, transport: Transport, ledger: Ledger) -> Server:
        """The server of this experiment."""
        up, down = self.codecs()
        p = self.config.participation
        return Server(
            method(self.config.method["name"]),
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


def config_of(config: Experiment, client: int) -> Experiment:
    """The experiment whose one network is that of a client; the same where all have one."""
    names = config.network.clients
    if not names:
        return config
    return named(config, names[client % len(names)])


def named(config: Experiment, name: str) -> Experiment:
    """The experiment with another network for everybody."""
    return config.model_copy(update={"network": config.network.model_copy(update={"name": name, "clients": []})})


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


def preprocess_for(config: Experiment, train: data.ImageSet) -> Preprocess:
    """The config's pixel mode, or the one that its coding needs; ``standard`` measures the training images."""
    mode = config.data.pixels
    if mode is None and train.values != "pixels":
        mode = "raw" if train.values == "counts" else "standard"
    if mode is None:
        info = network_info(config)
        own = config.network.coding in (None, info.coding)
        mode = info.pixels if own else "signed" if config.network.coding == "poisson" else "unit"
    if mode != "standard":
        return Preprocess(cast(Any, mode))
    mean, std = moments(train)
    return Preprocess("standard", tuple(mean.tolist()), tuple(std.tolist()))


def shared_preprocess(config: Experiment, public: data.PublicShare) -> Preprocess:
    """What the public file of a share says, else the config's; ``standard`` without moments measures the public rows.

    So every machine has the same without asking.
    """
    if public.pixels == "standard" and public.mean:
        return Preprocess("standard", public.mean, public.std)
    told = config.data if public.pixels is None else config.data.model_copy(update={"pixels": public.pixels})
    return preprocess_for(config.model_copy(update={"data": told}), public.rows)


MOMENTS = 10_000
"""Images that are read at most to measure mean and deviation where they are not in memory."""


def moments(train: data.ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel; of lazily read images, those of evenly spaced ones. Both ``[C]``."""
    rows = slice(None) if isinstance(train.images, torch.Tensor) else slice(None, None, -(-len(train) // MOMENTS))
    numbers = train.images[rows].to(torch.float64)
    axes = tuple(axis for axis in range(numbers.ndim) if axis != numbers.ndim - 3)
    least = 1.0 if train.values == "pixels" else 1e-6
    return numbers.mean(dim=axes), numbers.std(dim=axes).clamp_min(least)


def network_info(config: Experiment) -> networks.NetworkInfo:
    """Defaults of the config's network; a layout and your own network have those of ``small``."""
    return networks.network_info("small" if is_own(config.network.name) else config.network.name)


def neuron_for(config: Experiment) -> LIFParameters | None:
    """The network's own neuron with the config's keys on top, or None when the config names none."""
    given = {} if config.network.neuron is None else config.network.neuron.model_dump(exclude_none=True)
    if not given:
        return None
    if "threshold" in given:
        given["v_threshold"] = given.pop("threshold")
    if "surrogate" in given:
        given["surrogate"] = surrogate(given["surrogate"])
    return dataclasses.replace(network_info(config).neuron, **given)


def build_network(
    config: Experiment,
    shape: tuple[int, int, int],
    classes: int,
    live: networks.Own | None,
    timed: bool,
    seed: int,
) -> nn.Module:
    """`plain_network` with the parts of every task, where ``network.adapters`` names some.

    Args:
        config: the experiment.
        shape: ``(C, H, W)`` of an image or of one time step.
        classes: width of the output.
        live: a network or a function given by code instead of by name.
        timed: whether the data have a time axis.
        seed: of the initial weights.

    Raises:
        ConfigError: a network that cannot be adapted so.
    """
    net = plain_network(config, shape, classes, live, timed, seed)
    own = adapters_of(config, classes)
    if not own.kinds:
        return net
    for task, chosen in enumerate(own.outputs or ()):
        if strangers := [output for output in chosen if not 0 <= output < classes]:
            raise ConfigError(
                f"network.adapters.outputs of task {task} names output {strangers[0]}, and there are 0 to {classes - 1}"
            )
    kinds = list(dict.fromkeys(own.kinds))
    return networks.adapt(net, kinds, tasks=own.tasks or 1, per=own.per, rank=own.rank, outputs=own.outputs)


def plain_network(
    config: Experiment,
    shape: tuple[int, int, int],
    classes: int,
    live: networks.Own | None,
    timed: bool,
    seed: int,
) -> nn.Module:
    """The config's network for one input shape and class count, with seeded weights.

    Args:
        config: the experiment.
        shape: ``(C, H, W)`` of an image or of one time step.
        classes: width of the output.
        live: a network or a function given by code instead of by name.
        timed: whether the data have a time axis.
        seed: of the initial weights.
    """
    coding = SendOnDelta(config.network.delta) if config.network.coding == "delta" else config.network.coding
    if live is None and config.network.name.startswith(interop.PREFIX):
        return from_nir(config, shape, classes, coding or "direct")
    if live is not None or is_own(config.network.name):
        return networks.build_own(
            config.network.name if live is None else live,
            input_shape=shape,
            classes=classes,
            steps=config.network.steps,
            coding=coding,
            readout=config.network.readout,
            state=config.network.state,
            seed=seed,
            timed=timed,
        )
    given: dict[str, Any] = {
        "norm": config.network.norm,
        "coding": coding,
        "neuron": neuron_for(config),
        "pooling": config.network.pooling,
    }
    if config.network.twin == "ann":
        return networks.ann_twin(
            config.network.name,
            input_shape=shape,
            classes=classes,
            norm=config.network.norm,
            pooling=config.network.pooling,
            seed=seed,
        )
    net = networks.build(
        config.network.name,
        input_shape=shape,
        classes=classes,
        steps=config.network.steps,
        readout=config.network.readout,
        seed=seed,
        **{key: value for key, value in given.items() if value is not None},
    )
    net.precision = settle_precision(config.network.precision, config.run.device)
    return net if config.network.thresholds is None else networks.learn_thresholds(net, config.network.thresholds)


def build(
    config: Experiment, dataset: Any = None, network: networks.Own | None = None, start: Path | None = None
) -> Federation:
    """Load the data, deal it out, make the networks.

    Args:
        dataset: the user's own data (`spikefed.data.image_sets`) instead of what ``data.dataset`` names.
        network: the user's own network (`spikefed.networks.build_own`) instead of what ``network.name`` names.
        start: a run's own copy of what ``network.start`` names.

    Raises:
        ConfigError: a network, codec or method that does not exist or does not fit.
        DataError: data missing, damaged or too small.
    """
    check(config)
    if dataset is None and from_shares(config):
        shared = read_shares(config, reading_of(config))
        train, test, split = _viewed(config, shared.train, shared.test, shared.split)
        return assemble(config, train, test, split, shared_preprocess(config, shared.public), network, start)
    train, test, split = deal(config, dataset)
    return assemble(config, train, test, split, preprocess_for(config, train), network, start)


def deal(config: Experiment, dataset: Any = None) -> tuple[data.ImageSet, data.ImageSet, data.FederatedSplit]:
    """Training set, test set, and who holds what.

    Raises:
        DataError: data missing, damaged or too small.
    """
    if dataset is None and from_shares(config):
        shared = read_shares(config, reading_of(config))
        return _viewed(config, shared.train, shared.test, shared.split)
    found = timed(config, sources(config, dataset))
    return staged(config, found, partial(_dealt, config)) if config.stages.on else _dealt(config, found)


def _dealt(config: Experiment, found: data.Sources) -> tuple[data.ImageSet, data.ImageSet, data.FederatedSplit]:
    """One set dealt out: training set, test set, who holds what."""
    d = config.data
    seed = derive_seed(config.seed, SPLIT)
    train, test, public_source = data.leave_out(found, d.by, test=d.test_groups, public=d.public_groups, seed=seed)
    data.check_owners(train, d.partition)
    train = _unused(train, d)
    if d.public_order == "content" and public_source is not None:
        public_source = public_source.subset(data.by_content(public_source.images[:]))
    split = data.split_federation(
        train,
        clients=d.clients,
        private_per_client=d.private_per_client,
        public=d.public,
        partition=d.partition,
        alpha=d.alpha,
        shards_per_client=d.shards_per_client,
        validation=d.validation,
        validation_overlap=d.validation_overlap,
        seed=seed,
        public_source=public_source,
        by=d.by,
        sizes=d.sizes,
        size_alpha=d.size_alpha,
        own_test=d.own_test,
    )
    if d.public_order == "content":
        order = data.by_content(split.public_images)
        split = dataclasses.replace(
            split, public_images=split.public_images[order], public_indices=split.public_indices[order]
        )
    return _viewed(config, train, test, split)


def _viewed(
    config: Experiment, train: data.ImageSet, test: data.ImageSet, split: data.FederatedSplit
) -> tuple[data.ImageSet, data.ImageSet, data.FederatedSplit]:
    """The same data pooled where the config says so, and with the test set that it asks for."""
    d = config.data
    if d.pooled or method(config.method["name"]).pooled:
        split = data.pooled(split)
    if d.evaluate_on == "validation":
        test = train.subset(torch.cat([client.validation for client in split.clients]))
        if not len(test):
            raise DataError(
                "data.evaluate_on = 'validation' measures on the clients' held-out items, and there are none here; set "
                "data.evaluate_on = 'test'"
            )
    if d.test_limit:
        test = data.limited(test, d.test_limit)
    return train, test, split


def _unused(train: data.ImageSet, d: DataConfig) -> data.ImageSet:
    """The set with a word on columns that nothing uses."""
    if (
        not train.columns.keys() - {data.TASK}
        or d.partition == "column"
        or is_own(d.partition)
        or d.test_groups
        or d.public_groups
    ):
        return train
    columns = list(train.columns)
    told = (
        f"{train.name}: {'columns' if columns[1:] else 'column'} {', '.join(columns)} not used; data.partition = "
        f"'column' with data.by = '{columns[0]}' makes a client of each value."
    )
    return dataclasses.replace(train, notes=(*train.notes, told))


def sources(config: Experiment, dataset: Any = None) -> data.Sources:
    """Training set, test set, and the public rows that the source brings, before anything is dealt out."""
    d = config.data
    folder = Path(d.dir) if d.dir else None
    reading = reading_of(config)
    if dataset is None:
        return data.load_sources(d.dataset, folder, reading)
    return data.sources(dataset, d.dataset, folder, reading)


def timed(config: Experiment, found: data.Sources) -> data.Sources:
    """Sets with a time axis brought to the network's steps; the public set of another source in place."""
    steps = config.network.steps
    how = config.data.resample
    both = data.Sources(found.train, found.test, public_set(config, found))
    if found.train.steps is None:
        return both
    if config.network.twin == "ann":
        raise ConfigError(
            "network.twin = 'ann' has one step, and the data have a time axis; leave it out, or give images"
        )
    return data.Sources(*cast(Any, (None if each is None else data.to_steps(each, steps, how) for each in both)))


def check_time(config: Experiment, train: data.ImageSet) -> None:
    """Refuse settings that need a time axis, or pictures.

    Raises:
        ConfigError: one that has nothing to work on.
    """
    augment = getattr(config.hyper(), "augment", "none")
    if train.steps is None and config.network.coding == "delta":
        raise ConfigError(
            "network.coding = 'delta' spikes at changes in time, and the data have no time axis; use direct, bernoulli "
            "or poisson"
        )
    if augment != "none" and 1 in train.shape[1:]:
        raise ConfigError(
            f"training.augment = '{augment}' moves pictures, and the data are series or rows of numbers; leave it out"
        )


def reading_of(config: Experiment) -> data.Reading:
    """How the user's own data are to be read."""
    d = config.data
    return data.Reading(d.kind, d.channels, d.size, config.network.steps, d.frames)


def public_set(config: Experiment, found: data.Sources) -> data.ImageSet | None:
    """Where the public rows come from, if not from the training set."""
    d = config.data
    if d.public_dataset is None:
        return found.public
    if data.is_made(d.public_dataset):
        return data.made_public(d.public_dataset, found.train, d.public, derive_seed(config.seed, SPLIT))
    return data.load_sources(d.public_dataset, Path(d.dir) if d.dir else None, reading_of(config)).train


def assemble(
    config: Experiment,
    train: data.ImageSet,
    test: data.ImageSet,
    split: data.FederatedSplit,
    preprocess: Preprocess,
    network: networks.Own | None = None,
    start: Path | None = None,
) -> Federation:
    """The objects of a run around data that is already dealt out (see `build`).

    Args:
        config: the experiment.
        train: all images of the training part.
        test: images that are measured on.
        split: whose row is whose.
        preprocess: pixel scale and moments.
        network: a network given by code.
    """
    shape = train.shape
    check_time(config, train)
    seed = derive_seed(config.seed, NETWORK, 0)
    timed = train.steps is not None
    make: Any = partial(build_network, config, shape, train.classes, network, timed)
    if isinstance(network, nn.Module) and getattr(config.hyper(), "client_reset", None) == "own":
        raise ConfigError(
            "method.client_reset = 'own' asks for other initial weights on each client, but the network is one module "
            "with one set of weights; give its class or a function that makes it"
        )
    if network is not None or is_own(config.network.name):
        networks.check_promises(make(seed), config.network.name, shape)
        check_singles(config, split, make(seed), (config.network.steps, *shape) if timed else shape)
    begin = read_start(
        config, train, lambda classes: build_network(config, shape, classes, network, timed, seed), start
    )
    tensors = begin.tensors if begin else None
    factory = NetworkFactory(make, seed, config.run.device, tensors, calendar_of(config))
    if config.chips.profiles:
        check_treatments(factory.network, config.chips.repairs)
    expectations = Expectations.of(
        method(config.method["name"]),
        config.hyper(),
        shape=(len(split.public_images), train.classes, config.network.steps),
        networks=factory,
        public_set_id=data.public_set_id(split.public_images),
    )
    coded = {codec_of(config, expectations.up.kind, "up"), codec_of(config, expectations.down.kind, "down")}
    near = nearest_rows(split.public_images.numpy()) if "context" in coded else None
    others = {
        name: NetworkFactory(
            partial(build_network, named(config, name), shape, train.classes, None, timed), seed, config.run.device
        )
        for name in sorted(set(config.network.clients) - {config.network.name})
    }
    return Federation(config, train, test, split, preprocess, factory, expectations, near, begin, others)


def from_nir(
    config: Experiment, shape: tuple[int, ...], classes: int, coding: str | SendOnDelta
) -> networks.SpikingNetwork:
    """The network of ``nir:FILE``, weights included, for a config's data.

    Args:
        config: the experiment.
        shape: ``(C, H, W)`` of the data.
        classes: of the data.
        coding: of images as spikes.

    Raises:
        ConfigError: no such file, or one that does not fit the data or the config.
    """
    told = config.network
    net = interop.read_nir(told.name.removeprefix(interop.PREFIX), steps=told.steps, coding=coding)
    flat = prod(net.input_shape) == net.input_shape[0] == prod(shape)
    if net.input_shape != tuple(shape) and not flat:
        taken, given = ("x".join(map(str, sides)) for sides in (net.input_shape, shape))
        raise ConfigError(f"network.name '{told.name}' takes images {taken}, the data set gives {given}; name another")
    if net.classes != classes:
        raise ConfigError(
            f"network.name '{told.name}' has {net.classes} outputs, the data set {classes} classes; name another"
        )
    if net.readout != told.readout:
        raise ConfigError(
            f"network.name '{told.name}' gives {'spikes' if net.readout == 'spike' else 'currents'}; set "
            f"network.readout = '{net.readout}'"
        )
    net.input_shape = tuple(shape)
    return net


def alike_rows(run: Path | str, data_dir: Path | None = None) -> np.ndarray | None:
    """`nearest_rows` of a run's public images, or None where its data set is not at hand. int64 ``[N]``.

    Raises:
        ConfigError: no run folder.
    """
    path = Path(run) / "config.toml"
    if not path.exists():
        raise ConfigError(f"{run} is no run folder (it holds no config.toml); give one that `spikefed run` made")
    config = load(path, [] if data_dir is None else [f"data.dir={json.dumps(str(data_dir))}"])
    try:
        return nearest_rows(build(config).split.public_images.numpy())
    except DataError:
        return None
