"""What a run tells while it goes: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from spikefed.experiment.config import Experiment


class Progress(Protocol):
    """Listener of a run."""

    def begin(self, config: Experiment, round: int, folder: Path) -> None:
        """A run starts, or continues after ``round``."""
        ...

    def round(self, line: dict[str, Any]) -> None:
        """A round is done and saved; ``line`` is its entry in metrics.jsonl."""
        ...

    def end(self, lines: list[dict[str, Any]]) -> None:
        """The run is done."""
        ...

    def warn(self, message: str) -> None:
        """Something is wrong but the run goes on."""
        ...

    def close(self) -> None:
        """The run is over, also after an error: leave the terminal as it was."""
        ...


class Quiet:
    """Says nothing."""

    def begin(self, config: Experiment, round: int, folder: Path) -> None: ...

    def round(self, line: dict[str, Any]) -> None: ...

    def end(self, lines: list[dict[str, Any]]) -> None: ...

    def warn(self, message: str) -> None: ...

    def close(self) -> None: ...


def size(count: float) -> str:
    """Bytes in decimal units, three digits: ``80.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """``1 h 02 min``, ``3 min 20 s`` or ``12 s``."""
    minutes, s = divmod(int(seconds + 0.5), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02d} min" if hours else f"{m} min {s:02d} s" if m else f"{s} s"


class Console_:
    """A bar on a terminal, one line a round elsewhere.

    Args:
        console: where to write; standard error, so that output can be piped.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._started = 0.0
        self._done = 0
        self._rounds = 0

    def begin(self, config: Experiment, round: int, folder: Path) -> None:
        self._started, self._done, self._rounds = time.perf_counter(), 0, config.rounds
        where = f" from round {round}" if round else ""
        self._console.print(
            f"[bold]{config.name}[/] {config.method['name']} on {config.data.dataset}, {config.data.clients} clients, "
            f"seed {config.seed}{where}: {folder}",
            highlight=False,
        )
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn("round"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"),
                TimeRemainingColumn(), console=self._console,
            )  # fmt: skip
            self._bar.start()
            self._bar.add_task("training the first round", total=config.rounds, completed=round)

    def round(self, line: dict[str, Any]) -> None:
        self._done += 1
        text = (
            f"accuracy {line['server_accuracy']:.4f}  up {size(line['upstream_bytes_total'])}  "
            f"down {size(line['downstream_bytes_total'])}"
        )
        if not line["merged"]:
            self.warn(f"round {line['round']}: too few uploads for the quorum, the server is unchanged")
        for drop in line["dropped"]:
            self.warn(f"round {line['round']}: client {drop['client']} dropped: {drop['reason']}")
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=line["round"], description=text)
        else:
            left = (time.perf_counter() - self._started) / self._done * (self._rounds - line["round"])
            self._console.print(
                f"round {line['round']}/{self._rounds}  {text}  "
                f"{line['seconds']['round']:.1f} s  left {duration(left)}",
                highlight=False,
            )

    def end(self, lines: list[dict[str, Any]]) -> None:
        self.close()

    def warn(self, message: str) -> None:
        self._console.print(f"[yellow]warning:[/] {message}", highlight=False)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
