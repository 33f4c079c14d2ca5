"""Running an experiment: round by round, each one durable before the next begins."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from spikefed import native, networks
from spikefed.errors import CheckpointError, ConfigError, DamagedCheckpointError, SpikefedError, UnmergedError
from spikefed.experiment import config as configs
from spikefed.experiment.augments import augment_notes
from spikefed.experiment.build import build
from spikefed.experiment.checks import check_idle
from spikefed.experiment.config import Experiment
from spikefed.experiment.energy import run_energy
from spikefed.experiment.federation import Federation, Keeper
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.health import health
from spikefed.experiment.identity import check_identity, identity
from spikefed.experiment.models import model_facts
from spikefed.experiment.people import people
from spikefed.experiment.personal import keep_into
from spikefed.experiment.probing import Probing
from spikefed.experiment.progress import Progress, default
from spikefed.experiment.provenance import now, provenance
from spikefed.experiment.records import metrics_line, result
from spikefed.experiment.start import check_copy
from spikefed.federated import Server
from spikefed.federated.history import History
from spikefed.federated.randomness import EVALUATE, generator, shared
from spikefed.files import write_atomic
from spikefed.models import model_file
from spikefed.neurons import settle_precision, why_slow
from spikefed.objects import name_of
from spikefed.transports import LocalTransport, PoolTransport
from spikefed.wire import Ledger

Local = LocalTransport | PoolTransport


def run(
    config: Experiment | Path | str | Mapping[str, Any],
    *,
    dataset: Any = None,
    network: networks.Own | None = None,
    overrides: Sequence[str] = (),
    out: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    transport: Callable[[Federation, RunFolder], Any] | None = None,
    trial: int | None = None,
) -> Path:
    """Run an experiment to its end.

    Args:
        config: an `Experiment`, the path of a TOML file, or its tables as a dict.
        dataset: your own data instead of ``data.dataset``: a torch ``Dataset``, ``(images, labels)``, a pair of either
            for training and test, or a function or class that gives one (`spikefed.data.image_sets` has the rules).
        network: your own network instead of ``network.name``: a module, or the function or class that makes it
            (`spikefed.networks.build_own` has the rules). Where ``module:attribute`` does not lead back to these
            objects,
            the run can be resumed only by a call with the same ones.
        overrides: ``table.key=value`` texts applied on top.
        out: run folder; default ``runs/NAME-seedS``.
        resume: continue the run in ``out`` from its last checkpoint (start it when there is none).
        progress: told what happens; default: bars in a notebook, else silent.
        transport: makes the carrier of rounds, with ``state_dict`` and ``load_state_dict``; default: all clients in
            this process. It is called with the folder held and, unless resuming, not yet there.
        trial: end after so many of the rounds, as if they were all, to see what they cost.

    Returns:
        the run folder.

    Raises:
        SpikefedError: bad config, data, run folder or checkpoint.
    """
    if isinstance(config, Path | str):
        config = configs.load(Path(config), overrides)
    elif not isinstance(config, Experiment):
        config = configs.from_tree(config, overrides)
    elif overrides:
        config = configs.from_tree(config.resolved(), overrides)
    config = with_names(config, dataset, network)
    folder = RunFolder(Path(out) if out else Path("runs") / f"{config.name}-seed{config.seed}")
    progress = progress or default()
    asked = not resume and "precision" in config.network.model_fields_set  # a folder's file spells defaults out
    if resume and folder.exists():
        recorded = folder.check_same(config)
        threads = recorded.run.threads
        config = config.with_precision(recorded.network.precision)
    else:
        check_idle(config)
        config = config.with_precision(settle_precision(config.network.precision, config.run.device))
        threads = config.run.threads or (1 if config.run.workers > 1 else cores())
    if config.run.workers > 1 and threads != 1:
        raise ConfigError(
            f"'run.workers' = {config.run.workers} runs one thread in each process, but 'run.threads' is {threads}, "
            "which changes the last bits of results; set run.threads = 1, or run.workers = 1"
        )
    config = config.model_copy(update={"run": config.run.model_copy(update={"threads": threads})})
    if asked and (slow := why_slow(config.network.precision, config.run.device)):
        progress.warn(slow)
    try:
        with torch_threads(config.run.threads), writable(folder):
            _run(config, folder, resume, progress, dataset, network, transport, trial)
    finally:
        progress.close()
    return folder.path


def _run(
    config: Experiment,
    folder: RunFolder,
    resume: bool,
    progress: Progress,
    dataset: Any,
    network: networks.Own | None,
    make: Callable[[Federation, RunFolder], Any] | None,
    trial: int | None,
) -> None:
    if make is not None and config.run.take_home:
        raise ConfigError(
            "run.take_home measures every client's own network on the test set, which needs them all in one process; "
            "leave it out of a fleet's run, and measure it with 'spikefed run' on the same file"
        )
    if make is not None and config.run.keep_clients:
        raise ConfigError(
            "run.keep_clients keeps every client's own network in the run folder, and a fleet's stay with their "
            "clients; leave it out, each 'spikefed client' writes its own at the end of the run (--model)"
        )
    # Everything is built before the folder: a config that cannot run leaves none behind.
    resuming = resume and folder.exists()
    federation = build(config, dataset, network, folder.own_start() if resuming else None)
    if make is None and not any(len(indices.train) for indices in federation.split.clients):
        raise ConfigError(
            f"'{config.data.dataset}' holds no client's share, so there is nobody to train; name the folder with "
            "client-0, client-1, ... in it, or let the clients come with 'spikefed server FILE --data FOLDER'"
        )
    ledger = Ledger()
    with folder.held(), contextlib.ExitStack() as stack:
        transport = make(federation, folder) if make else federation.local_transport(_keeper(federation, folder))
        stack.callback(getattr(transport, "close", lambda: None))
        transport.on_reply = getattr(progress, "client", None)
        server = federation.server(transport, ledger)
        last = min(config.rounds, trial or config.rounds)
        _rounds(federation, folder, server, transport, ledger, resuming, progress, last)


def _keeper(federation: Federation, folder: RunFolder) -> Keeper | None:
    """What writes the clients' own networks into the run folder, where they are to be kept."""
    if not federation.config.run.keep_clients:
        return None
    return lambda client: keep_into(folder.personal(client), federation, client)


