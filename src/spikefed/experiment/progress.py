"""What a run tells while it goes: bars on a terminal or in a notebook, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import html
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from spikefed.experiment.config import Experiment
from spikefed.federated import method
from spikefed.federated.findings import fresh


class Progress(Protocol):
    """Listener of a run."""

    def begin(self, config: Experiment, round: int, folder: Path) -> None:
        """A run starts, or continues after ``round``."""
        ...

    def client(self, round: int, done: int, total: int) -> None:
        """``done`` of the round's ``total`` clients have answered."""
        ...

    def round(self, line: dict[str, Any]) -> None:
        """A round is done and saved; ``line`` is its entry in metrics.jsonl."""
        ...

    def probe(self, label: str, done: int, total: int, what: str) -> None:
        """The probe of this label has done ``done`` of ``total`` steps; ``what`` says of which kind.

        Args:
            label: of the ``[[probe]]`` table.
            done: steps done.
            total: steps in all.
            what: the kind of a step.
        """
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

    def client(self, round: int, done: int, total: int) -> None: ...

    def round(self, line: dict[str, Any]) -> None: ...

    def probe(self, label: str, done: int, total: int, what: str) -> None: ...

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


def numbers(line: dict[str, Any]) -> str:
    """What a reader wants to know of a round."""
    mean = line.get("clients_accuracy_mean")
    vote = line.get("vote_accuracy")
    home = "" if mean is None or vote is None else f"  clients {mean:.4f}  vote {vote:.4f}"
    return (
        f"accuracy {line['server_accuracy']:.4f}{home}  up {size(line['upstream_bytes_total'])}  "
        f"down {size(line['downstream_bytes_total'])}"
    )


def troubles(line: dict[str, Any]) -> list[str]:
    """What went wrong in a round, a sentence each; what lasts is said in its first round alone."""
    said = [f"client {drop['client']} dropped: {drop['reason']}" for drop in line["dropped"]]
    if not line["merged"]:
        said.insert(0, line.get("diverged") or "too few uploads for the quorum, the server is unchanged")
    return [f"round {line['round']}: {text}" for text in [*said, *fresh(line)]]


class Console_:
    """On a terminal a bar of rounds above one of the round's clients; in a log one line a round.

    Where output goes to a file or a CI log there are no bars, no control characters and no broken lines.
    A round that takes longer than ``pulse_s`` shows in a log that it is alive.

    Args:
        console: where to write; standard error, so that output can be piped.
        pulse_s: seconds after which a log gets a line about the clients of an unfinished round.
    """

    def __init__(self, console: Console | None = None, pulse_s: float = 60.0) -> None:
        self._console = console or Console(stderr=True, emoji=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal and self._console.file.isatty()
        self._pulse_s = pulse_s
        self._bar: Bar | None = None
        self._probes: Any = None  # the task of the bar, once a probe has spoken
        self._started = self._spoke = 0.0
        self._first = self._rounds = 0

    def begin(self, config: Experiment, round: int, folder: Path) -> None:
        self._started = self._spoke = time.perf_counter()
        self._first = round
        self._rounds = config.rounds
        where = f" from round {round}" if round else ""
        self._say(
            f"[bold]{escape(config.name)}[/] "
            + escape(
                f"{config.method['name']} on {config.data.dataset}, {_clients(config)}, "
                f"seed {config.seed}{where}: {folder}"
            )
        )
        if self._live:
            self._bar = _bars(self._console)
            self._bar.start()
            self._bar.add_task("", name="round", total=config.rounds, completed=round)
            self._bar.add_task("training the first round", name="client", total=None)

    def client(self, round: int, done: int, total: int) -> None:
        if self._bar:
            text = "training" if done < total else "the server learns, then is tested"
            self._bar.update(self._bar.task_ids[1], completed=done, total=total, description=text)
        elif done < total and time.perf_counter() - self._spoke >= self._pulse_s:
            self._say(f"round {round}/{self._rounds}  {done} of {total} clients have answered")

    def round(self, line: dict[str, Any]) -> None:
        for text in troubles(line):
            self.warn(text)
        if self._bar:
            rounds, clients = self._bar.task_ids
            self._bar.update(rounds, completed=line["round"], description=numbers(line))
            if line["round"] < self._rounds:
                self._bar.reset(clients, description="training")
            else:
                self._bar.update(clients, visible=False)
        else:
            done = line["round"] - self._first
            left = (time.perf_counter() - self._started) / max(done, 1) * (self._rounds - line["round"])
            took = f"{line['seconds']['round']:.1f} s"
            self._say(f"round {line['round']}/{self._rounds}  {numbers(line)}  {took}  left {duration(left)}")

    def probe(self, label: str, done: int, total: int, what: str) -> None:
        text = f"probe {label}: {done} of {total} {what}"
        if self._live:
            self._probe_bar().update(self._probes, completed=done, total=total, description=text, visible=done < total)
        elif time.perf_counter() - self._spoke >= self._pulse_s:
            self._say(escape(text))

    def _probe_bar(self) -> Bar:
        """The bars, with one for probes; a probe of a finished run has no others."""
        if self._bar is None:
            self._bar = _bars(self._console)
            self._bar.start()
        if self._probes is None:
            self._probes = self._bar.add_task("", name="probe", total=None)
        return self._bar

    def end(self, lines: list[dict[str, Any]]) -> None:
        self.close()

    def warn(self, message: str) -> None:
        self._say(f"[yellow]warning:[/] {escape(message)}")

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = self._probes = None

    def _say(self, text: str) -> None:
        self._spoke = time.perf_counter()
        self._console.print(text, highlight=False, soft_wrap=True)


def _bars(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.fields[name]:>7}"), MofNCompleteColumn(), BarColumn(bar_width=24),
        TextColumn("{task.description}"), TimeRemainingColumn(), console=console,
    )  # fmt: skip


