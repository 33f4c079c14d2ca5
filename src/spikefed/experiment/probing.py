"""The probes of a run while it goes: what is due after a round is measured and kept; one that fails costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from spikefed.errors import SpikefedError
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.probetables import ProbeTable
from spikefed.experiment.progress import Progress
from spikefed.federated import Server
from spikefed.federated.randomness import EVALUATE, generator, shared
from spikefed.networks import copy_tensors, load_tensors, read_tensors
from spikefed.objects import said
from spikefed.probes import Subject, files, run_probe


class Trained(Sequence[Subject]):
    """What each client of a federation trained on, taken out of the data when it is asked for."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def __len__(self) -> int:
        return len(self._federation.split.clients)

    def __getitem__(self, client: Any) -> Any:
        if isinstance(client, slice):
            return [self[number] for number in range(*client.indices(len(self)))]
        held = self._federation.labelled(self._federation.split.clients[client].train)
        return Subject(held.images, held.labels, self._federation.preprocess, self._federation.train.names)


def subject_of(federation: Federation) -> Subject:
    """The images that a run is measured on, as probes see them."""
    test = federation.test
    return Subject(test.images, test.labels, federation.preprocess, federation.train.names, Trained(federation))


def clients_of(
    server: Server, net: nn.Module, federation: Federation, folder: RunFolder
) -> Callable[[], Iterator[tuple[int, nn.Module]]]:
    """Gives the clients' own networks, which may share the memory of ``net``; at the end it holds its own again.

    Of a client whose network the method does not keep between rounds it gives the one in the run folder, where
    ``run.keep_clients`` has left it.

    Args:
        server: which knows the clients' states.
        net: the network that is probed.
        federation: the objects of the run.
        folder: of the run.
    """

    def one_by_one() -> Iterator[tuple[int, nn.Module]]:
        before = copy_tensors(net)
        known = set()
        try:
            for client, own in server.client_networks():
                known.add(client)
                yield client, own
            for client, path in folder.personal_models().items():
                if client not in known:
                    yield client, federation.of_client(client).networks.load(read_tensors(path).tensors)
        finally:
            load_tensors(net, before)

    return one_by_one


def measure(
    table: ProbeTable, federation: Federation, folder: RunFolder, server: Server, net: nn.Module, progress: Progress
) -> None:
    """Run one probe on a network of the run and keep what it found.

    Args:
        table: the ``[[probe]]`` table.
        federation: data and objects of the run.
        folder: where results are kept.
        server: whose state the probe may see.
        net: the network measured.
        progress: who is told of steps.

    Raises:
        SpikefedError: it cannot be run, or its file holds something else.
    """
    files.check_same(folder.probes, table.label, table.name, table.probe.version, table.hyper.model_dump(mode="json"))
    tell: Any = getattr(progress, "probe", None)
    config = federation.config
    draws = generator(config.seed, EVALUATE, server.round)  # as the run's own measure: the same images, the same spikes
    with shared(draws):
        found = run_probe(
            net,
            subject_of(federation),
            table.probe,
            hyper=table.hyper.model_dump(exclude_unset=True),
            round=server.round,
            seed=config.seed,
            generator=draws,
            whose=server.whose(),
            train_bn=getattr(config.hyper(), "train_bn_at_eval", False),
            clients=clients_of(server, net, federation, folder),
            progress=lambda done, total, what: tell and tell(table.label, done, total, what),
            partial=files.partial_path(folder.probes, table.label),
            name=table.name,
        )
    files.add(folder.probes, table.label, found)


class Probing:
    """The tables ``[[probe]]`` of one run."""

    def __init__(self, federation: Federation, folder: RunFolder, server: Server, progress: Progress) -> None:
        self._federation = federation
        self._folder = folder
        self._server = server
        self._progress = progress
        self._tables = federation.config.probe_tables()

    def go_on_from(self, round: int) -> None:
        """Forget what lies beyond the checkpoint, and make up for what a crash after this round left out."""
        files.forget_after(self._folder.probes, round)
        if round:
            self.after(round)

    def after(self, round: int, *, last: bool = False) -> None:
        """Measure what is due after this round, with ``last`` everything; what is measured already stands."""
        for table in self._tables:
            if (last or table.due(round)) and not files.measured(self._folder.probes, table.label, round):
                self._try(table, round)

    def _try(self, table: ProbeTable, round: int) -> None:
        net = self._server.network()
        try:
            measure(table, self._federation, self._folder, self._server, net, self._progress)
        except Exception as error:  # whatever a probe does wrong, the run that it looks at is worth more
            reason = str(error) if isinstance(error, SpikefedError) else said(error)
            self._progress.warn(
                f"probe '{table.label}' failed after round {round}, the run is whole without it: {reason} (to repeat "
                f"it on the finished run: spikefed probe {self._folder.path} {table.label})"
            )
