"""The sweep file: methods x partitions x seeds in one TOML, dealt out into jobs.

A sweep file is an experiment file with a table ``[sweep]``. Its experiments come from ``sweep.base`` (one file or
several, relative to the sweep file), with the sweep file's own tables on top, then those of the partition, then those
of the method, then the command line's. docs/reference/sweeps.md shows one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from spikefed.errors import ConfigError
from spikefed.experiment import config as configs
from spikefed.experiment import wording
from spikefed.experiment.checks import check, check_idle
from spikefed.experiment.config import Experiment
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.tables import merge, override_key, read_tree
from spikefed.objects import check_keys, nearest

Axis = Literal["seeds", "partitions", "methods"]
LABEL = r"^[\w.+-]+$"


class Variant(BaseModel):
    """One entry of an axis: a label and the experiment tables that it lays on top."""

    model_config = ConfigDict(frozen=True, extra="allow")

    label: str = Field(pattern=LABEL)

    @property
    def tables(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Sweep(BaseModel):
    """The table ``[sweep]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="sweep", pattern=LABEL, description="name of the sweep")
    title: str | None = Field(default=None, description="heading of the report")
    base: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="experiment file(s) underneath, relative to this one"
    )
    seeds: list[StrictInt] = Field(default=[0], min_length=1, description="seeds of every combination")
    methods: list[Variant] = Field(default=[], description="variants with a label; default: each base file as it is")
    partitions: list[Variant] = Field(default=[], description="partitions with a label; default: that of the base")
    order: list[Axis] = Field(
        default=["seeds", "partitions", "methods"], description="axes from the slowest to the fastest"
    )


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Attributes:
        config: what runs.
        folder: where.
        file: the sweep or experiment file it comes from.
        labels: names by which ``--only`` picks it.
    """

    config: Experiment
    folder: RunFolder
    file: Path
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the run folder, ``LABEL-PARTITION-seedS``."""
        return self.folder.path.name

    def done(self) -> bool:
        """Whether the folder holds a result of at least as many rounds.

        Raises:
            CheckpointError: there is a result that cannot be read.
        """
        return self.folder.finished() and self.folder.read_result()["rounds"] >= self.config.rounds


def is_sweep(path: Path) -> bool:
    """Whether the file has a table ``[sweep]``."""
    return "sweep" in read_tree(path)


def read_sweep(path: Path) -> tuple[Sweep, dict[str, Any]]:
    """The table ``[sweep]`` and the experiment tables beside it.

    Raises:
        ConfigError: one sentence naming the key.
    """
    tree = read_tree(path)
    table = tree.pop("sweep")
    if not isinstance(table, dict):
        raise ConfigError(f"'sweep' in {path} must be a table ([sweep]), not {table!r}")
    check_keys(table, Sweep.model_fields, "sweep.", f" in {path}")
    try:
        sweep = Sweep.model_validate(table)
    except ValidationError as error:
        raise ConfigError(wording.of_sweep(error.errors()[0], str(path))) from error
    if sorted(sweep.order) != ["methods", "partitions", "seeds"]:
        raise ConfigError(f"'sweep.order' in {path} must name seeds, partitions and methods once each")
    for axis in ("methods", "partitions"):
        labels = [variant.label for variant in getattr(sweep, axis)]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice:
            raise ConfigError(f"'sweep.{axis}' in {path} has two entries labelled '{twice}'; give each its own label")
        for variant in getattr(sweep, axis):
            _refuse_given(variant.tables, f"entry '{variant.label}' of 'sweep.{axis}' in {path}")
    return sweep, tree


