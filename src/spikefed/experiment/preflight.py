"""What is looked at once before the first job of a comparison starts: its folder, its data, its files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from spikefed.data import EVENT_SETS, is_made
from spikefed.data.catalogue import dataset_info
from spikefed.data.locate import locate
from spikefed.errors import ConfigError
from spikefed.experiment.sweep import Job
from spikefed.objects import is_own

EXPECTED = "SPIKEFED_EXPECTED_JOB"
"""Environment variable by which a child learns the `identity` of its job; the recorded command stays free of it."""


def check_data(jobs: Sequence[Job]) -> None:
    """Look for the files of every job's data sets, once for all jobs that share them.

    Raises:
        DataError: one is not here; the text says how to get it.
    """
    for table in {job.config.data.model_dump_json(): job.config.data for job in jobs}.values():
        wanted = [(table.dataset, "train"), (table.dataset, "test"), (table.public_dataset or table.dataset, "train")]
        for name, split in wanted:
            info = None if is_own(name) or is_made(name) or name in EVENT_SETS else dataset_info(name)
            if info is not None and info.forms:  # the embedded set has no files
                locate(info, split, table.dir)


def check_folder(folder: Path) -> None:
    """Make the folder of a comparison, where it is missing, and try whether it can be written.

    Raises:
        ConfigError: it is a file, or the system refuses.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"folder {folder} cannot be written ({error.strerror or error}); choose another --out"
        ) from error


def identity(job: Job) -> str:
    """SHA-256 of every setting of a job."""
    return hashlib.sha256(json.dumps(job.config.resolved(), sort_keys=True).encode()).hexdigest()


def check_expected(jobs: Sequence[Job]) -> None:
    """In a child: refuse a job that is not the one its parent has validated.

    Raises:
        ConfigError: the files were changed after the comparison began.
    """
    expected = os.environ.pop(EXPECTED, None)
    for job in jobs if expected is not None else ():
        if identity(job) != expected:
            raise ConfigError(
                f"{job.file}, or a file underneath, has changed since the comparison began; repeat the command to run "
                "the job as the file has it now"
            )
