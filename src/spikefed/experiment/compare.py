"""Several experiments or a whole sweep, each run or taken up where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spikefed.errors import UnfinishedError
from spikefed.experiment.jobs import Outcome, Say, run_jobs
from spikefed.experiment.progress import Progress
from spikefed.experiment.sweep import jobs_of


def compare(
    files: Sequence[Path],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    only: Sequence[str] = (),
    jobs: int = 1,
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> list[Outcome]:
    """Run every job that has no result under ``out`` yet, one folder each.

    Args:
        files: experiment files (folder ``NAME-seedS``) and sweep files (``LABEL-PARTITION-seedS``).
        overrides: applied to each.
        seeds: run each combination once for every seed; default: the seeds in the files.
        only: labels of the jobs to keep; default all.
        jobs: jobs at a time, see `run_jobs`.

    Returns:
        how each job ended, in the order of the files.

    Raises:
        SpikefedError: a file that cannot be used; every job is validated before the first starts.
    """
    found = jobs_of(files, out, overrides=overrides, seeds=seeds, only=only)
    return run_jobs(found, jobs, overrides=overrides, progress=progress, say=say)


def run_missing(
    files: Sequence[Path],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    progress: Progress | None = None,
    jobs: int = 1,
) -> list[Path]:
    """`compare`, as run folders.

    Args:
        files: experiments and sweeps.
        out: folder of the comparison.
        overrides: ``KEY=VALUE`` settings for all.
        seeds: run each experiment once with each of these.
        progress: who is told of rounds.
        jobs: how many run at a time.

    Raises:
        SpikefedError: as `compare`, and at the end when a job failed.
    """
    outcomes = compare(files, out, overrides=overrides, seeds=seeds, jobs=jobs, progress=progress)
    check_finished(outcomes)
    return [outcome.job.folder.path for outcome in outcomes]


def check_finished(outcomes: Sequence[Outcome], tell: Say | None = None) -> None:
    """Raise UnfinishedError unless every job has a result.

    Args:
        tell: gets one line a failed job; without it the error's text holds the first reason.
    """
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if not failed:
        return
    reasons = [f"{outcome.job.name}: {outcome.error}" for outcome in failed]
    for reason in reasons:
        if tell is not None:
            tell(reason)
    count = f"{len(failed)} of {len(outcomes)} jobs {'has' if len(failed) == 1 else 'have'} no result"
    first = "" if tell is not None else f" ({reasons[0]})"
    raise UnfinishedError(f"{count}{first}; repeat the command to go on from there")