def _rounds(
    federation: Federation,
    folder: RunFolder,
    server: Server,
    transport: Local,
    ledger: Ledger,
    resuming: bool,
    progress: Progress,
    last: int,
) -> None:
    config = federation.config
    history = History(folder.checkpoints, config.hash())
    start = federation.start
    if not resuming:
        folder.create(config)
    facts = provenance(config) | identity(federation) | {"model": model_facts(federation, 0).to_dict()}
    facts |= {"start": start.told(config.network.start)} if start else {}
    if resuming:
        before = folder.read_json(folder.provenance) if folder.provenance.is_file() else {}
        check_copy(folder, start, before)
        check_identity(folder, before, facts, federation)
        _restore(config, folder, server, transport, history, progress)
        facts = {**facts, **before, "resumed": [*before.get("resumed", []), {"round": server.round, "at": now()}]}
    if start and folder.own_start() is None:
        write_atomic(folder.start, start.content)
    write_atomic(folder.provenance, json.dumps(facts, indent=1))
    lines = folder.read_lines(folder.metrics)
    progress.begin(config, server.round, folder.path)
    moved = augment_notes(config, federation.train.shape)
    notes = (
        *config.notes,
        *config.hyper().unused(config.rounds),
        *moved,
        *federation.train.notes,
        *(start.notes if start else ()),
    )
    for note in notes if server.round == 0 else ():
        progress.warn(note)
    probing = Probing(federation, folder, server, progress)
    if resuming:
        probing.go_on_from(server.round)
    hand_back = native.Trim()
    while server.round < last:
        lines.append(_one_round(federation, folder, server, transport, history, ledger, lines))
        progress.round(lines[-1])
        hand_back()
        if server.round < last:
            probing.after(server.round)
    _check_merged(lines, folder, alone=federation.expectations.up.kind is None)
    write_atomic(folder.model, model_bytes(federation, server))
    _write_energy(federation, folder, server, progress)
    probing.after(server.round, last=True)  # before the result: who finds one finds the probes too
    write_atomic(folder.result, json.dumps(_told(config, lines, federation, server), indent=1))
    if "finished" not in facts or resuming:
        write_atomic(folder.provenance, json.dumps(facts | {"finished": now()}, indent=1))
    progress.end(lines)


def _check_merged(lines: Sequence[Mapping[str, Any]], folder: RunFolder, *, alone: bool) -> None:
    """Refuse to call a run done whose network is still the one it began with.

    Args:
        lines: the metrics; those of version 0.1 may not say whether a round merged.
        folder: for the error.
        alone: nothing travels, so clients go on without a merge unless they are dropped.
    """
    if any(line.get("merged", True) or (alone and not line["dropped"]) for line in lines):
        return
    last = lines[-1]
    why = [f"client {drop['client']}: {drop['reason']}" for drop in last["dropped"]] or [last.get("diverged")]
    raise UnmergedError(
        f"nothing was merged in the run's {len(lines)} rounds, so its network is the one it began with (round "
        f"{last['round']}: {why[0] or 'too few uploads for participation.quorum'}); mend that and start in another "
        f"folder with --out, {folder.metrics} says what was dropped"
    )


