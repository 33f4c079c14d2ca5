"""Running the jobs of a comparison: one after the other here, or several at a time in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from spikefed.errors import FolderBusyError, SpikefedError
from spikefed.experiment.preflight import EXPECTED, check_data, check_expected, check_folder, identity
from spikefed.experiment.progress import Progress, duration, size
from spikefed.experiment.run import run
from spikefed.experiment.sweep import Job

Say = Callable[[str], None]
POLL_S = 0.2
GRACE_S = 20.0
"""What an interrupted child may take to end before it is killed; everything it saved is whole either way."""
BUSY = "another process is running it"


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        error: why it has no result, in one sentence; None when it has one.
        busy: another process runs it at this moment.
    """

    job: Job
    error: str | None = None
    busy: bool = False


def run_jobs(
    jobs: Sequence[Job],
    parallel: int = 1,
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> list[Outcome]:
    """Run every job that has no result yet; one that fails does not stop the others.

    Args:
        jobs: what to run, in order.
        parallel: jobs at a time. 1: in this process. More: each in a process of its own, its output in
            ``OUT/logs/JOB.txt``.
        overrides: those that the jobs were made with (the processes make them again).
        progress: told of the rounds, with ``parallel`` = 1.
        say: told, in a line each, which job starts, ends or fails.

    Returns:
        one outcome a job, in the order of ``jobs``.

    Raises:
        ConfigError: the folder cannot be written, or the job of a child is no longer its parent's.
        DataError: a job's data set is not on this machine.
    """
    check_expected(jobs)
    ended = {job.name: outcome for job in jobs if (outcome := _known(job)) is not None}
    done = [outcome.job for outcome in ended.values() if outcome.error is None]
    if done:
        say(f"{len(done)} of {len(jobs)} jobs are done already{_longer(done)}")
    left = [job for job in jobs if job.name not in ended]
    check_data(left)
    for folder in dict.fromkeys(job.folder.path.parent for job in left):
        check_folder(folder)
    started = time.perf_counter()
    ran = 0
    for outcome in _here(left, progress) if parallel <= 1 else _beside(left, parallel, overrides, say):
        ended[outcome.job.name] = outcome
        ran = ran + 1
        waiting = len(jobs) - len(ended)
        rest = f", about {duration((time.perf_counter() - started) / ran * waiting)} left" if waiting else ""
        say(f"{len(ended)}/{len(jobs)} {_told(outcome)}{rest}")
    # Asked again: whoever was running a job at the time may have finished it since.
    return [(_known(job) or ended[job.name]) if ended[job.name].busy else ended[job.name] for job in jobs]


def _known(job: Job) -> Outcome | None:
    """How a job ended that has a result already, be it one that cannot be read."""
    try:
        return Outcome(job) if job.done() else None
    except SpikefedError as error:
        return Outcome(job, str(error))


def _longer(done: Sequence[Job]) -> str:
    rounds = {job.name: (job.folder.read_result()["rounds"], job.config.rounds) for job in done}
    longer = [f"{name} has {has}, not {asked}" for name, (has, asked) in rounds.items() if has > asked]
    if not longer:
        return ""
    return f", {len(longer)} with more rounds than asked for, which are kept: {', '.join(longer[:3])}"


def _told(outcome: Outcome) -> str:
    if outcome.busy:
        return f"left {outcome.job.name}: {BUSY}"
    if outcome.error is not None:
        return f"failed {outcome.job.name}: {outcome.error}"
    result = outcome.job.folder.read_result()
    return f"done {outcome.job.name}: accuracy {result['accuracy']:.4f}, up {size(result['upstream_bytes'])}"


def _here(jobs: Sequence[Job], progress: Progress | None) -> Iterator[Outcome]:
    for job in jobs:
        try:
            if not job.done():
                run(job.config, out=job.folder.path, resume=True, progress=progress)
            yield Outcome(job)
        except FolderBusyError:
            yield Outcome(job, BUSY, busy=True)
        except SpikefedError as error:
            yield Outcome(job, str(error))
        except Exception as error:  # a defect in one job shall not cost the night's others
            yield Outcome(job, f"{type(error).__name__}: {error}")


@dataclass
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int  # where this attempt's lines begin


def _beside(jobs: Sequence[Job], parallel: int, overrides: Sequence[str], say: Say) -> Iterator[Outcome]:
    waiting = list(jobs)
    children = list[_Child]()
    with _terminate_as_interrupt():
        try:
            while waiting or children:
                while waiting and len(children) < parallel:
                    job = waiting.pop(0)
                    # Looked at now, not at the start: another process may have taken it, or finished it, since.
                    if (known := _known(job)) is not None:
                        yield known
                    elif job.folder.busy():
                        yield Outcome(job, BUSY, busy=True)
                    else:
                        try:
                            children.append(_start(job, overrides))
                        except OSError as error:
                            yield Outcome(job, f"it cannot be started ({error}); free what is in the way, then repeat")
                        else:
                            say(f"start {job.name}")
                for child in [c for c in children if c.process.poll() is not None]:
                    children.remove(child)
                    yield _outcome(child)
                time.sleep(POLL_S if children else 0)
        finally:
            _stop(children)


def _start(job: Job, overrides: Sequence[str]) -> _Child:
    """The command line with this one job: what the run folder then records is the command that repeats it."""
    settings = [word for text in overrides for word in ("--set", text)]
    out = job.folder.path.parent
    command = [sys.executable, "-m", "spikefed", "compare", str(job.file), "--out", str(out), "--only", job.name,
               "--seeds", str(job.config.seed), "--no-report", *settings]  # fmt: skip
    log = out / "logs" / f"{job.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        log_start = file.tell()
        # A session of its own: Ctrl-C reaches this process alone, which then ends its children in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {EXPECTED: identity(job)},
        )  # fmt: skip
    return _Child(job, process, log, log_start)


def _outcome(child: _Child) -> Outcome:
    job = child.job
    code = child.process.returncode
    if code == 0 and (known := _known(job)) is not None:
        return known
    if job.folder.busy():
        return Outcome(job, BUSY, busy=True)
    with open(child.log, encoding="utf-8", errors="replace") as file:
        file.seek(child.log_start)
        said = [line.strip() for line in file if line.startswith("error: ")]
    if said:
        return Outcome(job, said[0].removeprefix("error: ").removeprefix(f"{job.name}: "))
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Outcome(job, f"its process ended with {how}; see {child.log}")


def _stop(children: Sequence[_Child]) -> None:
    """Interrupt what still runs, and wait; kill what does not end."""
    for child in children:
        child.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_S
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """A polite ``kill`` ends the children too, like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
