"""Synthetic images of a run: from its network alone, kept beside it, made anew only for another network or plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikefed.data import SynthesisPlan, SyntheticSet, synthesise
from spikefed.data.sheet import sheet
from spikefed.errors import CheckpointError, ConfigError
from spikefed.experiment.models import load_model
from spikefed.files import write_atomic
from spikefed.models import Model
from spikefed.probes.run import weights_sha256

NAME = "synthetic.safetensors"
"""Of the file in a run folder."""


def synthesise_run(
    run: Path | str,
    plan: SynthesisPlan,
    *,
    client: int | None = None,
    out: Path | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, SyntheticSet]:
    """Make images from the network of a run or a model file, or find those that were made so before.

    Args:
        run: run folder, RUN@ROUND, or a model file.
        plan: how.
        client: this client's network instead of the server's.
        out: file to write; default ``RUN/synthetic.safetensors``, of a model file ``NAME.synthetic.safetensors``.
        tell: told how many images are done, and of how many.

    Raises:
        CheckpointError: no such run.
        ConfigError: a network that no images can be made from, a plan that is none, or a file that cannot be written.
    """
    plan.check()
    if out is not None:
        check_place(out)
    model = load_model(run, client=client)
    path = out or place_of(run, client)
    return path, synthesised(model, plan, path, tell)


def synthesised(
    model: Model, plan: SynthesisPlan, path: Path, tell: Callable[[int, int], None] = lambda done, total: None
) -> SyntheticSet:
    """The images in a file if this network and plan made them; else they are made and written, with a sheet beside.

    Args:
        model: the network.
        plan: how.
        path: the file.
        tell: as in `synthesise_run`.
    """
    facts = model.facts
    if facts.values != "pixels" or facts.timed:
        raise ConfigError("synthetic images have pixels, and this network takes other data; use one of images")
    wanted: dict[str, Any] = {"network_sha256": weights_sha256(model.network), **asdict(plan), "seed": facts.seed}
    if path.is_file():
        try:
            found = SyntheticSet.load(path)
        except CheckpointError:  # cut short; what is made from a network can be made again
            found = None
        if found is not None and all(found.provenance.get(key) == value for key, value in wanted.items()):
            return found
    made = synthesise(
        model.network,
        plan,
        shape=model.input_shape,
        classes=facts.classes,
        preprocess=model.preprocess,
        seed=facts.seed,
        provenance={**wanted, "experiment": facts.experiment, "method": facts.method, "round": facts.round},
        tell=tell,
    )
    try:
        made.save(path)
        write_atomic(path.with_suffix(".png"), sheet(made.images, made.labels, facts.classes))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}); choose another place") from error
    return made


def check_place(path: Path) -> None:
    """Raise ConfigError for a folder, and for a file in whose place the sheet of pictures would come."""
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder; name a file in it, such as {path / NAME}")
    if path.suffix == ".png":
        raise ConfigError(
            f"--out {path} is where the sheet of pictures goes, not the images; say {path.with_suffix('.safetensors')}"
        )


def place_of(run: Path | str, client: int | None) -> Path:
    """Where the images of a run or model file go."""
    path = Path(run)
    if path.is_file():
        return path.with_suffix(f".{NAME}")
    folder, at, round = str(run).rpartition("@")
    inside = path if path.is_dir() else Path(folder)
    told = ("" if path.is_dir() else f"-round{round}") + ("" if client is None else f"-client{client}")
    return inside / f"synthetic{told}.safetensors"
