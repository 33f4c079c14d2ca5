"""The run folder: what a run leaves behind, and how an interrupted one is taken up again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment import toml
from spikefed.experiment.config import Experiment
from spikefed.files import append_lines, write_atomic


class RunFolder:
    """Files of one run under ``path`` (their formats: docs, "run folder")."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.jsonl"
        self.ledger = path / "ledger.jsonl"
        self.provenance = path / "provenance.json"
        self.result = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.safetensors"
        self.streams = path / "streams"

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
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            what = "a run" if self.exists() else "other files"
            raise ConfigError(
                f"folder {self.path} already holds {what}; continue it with --resume or name another folder with --out"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomic(self.config, toml.dump(config.resolved()))
        except OSError as error:
            raise ConfigError(
                f"run folder {self.path} cannot be written ({error.strerror or error}); choose another --out"
            ) from error

    def sweep(self) -> None:
        """Delete temporary files that a killed run left behind."""
        for folder in (self.path, self.checkpoints, self.streams):
            for path in folder.glob(".*.tmp*") if folder.is_dir() else ():
                path.unlink(missing_ok=True)

    def check_same(self, config: Experiment) -> Experiment:
        """The config recorded here, if ``config`` differs from it only in what may differ.

        Raises:
            CheckpointError: another config; the text names the first key that differs.
        """
        recorded = configs.load(self.config)
        if recorded.hash() != config.hash():
            before, now = flatten(recorded.resolved()), flatten(config.resolved())
            free = ("name", "rounds", "preset", "run.", "data.dir")
            differing = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k) and not k.startswith(free)]
            key = differing[0]
            raise CheckpointError(
                f"run folder {self.path} belongs to another config: {key} was {before.get(key)!r} and is now "
                f"{now.get(key)!r}; resume with the old value or start in another folder with --out"
            )
        return recorded

    def truncate(self, round: int) -> None:
        """Drop metrics, ledger lines and streams of rounds after ``round`` (written before a crash, not yet
        checkpointed)."""
        self.sweep()
        for path in (self.metrics, self.ledger):
            if path.is_file():
                kept = [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if round_of(line) <= round]
                write_atomic(path, "".join(f"{line}\n" for line in kept))
        for path in self.streams.glob("round-*.npz"):
            if int(path.stem.split("-")[1]) > round:
                path.unlink()
        self.result.unlink(missing_ok=True)

    def append(self, path: Path, records: list[dict[str, Any]]) -> None:
        """Append records as JSON lines."""
        try:
            append_lines(path, "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records))
        except OSError as error:
            raise CheckpointError(
                f"{path} could not be written ({error.strerror or error}); free some space and repeat with --resume"
            ) from error

    def save_streams(
        self, round: int, up: dict[int, np.ndarray], down: np.ndarray | None, shape: tuple[int, ...]
    ) -> None:
        """Keep a round's spike tensors, bit-packed."""
        self.streams.mkdir(exist_ok=True)
        arrays = {f"up_{client}": np.packbits(spikes.reshape(-1)) for client, spikes in up.items()}
        if down is not None:
            arrays["down"] = np.packbits(down.reshape(-1))
        temporary = self.streams / f".round-{os.getpid()}.tmp.npz"
        np.savez(temporary, shape=np.array(shape), **arrays)  # type: ignore[arg-type]
        os.replace(temporary, self.streams / f"round-{round:04d}.npz")

    def read_lines(self, path: Path) -> list[dict[str, Any]]:
        """Records of a JSON-lines file, without a torn last line."""
        if not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def round_of(line: str) -> int:
    """The round a JSON line belongs to; a line that is no JSON belongs to no finished round."""
    try:
        return int(json.loads(line)["round"])
    except (ValueError, KeyError, TypeError):
        return 1 << 60


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as ``{"table.key": value}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
