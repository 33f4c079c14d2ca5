"""Where a run begins: the trained network that ``network.start`` names.

That is a run's folder, ``RUN@ROUND`` for a checkpoint that is still there, or a model file. A run keeps a copy in its
own folder, so that it can be resumed, and its clients reset, when the other is gone.
"""

from __future__ import annotations

from pathlib import Path

from spikefed import data
from spikefed.errors import CheckpointError
from spikefed.experiment.checkpointed import read_checkpoint, split_round
from spikefed.experiment.config import Experiment
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.rebuild import Make, resolved_network
from spikefed.experiment.start import Start, fitted_start, otherwise
from spikefed.files import counted_from
from spikefed.models import ModelFacts, model_file, read_model
from spikefed.networks import NamedTensors, copy_tensors

GIVE = "give a run's folder, RUN@ROUND, or a model.safetensors"


def read_start(config: Experiment, train: data.ImageSet, make: Make, copy: Path | None = None) -> Start | None:
    """What ``network.start`` names, fitted to this experiment's network; None without the key.

    Args:
        config: the experiment.
        train: its shape and classes are the network's.
        make: builds the experiment's network for so many classes.
        copy: read this model file in its place.

    Raises:
        ConfigError: a network, an input or tensors that do not fit.
        CheckpointError: no model file or checkpoint is there, or a damaged one.
    """
    named = config.network.start
    if named is None:
        return None
    found, facts, content = trained(Path(named)) if copy is None else _of_file(copy)
    tensors, new = fitted_start(named, found, facts, config, train.shape, train.names, make)
    pruned = tuple(name for name in found.kept if name in tensors)
    frozen = bool(config.network.adapters.kinds)  # else training adapts the weights to what computes otherwise
    other = otherwise(facts, config, resolved_network(config)["neuron"] or {}) if frozen else ()
    return Start(tensors, new, pruned, facts, named if copy is None else str(copy), content, other)


def trained(path: Path) -> tuple[NamedTensors, ModelFacts, bytes]:
    """Tensors, facts and model file of a trained network: that of a file, a finished run, or a round's checkpoint.

    Raises:
        CheckpointError: there is none, or a damaged one.
    """
    name, at, _ = str(path).rpartition("@")
    if not path.exists() and not (at and Path(name).exists()):
        raise CheckpointError(f"network.start = '{path}' does not exist{counted_from(path)}; {GIVE}")
    place, round = split_round(path)
    folder = RunFolder(place)
    if place.is_file() and round is None:
        return _of_file(place)
    if place.is_file():
        raise CheckpointError(f"network.start = '{path}': {place} holds one network; leave @{round} out")
    if not folder.exists():
        raise CheckpointError(f"network.start = '{path}' is no run folder (it has no config.toml); {GIVE}")
    if round is not None:
        return _of_checkpoint(folder, round, str(path))
    if not folder.model.is_file():
        raise CheckpointError(
            f"the run in {path} has no model file yet; finish it with --resume, then begin from it, or name a round "
            f"whose checkpoint it has, such as {path}@1"
        )
    return _of_file(folder.model)


def _of_file(path: Path) -> tuple[NamedTensors, ModelFacts, bytes]:
    return *read_model(path), path.read_bytes()


def _of_checkpoint(folder: RunFolder, round: int, named: str) -> tuple[NamedTensors, ModelFacts, bytes]:
    model, mask = read_checkpoint(folder, round, None, source=named)
    kept = dict(mask.kept) if mask else {}
    content = model_file(model.network, model.facts, kept)
    return NamedTensors(copy_tensors(model.network), kept), model.facts, content