class Notebook:
    """Bars and numbers inside a notebook, drawn by the browser; works in any that shows HTML (needs IPython)."""

    def __init__(self) -> None:
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        self._html = HTML
        self._display = display
        self._handle: Any = None
        self._title = ""
        self._rounds = 0
        self._accuracy: list[float] = []
        self._line: dict[str, Any] | None = None
        self._warnings: list[str] = []

    def begin(self, config: Experiment, round: int, folder: Path) -> None:
        self._title = f"{config.name}: {config.method['name']} on {config.data.dataset}"
        self._rounds = config.rounds
        self._accuracy = []
        self._line = None
        self._warnings = []
        self._handle = self._display(self._html(self._page(round, 0, 0)), display_id=True)

    def client(self, round: int, done: int, total: int) -> None:
        self._show(round - 1, done, total)

    def round(self, line: dict[str, Any]) -> None:
        self._accuracy.append(line["server_accuracy"])
        self._line = line
        self._warnings += troubles(line)
        self._show(line["round"], 0, 0)

    def probe(self, label: str, done: int, total: int, what: str) -> None: ...

    def end(self, lines: list[dict[str, Any]]) -> None: ...

    def warn(self, message: str) -> None:
        self._warnings.append(message)
        if self._handle is not None:
            self._show(self._line["round"] if self._line else 0, 0, 0)

    def close(self) -> None: ...

    def _show(self, round: int, done: int, total: int) -> None:
        if self._handle is not None:
            self._handle.update(self._html(self._page(round, done, total)))

    def _page(self, round: int, done: int, total: int) -> str:
        within = f", client {done} of {total}" if total else ""
        label = f"round {round} of {self._rounds}{within}"
        value = round + (done / total if total else 0)
        bar = f'<progress value="{value:.4g}" max="{self._rounds}" aria-label="{label}" style="width:20em"></progress>'
        parts = [f"<strong>{html.escape(self._title)}</strong>", f"{bar} {label}"]
        if self._line:
            told = f"{html.escape(numbers(self._line))}&ensp;"
            parts.append(f"{told}<span aria-hidden='true'>{sparks(self._accuracy)}</span>")
        parts += [f"warning: {html.escape(text)}" for text in self._warnings[-3:]]
        return "<div>" + "<br>".join(parts) + "</div>"


def sparks(values: list[float]) -> str:
    """Numbers as a row of eight heights, lowest to highest; at most the last 40."""
    shown = values[-40:]
    low, high = min(shown), max(shown)
    return "".join(" ▁▂▃▄▅▆▇█"[1 + round(7 * (v - low) / ((high - low) or 1))] for v in shown)


def default() -> Progress:
    """Bars in a notebook, else silence: a library call does not write to its caller's terminal unasked."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return Notebook() if running is not None and hasattr(running, "kernel") else Quiet()


def _clients(config: Experiment) -> str:
    many = f"{config.data.clients} client{'' if config.data.clients == 1 else 's'}"
    pooled = config.data.pooled or method(config.method["name"]).pooled
    return f"the data of {many} in one hand" if pooled else many