def jobs_of(
    files: Sequence[Path],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    only: Sequence[str] = (),
) -> list[Job]:
    """All jobs of experiment and sweep files, in order, each one validated.

    A job runs one thread where ``run.threads`` is left open: sums of more threads round otherwise, and the results of a
    comparison shall depend neither on the machine's cores nor on how many jobs run at a time.

    Args:
        files: experiment files (one job a seed) and sweep files.
        out: folder of the run folders.
        overrides: ``table.key=value`` texts on top of every job.
        seeds: instead of the seeds in the files.
        only: keep jobs with one of these labels (a method, a partition, both as ``LABEL-PARTITION``, a run folder).

    Raises:
        ConfigError: a bad file, override or label, two different experiments for one folder, or the folder of a run.
        CheckpointError: a folder holds a run of another config.
    """
    if (out / "config.toml").is_file():
        raise ConfigError(
            f"{out} is the folder of one run, and a comparison fills a folder with runs; name another with --out"
        )
    jobs: dict[Path, Job] = {}
    known: list[str] = []
    for path in files:
        found = _sweep_jobs(path, seeds, overrides) if is_sweep(path) else _file_jobs(path, seeds, overrides)
        for labels, tree, source in found:
            known += labels
            if only and not set(only) & set(labels):
                continue
            config = configs.validate(tree, source, overrides)
            if not config.run.threads:
                config = config.model_copy(update={"run": config.run.model_copy(update={"threads": 1})})
            folder = RunFolder(out / labels[-1])
            twin = jobs.get(folder.path)
            if twin is not None and twin.config.hash() != config.hash():
                raise ConfigError(
                    f"two different experiments are named '{config.name}' (the second is {source}), so both would go "
                    f"to {folder.path}; give each its own name or label"
                )
            check(config)
            if folder.exists():
                folder.check_same(config)
            else:
                check_idle(config)
            jobs.setdefault(folder.path, Job(config, folder, path, tuple(labels)))
    for label in only:
        if label not in known:
            raise ConfigError(f"no job is labelled '{label}'; the nearest label is '{nearest(label, known)}'")
    return list(jobs.values())


def _refuse_given(tree: dict[str, Any], where: str) -> None:
    """Name, label and seed of a sweep's jobs come from the sweep."""
    given = next((key for key in ("name", "label", "seed") if key in tree), None)
    if given is not None:
        instead = "'sweep.seeds' or --seeds" if given == "seed" else "the entry's 'label'"
        raise ConfigError(f"'{given}' in {where} would have no effect; use {instead}")


Found = Iterator[tuple[list[str], dict[str, Any], str]]  # labels (the run folder's name last), tables, source


def _file_jobs(path: Path, seeds: Sequence[int], overrides: Sequence[str]) -> Found:
    tree = configs.overridden(read_tree(path), overrides)
    name = str(tree.get("name", "experiment"))
    for seed in seeds or [tree.get("seed", 0)]:
        yield [name, f"{name}-seed{seed}"], merge(tree, {"seed": seed}), str(path)


def _sweep_jobs(path: Path, seeds: Sequence[int], overrides: Sequence[str]) -> Found:
    sweep, own = read_sweep(path)
    _refuse_given(own, f"the sweep {path}")
    _refuse_given(configs.overridden({}, overrides), f"--set for the sweep {path}")
    if any(override_key(text) == "preset" for text in overrides):
        raise ConfigError(
            f"'--set preset=...' would lie on top of every method of the sweep {path}; name the preset in its entries"
        )
    bases = [sweep.base] if isinstance(sweep.base, str) else sweep.base
    methods: list[tuple[str, dict[str, Any], dict[str, Any]]] = []  # label, tables underneath, tables on top
    for base in bases:
        below = read_tree(path.parent / base)
        if "sweep" in below:
            raise ConfigError(f"'sweep.base' in {path} names {base}, a sweep file itself; name an experiment file")
        name = str(below.get("name", Path(base).stem))
        tree = merge(below, own)
        if not sweep.methods:
            methods.append((name, tree, {}))
        for variant in sweep.methods:
            label = variant.label if len(bases) == 1 else f"{name}-{variant.label}"
            methods.append((label, tree, variant.tables))
    partitions = [(variant.label, variant.tables) for variant in sweep.partitions] or [("", {})]
    axes = {"seeds": list(seeds or sweep.seeds), "partitions": partitions, "methods": methods}
    for chosen in itertools.product(*(axes[axis] for axis in sweep.order)):
        at: dict[str, Any] = dict(zip(sweep.order, chosen, strict=True))
        seed = at["seeds"]
        partition, dealt = at["partitions"]
        label, below, above = at["methods"]
        name = f"{label}-{partition}" if partition else label
        tree = configs.overridden(merge(merge(below, dealt), above), overrides)
        tree |= {"name": name, "label": label, "seed": seed}
        labels = [label, *([partition, name] if partition else []), f"{name}-seed{seed}"]
        yield labels, tree, f"{path} ({name})"
