"""Read a run folder: what `experiment` wrote, whole or still growing, becomes a `Run`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikefed.errors import ReportError
from spikefed.report.closing import curve_rounds, fill_rounds, ledger_faults
from spikefed.report.matrices import stage_rows
from spikefed.report.notebook import run_html
from spikefed.report.probefiles import frame_rows, read_probes
from spikefed.report.tidy import number, tidy

if TYPE_CHECKING:
    import pandas

EVIDENCE = ("metrics.jsonl", "result.json", "config.toml")  # any one of them makes a folder a run


@dataclass(frozen=True)
class Run:
    """One run, as far as its files tell.

    Attributes:
        folder: the run folder, or the single result file that was read.
        config: the resolved config, empty when the folder has none.
        provenance: versions, hardware, seed, command, start and end time; empty when there is none.
        rounds: one mapping a finished round, in rising order of ``"round"``; a resumed run's later line wins.
        result: the closing summary, None while the run is in progress.
        problems: one sentence for each thing that could not be read, or in which the files contradict each other;
            ``troubles`` has those of the files that are read on first use, too.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    problems: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the run wrote its closing summary."""
        return self.result is not None

    @property
    def name(self) -> str:
        return str(self._told("name") or self.folder.stem)

    @property
    def method(self) -> str:
        """The method's registered name, such as ``"fsd"``; ``"unknown"`` when no file tells."""
        return str(self._told("method") or "unknown")

    @property
    def method_title(self) -> str | None:
        """What an own method calls itself in tables; None where it does not say, and for methods of this project."""
        return _text(self.provenance.get("method_title"))

    @property
    def label(self) -> str | None:
        """What tables call the run, where its experiment or sweep file says so; None where that is its method."""
        label = _text(self._told("label"))
        return None if label == self.method else label

    @property
    def preset(self) -> str | None:
        return _text(self._told("preset") or _inside(self.config, "method", "preset"))

    @property
    def dataset(self) -> str:
        return str(self._told("dataset") or _inside(self.config, "data", "dataset") or "unknown")

    @property
    def partition(self) -> str | None:
        """How the data were dealt to the clients, ``"dirichlet-0.1"`` for instance."""
        value = _inside(self.config, "data", "partition")
        alpha = number(_inside(self.config, "data", "alpha"))
        if value == "dirichlet" and alpha is not None:
            return f"dirichlet-{alpha:g}"  # as the result file has it, but there already while the run goes on
        return _text(value or self._told("partition"))

    @property
    def network(self) -> str | None:
        return _text(self._told("network"))

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, where the data have names for them."""
        told = (self.result or {}).get("class_names")
        return [str(name) for name in told] if isinstance(told, list) and told else None

    @property
    def seed(self) -> int | None:
        value = self._told("seed")
        value = self.provenance.get("seed") if value is None else value
        return value if isinstance(value, int) else None

    @property
    def targets(self) -> list[float]:
        """Accuracies the byte table was asked for, by the result or else the experiment file; often none."""
        wanted = _inside(self.config, "run", "targets")
        known = [number(t) for t in wanted] if isinstance(wanted, list) else []
        told = (self.result or {}).get("targets")
        if isinstance(told, dict) and told:
            known = [_parsed(t) for t in told]
        return [t for t in known if t is not None and 0 < t <= 1]

    @property
    def seconds(self) -> float | None:
        """Computing time of all rounds; None when no round tells."""
        told = [e["seconds"] for e in self.rounds if isinstance(e.get("seconds"), dict)]
        known = [value for seconds in told if (value := number(seconds.get("round"))) is not None]
        return sum(known) if known else None

    @property
    def command(self) -> str | None:
        """The command line that made the run."""
        value = self.provenance.get("command")
        return " ".join(map(str, value)) if isinstance(value, list) else _text(value)

    @cached_property
    def ledger(self) -> list[dict[str, Any]]:
        """One mapping a message, read on first use (a torn line is left out, and named in ``troubles``)."""
        return _json_lines(self.folder / "ledger.jsonl", self._late_problems)

    @cached_property
    def energy(self) -> dict[str, Any] | None:
        """What an image costs the finished network by published models (``energy.json``); None without the file."""
        return _json(self.folder / "energy.json", self._late_problems)

    @cached_property
    def probes(self) -> dict[str, dict[str, Any]]:
        """What each probe left (``probes/LABEL.json``), by label; a run's ``energy.json`` counts as one."""
        return read_probes(self.folder, self.energy, self._late_problems)

    @cached_property
    def _late_problems(self) -> list[str]:
        return []

    @cached_property
    def troubles(self) -> tuple[str, ...]:
        """``problems`` with those of the ledger, of ``energy.json`` and of the probes, which this reads."""
        messages = self.ledger
        _ = self.probes  # reading them, and with the probes the energy, fills the late problems
        told = self.result is not None and (self.folder / "ledger.jsonl").is_file()
        faults = ledger_faults(messages, self.result or {}) if told else []
        return (*self.problems, *self._late_problems, *faults)

    def metrics_frame(self) -> pandas.DataFrame:
        """One row a round: every plain number of ``metrics.jsonl``, timings as ``seconds.<what>``. Needs pandas."""
        rows = []
        for entry in self.rounds:
            row = {k: v for k, v in entry.items() if not isinstance(v, list | dict)}
            seconds = entry.get("seconds")
            row.update({f"seconds.{k}": v for k, v in (seconds if isinstance(seconds, dict) else {}).items()})
            rows.append(row)
        return _frame(rows)

    def clients_frame(self) -> pandas.DataFrame:
        """One row a client and round: accuracy, weight, losses, firing rate. Needs pandas."""
        return _frame([{"round": e.get("round"), **c} for e in self.rounds for c in e.get("clients") or []])

    def stages_frame(self) -> pandas.DataFrame:
        """One row a stage and task: accuracy with the task ``known`` and ``unknown``; empty without stages."""
        return _frame(stage_rows(self.result))

    def ledger_frame(self) -> pandas.DataFrame:
        """One row a message. Needs pandas."""
        return _frame(self.ledger)

    def probe_frame(self, label: str, part: str | None = None) -> pandas.DataFrame:
        """One row a record and round of one probe. Needs pandas.

        Args:
            label: of the probe, see `probes`.
            part: rows of this part alone, where a probe gives several tables.

        Raises:
            ReportError: the run has no such probe.
        """
        if label not in self.probes:
            known = ", ".join(self.probes) or "none"
            raise ReportError(
                f"run {self.folder} has no probe '{label}' (it has {known}); make it with: "
                f"spikefed probe {self.folder} {label}"
            )
        return _frame(frame_rows(self.probes[label], part))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return run_html(self)

    def _told(self, key: str) -> Any:
        """What the result, else the config says of ``key``; a config table stands for its ``name``."""
        for source in (self.result or {}, self.config):
            value = source.get(key)
            if isinstance(value, dict):
                value = value.get("name")
            if value is not None:
                return value
        return None


