"""TensorBoard event files of a run, for those who keep all their experiments there (extra ``tensorboard``)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from spikefed.errors import ReportError
from spikefed.federated.takehome import KEYS
from spikefed.report.runs import Run, load_run, number

SCALARS = {
    "server/accuracy": "server_accuracy",
    "server/loss": "server_loss",
    **{f"take_home/{key}": key for key in KEYS},
    "bytes/upstream": "upstream_bytes",
    "bytes/upstream_total": "upstream_bytes_total",
    "bytes/downstream": "downstream_bytes",
    "bytes/downstream_total": "downstream_bytes_total",
    "bytes/algorithm_2_upstream_total": "paper_upstream_bytes_total",
    "bytes/text_upstream_total": "text_upstream_bytes_total",
}
CLIENT_SCALARS = ("accuracy", "test_accuracy", "weight", "train_loss", "distil_loss", "firing_rate")


def write_events(run: Path | str | Run, logdir: Path | str | None = None) -> Path:
    """Write the rounds of a run as TensorBoard scalars; the step is the round.

    Event files from an earlier call in the same folder are replaced, so calling it again after more rounds is safe.

    Args:
        run: run folder, finished or in progress.
        logdir: where to write; default ``RUN/tensorboard``.

    Returns:
        the folder to give to ``tensorboard --logdir``.

    Raises:
        ReportError: the folder is no run, or the tensorboard package is missing.
    """
    run = run if isinstance(run, Run) else load_run(run)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ReportError(
            "TensorBoard files need the tensorboard package; run: pip install 'spikefed[tensorboard]'"
        ) from error
    folder = Path(logdir) if logdir is not None else run.folder / "tensorboard"
    for old in folder.glob("events.out.tfevents.*") if folder.is_dir() else ():
        old.unlink()
    clock = _started(run)
    with SummaryWriter(str(folder)) as writer:
        for entry in run.rounds:
            clock += number((entry.get("seconds") or {}).get("round")) or 0.0
            for tag, value in scalars(entry):
                writer.add_scalar(tag, value, entry["round"], walltime=clock)
    return folder


def scalars(entry: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Tag and value of every number that one round's metrics hold."""
    for tag, key in SCALARS.items():
        if (value := number(entry.get(key))) is not None:
            yield tag, value
    for client in entry.get("clients") or []:
        for key in CLIENT_SCALARS:
            if (value := number(client.get(key))) is not None:
                yield f"clients/{key}/{client.get('client')}", value
    for group in ("firing_rates", "seconds", "diagnostics"):
        for name, raw in (entry.get(group) or {}).items():
            if (value := number(raw)) is not None:
                yield f"{group}/{name}", value
    yield "clients/dropped", float(len(entry.get("dropped") or []))


def _started(run: Run) -> float:
    """Start of the run in seconds since 1970; 0 when the files do not tell."""
    try:
        return datetime.fromisoformat(str(run.provenance["started"])).timestamp()
    except (KeyError, ValueError):
        return 0.0