def _told(config: Experiment, lines: list[dict[str, Any]], federation: Federation, server: Server) -> dict[str, Any]:
    """The closing record, with a row a client where clients have test data of their own."""
    found = people(federation, server)
    told = result(config, lines, federation)
    if server.has_model and "accuracy_of" in told:  # a fleet's clients keep what is theirs
        told["accuracy_of"] = "shared parts"
    return told | ({"people": found} if found else {})


def _write_energy(federation: Federation, folder: RunFolder, server: Server, progress: Progress) -> None:
    """What the network would cost on published models of hardware; a network they do not fit has no such file."""
    try:
        found = run_energy(federation, server.network())
    except SpikefedError as error:
        progress.warn(f"no energy is estimated: {error}")
        return
    write_atomic(folder.energy, json.dumps(found, indent=1))


def _one_round(
    federation: Federation,
    folder: RunFolder,
    server: Server,
    transport: Local,
    history: History,
    ledger: Ledger,
    lines: list[dict[str, Any]],
) -> dict[str, Any]:
    started = time.perf_counter()
    known = len(ledger.records)
    record = server.run_round()
    messages = ledger.records[known:]
    probe = federation.test.images[:256]
    draws = generator(federation.config.seed, EVALUATE, record.round, 1)
    with shared(draws):
        rates = networks.firing_rates(server.network(), federation.preprocess(probe), generator=draws)
    line = metrics_line(record, messages, lines[-1] if lines else None, rates, federation)
    if found := health(line, record, federation, lines[-1] if lines else None):
        line["health"] = found
    if federation.config.run.record_streams:
        _record_streams(federation, folder, record)
    # Metrics and ledger first, then the checkpoint: what a crash leaves beyond the checkpoint is cut off on resume.
    line["seconds"]["round"] = round(time.perf_counter() - started, 4)
    folder.append(folder.ledger, [vars(message) for message in messages])
    folder.append(folder.metrics, [line])
    history.save(server.round, record.participants, server.state_dict, transport.state_dict)
    return line


def _record_streams(federation: Federation, folder: RunFolder, record: Any) -> None:
    up = {c: u.spikes for c, u in record.uplinks.items() if hasattr(u, "spikes")}
    if up:
        down = getattr(record.downlink, "spikes", None)
        folder.save_streams(record.round, up, down, next(iter(up.values())).shape)


def _restore(
    config: Experiment, folder: RunFolder, server: Server, transport: Local, history: History, progress: Progress
) -> None:
    try:
        tree = history.latest(progress.warn)
    except DamagedCheckpointError as error:
        raise CheckpointError(
            f"no checkpoint of the run in {folder.path} is whole ({str(error).partition(';')[0]}); delete "
            f"{folder.checkpoints} and repeat the command: the run then begins again"
        ) from error
    if tree is not None:
        if tree["server"]["round"] > config.rounds:
            raise CheckpointError(
                f"run folder {folder.path} is at round {tree['server']['round']}, the config asks for {config.rounds}; "
                "raise rounds or start in another folder with --out"
            )
        server.load_state_dict(tree["server"])
        transport.load_state_dict(tree["clients"])
    folder.check_complete(server.round)
    folder.truncate(server.round)


def model_bytes(federation: Federation, server: Server) -> bytes:
    """The server's network as safetensors, with what is needed to build it again in the metadata."""
    mask = server.mask()
    return model_file(server.network(), model_facts(federation, server.round), mask.kept if mask else None)


def with_names(config: Experiment, dataset: Any, network: Any) -> Experiment:
    """The config as a run of these objects is recorded.

    It names them, so that a resumed run can be told from another.
    """
    given = {"data": ("dataset", dataset), "network": ("name", network)}
    tables = {
        table: getattr(config, table).model_copy(update={key: thing if isinstance(thing, str) else name_of(thing)})
        for table, (key, thing) in given.items()
        if thing is not None
    }
    return config.model_copy(update=tables)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with ``count`` torch threads, then restore."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def writable(folder: RunFolder) -> Iterator[None]:
    """Turn a refusing disk into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise CheckpointError(
            f"run folder {folder.path} cannot be written ({error.strerror}); free some space and repeat with --resume"
        ) from error
