"""Several experiments, each run or taken up where it stopped, then one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spikefed.errors import ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment.config import Experiment
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.progress import Progress
from spikefed.experiment.run import run


def run_missing(
    files: Sequence[Path],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    progress: Progress | None = None,
) -> list[Path]:
    """Run every experiment that has no result under ``out`` yet, one folder each (``NAME-seedS``).

    Args:
        files: experiment files.
        overrides: applied to each.
        seeds: run each file once for every seed; default: the seed in the file.

    Returns:
        run folders, in the order files x seeds.

    Raises:
        SpikefedError: as `run`; all files are validated before the first run starts.
    """
    jobs: list[tuple[Experiment, RunFolder]] = []
    for path in files:
        for seed in seeds or [None]:
            config = configs.load(path, [*overrides, *([] if seed is None else [f"seed={seed}"])])
            folder = RunFolder(out / f"{config.name}-seed{config.seed}")
            if folder.exists():
                folder.check_same(config)
            twin = next((other for other, place in jobs if place.path == folder.path), None)
            if twin is not None and twin.hash() != config.hash():
                raise ConfigError(
                    f"two different experiments are named '{config.name}' (the second is {path}), so both would go to "
                    f"{folder.path}; give each file its own 'name'"
                )
            if twin is None:
                jobs.append((config, folder))
    for config, folder in jobs:
        done = folder.finished() and folder.read_json(folder.result)["rounds"] >= config.rounds
        if not done:
            run(config, out=folder.path, resume=True, progress=progress)
    return [folder.path for _, folder in jobs]
