"""The run folder: what a run leaves behind, and how an interrupted one is taken up again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from spikefed.errors import CheckpointError, ConfigError, FolderBusyError, SpikefedError
from spikefed.experiment import config as configs
from spikefed.experiment import toml
from spikefed.experiment.config import Experiment
from spikefed.files import append_lines, write_atomic

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None

LOCK = ".lock"
RESULT = {
    "name": str, "method": str, "seed": int, "rounds": int, "accuracy": (int, float), "upstream_bytes": int,
    "downstream_bytes": int,
}  # fmt: skip
"""What is told of a finished run, with its type in ``result.json``."""


class RunFolder:
    """Files of one run under ``path`` (their formats: docs, "run folder")."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.jsonl"
        self.ledger = path / "ledger.jsonl"
        self.provenance = path / "provenance.json"
        self.result = path / "result.json"
        self.energy = path / "energy.json"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.safetensors"
        self.start = path / "start.safetensors"
        self.streams = path / "streams"
        self.probes = path / "probes"
        self.clients = path / "clients"

    def exists(self) -> bool:
        """Whether a run was ever started here."""
        return self.config.is_file()

    def finished(self) -> bool:
        """Whether the run here has a result."""
        return self.result.is_file()

    def create(self, config: Experiment) -> None:
        """Start a run here.

        Raises:
            ConfigError: the folder already holds something, or cannot be made.
        """
        self.sweep()
        if self.path.exists() and (not self.path.is_dir() or any(p.name != LOCK for p in self.path.iterdir())):
            advice = "a run; continue it with --resume or" if self.exists() else "other files;"
            raise ConfigError(f"folder {self.path} already holds {advice} name another folder with --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomic(self.config, toml.dump(config.resolved()))
        except OSError as error:
            raise ConfigError(
                f"run folder {self.path} cannot be written ({error.strerror or error}); choose another --out"
            ) from error

    def sweep(self) -> None:
        """Delete temporary files that a killed run left behind."""
        for folder in (self.path, self.checkpoints, self.streams, self.probes, self.clients):
            for path in folder.glob(".*.tmp*") if folder.is_dir() else ():
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out of this folder; the lock ends with the process, however it ends.

        Raises:
            ConfigError: another process runs here, or the folder cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; name a folder with --out")
        made = not self.path.exists()
        had_lock = (self.path / LOCK).exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / LOCK, "a")  # noqa: SIM115 - held open until the end
        except OSError as error:
            raise ConfigError(
                f"run folder {self.path} cannot be written ({error.strerror or error}); choose another --out"
            ) from error
        with file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise FolderBusyError(
                    f"another process is running in {self.path}; wait for it or name another folder with --out"
                ) from error
            try:
                yield
            except SpikefedError:
                # A run that failed before its first round was saved leaves nothing to go on from.
                if made and not self.metrics.is_file() and not self.checkpoints.is_dir():
                    shutil.rmtree(self.path, ignore_errors=True)
                elif not had_lock and not self.exists():
                    (self.path / LOCK).unlink(missing_ok=True)  # a folder of somebody else's files stays as it was
                raise

    def own_start(self) -> Path | None:
        """The copy of the network that the run here began with, if it has one."""
        return self.start if self.start.is_file() else None

    def personal(self, client: int) -> Path:
        """Where a client's own network lies, if the run keeps it (``run.keep_clients``)."""
        return self.clients / f"client-{client}.safetensors"

    def personal_models(self) -> dict[int, Path]:
        """The clients' own networks that the run kept, by client."""
        found = {path.stem.removeprefix("client-"): path for path in self.clients.glob("client-*.safetensors")}
        return {int(number): found[number] for number in sorted(filter(str.isdecimal, found), key=int)}

    def busy(self) -> bool:
        """Whether another process runs here at this moment."""
        if fcntl is None or not (self.path / LOCK).is_file():
            return False
        with open(self.path / LOCK, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look see nobody
            except OSError:
                return True
        return False

    def check_same(self, config: Experiment) -> Experiment:
        """The config recorded here, if ``config`` differs from it only in what may differ.

        Raises:
            CheckpointError: another config; the text names the first key that differs.
        """
        recorded = configs.load(self.config)
        if config.network.precision == "auto":  # what it meant when the run began
            config = config.with_precision(recorded.network.precision)
        if recorded.hash() != config.hash():
            before = flatten(recorded.resolved())
            now = flatten(config.resolved())
            free = ("name", "label", "rounds", "preset", "run.", "deploy.", "data.dir", "probe")
            differing = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k) and not k.startswith(free)]
            key = "method.name" if "method.name" in differing else differing[0]  # whose other keys differ with it
            raise CheckpointError(
                f"run folder {self.path} belongs to another config: {key} was {before.get(key)!r} and is now "
                f"{now.get(key)!r}; resume with the old value or start in another folder with --out"
            )
        return recorded

    def truncate(self, round: int) -> None:
        """Drop metrics, ledger lines and streams of rounds after ``round`` (written before a crash, not yet
        checkpointed).
        """
        self.sweep()
        for path in (self.metrics, self.ledger):
            if path.is_file():
                kept = [line for line in records(path) if round_of(line) <= round]
                write_atomic(path, json_lines(kept))
        for path in self.streams.glob("round-*.npz"):
            if int(path.stem.split("-")[1]) > round:
                path.unlink()
        self.result.unlink(missing_ok=True)

    def append(self, path: Path, entries: list[dict[str, Any]]) -> None:
        """Append records as JSON lines."""
        try:
            append_lines(path, json_lines(entries))
        except OSError as error:
            raise CheckpointError(
                f"{path} could not be written ({error.strerror or error}); free some space and repeat with --resume"
            ) from error

    def save_streams(
        self, round: int, up: dict[int, np.ndarray], down: np.ndarray | None, shape: tuple[int, ...]
    ) -> None:
        """Keep a round's spike tensors, bit-packed.

        Args:
            round: its number, from 1.
            up: packed uplinks by client.
            down: packed downlink, or None.
            shape: ``(N, C, T)`` of all of them.
        """
        self.streams.mkdir(exist_ok=True)
        arrays = {f"up_{client}": np.packbits(spikes.reshape(-1)) for client, spikes in up.items()}
        if down is not None:
            arrays["down"] = np.packbits(down.reshape(-1))
        temporary = self.streams / f".round-{os.getpid()}.tmp.npz"
        np.savez(temporary, shape=np.array(shape), **cast(Any, arrays))
        os.replace(temporary, self.streams / f"round-{round:04d}.npz")

    def check_complete(self, round: int) -> None:
        """Whether metrics and ledger hold all of rounds 1 to ``round``; nothing is changed, so both can be repaired.

        Raises:
            CheckpointError: the text names the file.
        """
        advice = "totals would be wrong; put the file back or start in another folder with --out"
        kept = [line for line in records(self.metrics) if round_of(line) <= round]
        if [round_of(line) for line in kept] != list(range(1, round + 1)):
            raise CheckpointError(f"{self.metrics} does not hold rounds 1 to {round} of the checkpoint, so {advice}")
        sent: Counter[tuple[int, str]] = Counter()
        for message in records(self.ledger):
            size = message.get("encoded_bytes")
            sent[round_of(message), str(message.get("direction"))] += size if isinstance(size, int) else 0
        for line in kept:
            at = round_of(line)
            if (sent[at, "up"], sent[at, "down"]) != (line.get("upstream_bytes"), line.get("downstream_bytes")):
                raise CheckpointError(
                    f"{self.ledger} does not hold what {self.metrics.name} counts in round {at}, so {advice}"
                )

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON file of this folder.

        Raises:
            CheckpointError: missing, not JSON, or no table.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); delete it and repeat the command") from error
        if not isinstance(found, dict):
            raise CheckpointError(f"{path} holds no JSON table; delete it and repeat the command")
        return found

    def read_result(self) -> dict[str, Any]:
        """The closing summary.

        Raises:
            CheckpointError: missing, not JSON, or without what every summary has.
        """
        found = self.read_json(self.result)
        for key, kind in RESULT.items():
            if not isinstance(found.get(key), kind):
                raise CheckpointError(f"{self.result} is damaged (no '{key}'); delete it and repeat the command")
        return found

    def read_lines(self, path: Path) -> list[dict[str, Any]]:
        """Records of a JSON-lines file, without a torn last line."""
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def records(path: Path) -> list[dict[str, Any]]:
    """What can be read of a JSON-lines file: torn and damaged lines are left out, a missing file holds nothing."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.is_file() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [entry for entry in found if isinstance(entry, dict)]


def json_lines(entries: Iterable[dict[str, Any]]) -> str:
    """One line of JSON for each entry."""
    return "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries)


def round_of(entry: dict[str, Any]) -> int:
    """The round that an entry belongs to; one that does not say belongs to no finished round."""
    number = entry.get("round")
    return number if isinstance(number, int) else 1 << 60


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as ``{"table.key": value}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
