"""A probe on a run that has ended: its network, its images, its settings, from the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spikefed.errors import CheckpointError, ConfigError, SpikefedError
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.probefile import probe_file, stands_alone
from spikefed.experiment.probetables import ProbeTable, checked_label, probe_tables
from spikefed.experiment.probing import measure
from spikefed.experiment.progress import Progress, default
from spikefed.experiment.run import torch_threads, writable
from spikefed.federated import Server
from spikefed.federated.history import History
from spikefed.networks import read_tensors
from spikefed.objects import said
from spikefed.probes import files
from spikefed.transports import LocalTransport
from spikefed.wire import Ledger


def probe_run(
    run: Path | str,
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    label: str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a probe on the network that a finished run left, and keep what it found in ``RUN/probes``.

    Args:
        run: run folder, or the model file in it; or a model file alone, whose results go to ``NAME.probes`` beside it.
        name: of a probe, ``module:ClassName``, or the label of a table ``[[probe]]`` of the run, whose settings it then
            begins with.
        settings: hyperparameters of the probe; of a model file alone also ``data``, a table with ``dataset``.
        label: name of the file; default: the probe's name.
        data_dir: folder of the data files; default: where the run found them.
        progress: told how far a long probe is; repeat the call to go on with one that was interrupted.

    Returns:
        the probe's file, as `spikefed.probes.files` describes it.

    Raises:
        ConfigError: no such probe or setting, the label's file holds other settings, or the probe itself failed.
        DataError: the data set is not on this machine.
        CheckpointError: the folder has no finished model.
    """
    if stands_alone(Path(run)):
        return _on_file(Path(run), name, dict(settings or {}), label, data_dir, progress or default())
    folder = folder_of(Path(run))
    if "data" in (settings or {}):
        raise ConfigError(
            f"the run in {folder.path} is measured on its own data; leave data.* out, or measure a copy of its "
            "model.safetensors in another folder on other data"
        )
    place = [] if data_dir is None else [f"data.dir={json.dumps(str(data_dir))}"]
    config = configs.load(folder.config, place)
    table = _table(config, name, settings or {}, label)
    files.check_same(folder.probes, table.label, table.name, table.probe.version, table.hyper.model_dump(mode="json"))
    table.probe.check(table.hyper)
    progress = progress or default()
    try:
        with torch_threads(config.run.threads or 1), writable(folder):
            federation = build(config, start=folder.own_start())
            server = _server(federation, folder, progress)
            net = federation.networks.load(read_tensors(folder.model).tensors)
            measure(table, federation, folder, server, net, progress)
    except (SpikefedError, KeyboardInterrupt):
        raise
    except Exception as error:  # what a user's probe does wrong is one sentence; the cause hangs on it
        raise ConfigError(
            f"probe '{table.label}' failed: {said(error)}; the run in {folder.path} is as it was"
        ) from error
    finally:
        progress.close()
    return files.read(files.path_of(folder.probes, table.label))


def _on_file(
    path: Path,
    name: str,
    settings: dict[str, Any],
    label: str | None,
    data_dir: Path | str | None,
    progress: Progress,
) -> dict[str, Any]:
    """`probe_run` on a model file without its run folder."""
    chosen = settings.pop("data", {})
    if not isinstance(chosen, Mapping):
        raise ConfigError("'data' of a probe on a model file is a table; write --set data.dataset=NAME")
    place = {} if data_dir is None else {"dir": str(data_dir)}
    given = {"name": name, **settings} | ({} if label is None else {"label": checked_label(label)})
    table = _checked_table(given)
    table.probe.check(table.hyper)
    try:
        return probe_file(path, table, {**chosen, **place}, progress)
    finally:
        progress.close()


def folder_of(path: Path) -> RunFolder:
    """The run folder that is meant, be it by its model file.

    Raises:
        CheckpointError: no run is there, or one that has not ended.
    """
    folder = RunFolder(path.parent if path.is_file() else path)
    name, at, _ = str(path).rpartition("@")
    if at and not path.exists() and RunFolder(Path(name)).exists():
        raise CheckpointError(
            f"{path} names a round, and a probe looks at the network that a run ended with; give {name}, or measure "
            "rounds while they are there with every = 1 in a table [[probe]]"
        )
    if not folder.exists():
        raise CheckpointError(
            f"{path} is no run folder (it has no config.toml); give the folder that 'spikefed run' made"
        )
    if not folder.model.is_file():
        raise CheckpointError(f"the run in {folder.path} has no model yet; finish it with --resume, then probe it")
    return folder


def _table(config: configs.Experiment, name: str, settings: Mapping[str, Any], label: str | None) -> ProbeTable:
    known = {table.label: table for table in config.probe_tables()}
    given: dict[str, Any] = {"name": name, **settings}
    if name in known:
        before = known[name]
        given = {"name": before.name, "label": name, **before.hyper.model_dump(exclude_unset=True), **settings}
    if label is not None:
        given["label"] = checked_label(label)
    return _checked_table(given)


def _checked_table(given: dict[str, Any]) -> ProbeTable:
    try:
        return probe_tables([given], lambda key: "the command")[0]
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("[[probe]] in the command: ")) from error


def _server(federation: Federation, folder: RunFolder, progress: Progress) -> Server:
    """The server as the last checkpoint has it, with its clients' states; without a checkpoint it knows no client."""
    transport = LocalTransport(federation.worker)
    server = federation.server(transport, Ledger())
    tree = History(folder.checkpoints, federation.config.hash()).latest(progress.warn)
    if tree is not None:
        server.load_state_dict(tree["server"])
        transport.load_state_dict(tree["clients"])
    else:
        server.round = folder.read_result()["rounds"]
    return server
