"""The files of the study of input codings: every job is valid, and none repeats another."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikefed.experiment import jobs_of

FOLDER = Path(__file__).parents[2] / "experiments" / "sweeps"
JOBS = {
    "coding-fashion-mnist": 3 * 3 * 5,
    "coding-mnist-paper": 2 * 3 * 5,
    "coding-cifar10": 2 * 3,
    "coding-cifar10-paper": 4 * 3 * 5,
    "coding-federated-digits": 4 * 4 * 3,
}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("coding-*.toml")))
def test_every_job_is_valid_and_none_repeats_another(name):
    jobs = jobs_of([FOLDER / f"{name}.toml"], Path("none"))
    assert len(jobs) == JOBS[name]
    assert len({job.config.hash() for job in jobs}) == len(jobs)
    assert all(job.config.probe_tables() for job in jobs)