def load_run(path: Path | str) -> Run:
    """Read a run folder, or a single result JSON file.

    A run in progress, a missing optional file and a torn last line (the writer died, or is writing right now) are
    no errors: what can be read is read, and ``Run.problems`` names the rest.

    Raises:
        ReportError: the path does not exist, or holds none of the files that make it a run.
    """
    path = Path(path)
    if not path.exists():
        raise ReportError(f"run folder '{path}' does not exist; give the folder that 'spikefed run' printed")
    if path.is_file():
        return _load_result_file(path)
    if not is_run(path):
        below = [run.relative_to(path).as_posix() for run in runs_below(path)]
        several = f"; it holds runs, such as '{path / below[0]}'" if below else ""
        raise ReportError(
            f"'{path}' is no run folder: it has neither {EVIDENCE[0]} nor {EVIDENCE[1]} nor {EVIDENCE[2]}{several}; "
            "give the folder that 'spikefed run' printed"
        )
    problems: list[str] = []
    rounds: dict[int, dict[str, Any]] = {}
    for entry in _json_lines(path / "metrics.jsonl", problems):
        if isinstance(entry.get("round"), int) and not isinstance(entry["round"], bool):
            rounds[entry["round"]] = tidy(entry, problems)
        else:
            problems.append("a line of metrics.jsonl has no round number and was left out")
    result = _json(path / "result.json", problems)
    if result is not None:
        fill_rounds(rounds, result, problems)
    return Run(
        folder=path,
        config=_toml(path / "config.toml", problems),
        provenance=_json(path / "provenance.json", problems) or {},
        rounds=[rounds[number] for number in sorted(rounds)],
        result=result,
        problems=tuple(problems),
    )


def is_run(path: Path) -> bool:
    """Whether the folder holds a run, whole or just begun."""
    return any((path / name).is_file() for name in EVIDENCE)


def runs_below(folder: Path, depth: int = 3) -> list[Path]:
    """Run folders in ``folder`` or at most ``depth`` folders below it, by name; none inside another."""
    if is_run(folder):
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [run for path in inside for run in runs_below(path, depth - 1)]


def load_runs(paths: Sequence[Path | str]) -> list[Run]:
    """Read runs; a folder of several, as ``spikefed compare --out`` leaves, stands for all of them.

    Raises:
        ReportError: as `load_run`.
    """
    found: dict[Path, Run] = {}
    for path in map(Path, paths):
        inside = [load_run(place.resolve()) for place in runs_below(path) or [path]]
        # In the order they were started, which is that of the comparison's methods; by name where the files are mute.
        inside.sort(key=lambda run: str(run.provenance.get("started") or ""))
        for run in inside:
            found.setdefault(run.folder, run)
    return list(found.values())


def _load_result_file(path: Path) -> Run:
    problems: list[str] = []
    result = _json(path, problems)
    if result is None or not isinstance(result.get("curve"), list):
        raise ReportError(f"'{path}' is no result file: it has no 'curve'; give a run folder or its result.json")
    config = result.get("config")
    provenance = result.get("provenance")
    return Run(
        path,
        config if isinstance(config, dict) else {},
        provenance if isinstance(provenance, dict) else {},
        curve_rounds(result),
        result,
        tuple(problems),
    )


def _json_lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    out = []
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            out.append(entry)
        else:
            where = "the last line" if place == len(lines) else f"line {place}"
            problems.append(f"{where} of {path.name} is torn and was left out")
    return out


def _json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        value = None
    if isinstance(value, dict):
        return value
    problems.append(f"{path.name} cannot be read and was left out")
    return None


def _toml(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        problems.append("config.toml is missing, so runs are told apart by their names only")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        problems.append("config.toml cannot be read and was left out")
        return {}


def _inside(mapping: Mapping[str, Any], *keys: str) -> Any:
    value: Any = mapping
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _parsed(text: Any) -> float | None:
    """The number that a key of a JSON mapping writes, or None."""
    try:
        return number(float(text))
    except (TypeError, ValueError):
        return None


def _frame(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    try:
        import pandas
    except ImportError as error:
        raise ReportError("data frames need pandas, which is not installed; run: pip install pandas") from error
    return pandas.DataFrame(rows)
