"""A probe on a model file that stands alone, without its run folder: what it is measured on has to be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from spikefed import data
from spikefed.errors import ConfigError, DataError
from spikefed.experiment import config as configs
from spikefed.experiment.dealing import sources, timed
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.models import load_model
from spikefed.experiment.probetables import ProbeTable
from spikefed.experiment.progress import Progress
from spikefed.federated.randomness import EVALUATE, generator, shared
from spikefed.models import Model
from spikefed.probes import Subject, files, run_probe


class TrainingPart(Sequence[Subject]):
    """The training part of the data set that was named, as of one client; taken when a probe asks for it.

    Its rows are mixed: where a file has its classes one after the other, a probe that takes the first so many would see
    few of them.
    """

    def __init__(self, train: data.ImageSet, model: Model) -> None:
        self._train = train
        self._model = model

    def __len__(self) -> int:
        return 1 if len(self._train) else 0

    def __getitem__(self, client: Any) -> Any:
        if isinstance(client, slice):
            return [self[number] for number in range(*client.indices(len(self)))]
        if client not in range(-len(self), len(self)):
            raise IndexError(client)
        draws = generator(self._model.facts.seed, EVALUATE, self._model.facts.round)
        held = self._train.subset(torch.randperm(len(self._train), generator=draws))
        return Subject(held.images, held.labels, self._model.preprocess, self._model.class_names)


def stands_alone(path: Path) -> bool:
    """Whether a path is a file, and not the model that a run folder around it ended with."""
    folder = RunFolder(path.parent)
    return path.is_file() and not (path.name == folder.model.name and folder.exists())


def folder_beside(path: Path) -> Path:
    """Where the results of a lone model file go: ``model.safetensors`` has ``model.probes``."""
    return path.with_suffix(".probes")


def probe_file(path: Path, table: ProbeTable, chosen: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Run one probe on a lone model file.

    Args:
        path: the model file.
        table: the probe and its settings.
        chosen: keys of the table ``[data]``: ``dataset``, and what else its test part needs.
        progress: told how far a long probe is.

    Returns:
        the probe's file, in `folder_beside`.

    Raises:
        ConfigError: no data set is named, or the probe cannot be run.
        DataError: data that are missing, or that the network does not take.
        CheckpointError: the model file cannot be read.
    """
    model = load_model(path)
    folder = folder_beside(path)
    subject = _subject(path, model, chosen)
    files.check_same(folder, table.label, table.name, table.probe.version, table.hyper.model_dump(mode="json"))
    tell: Any = getattr(progress, "probe", None)
    facts = model.facts
    draws = generator(facts.seed, EVALUATE, facts.round)  # as the run's own measure
    with shared(draws):
        found = run_probe(
            model.network,
            subject,
            table.probe,
            hyper=table.hyper.model_dump(exclude_unset=True),
            round=facts.round,
            seed=facts.seed,
            generator=draws,
            whose="server" if facts.client is None else f"client {facts.client}",
            train_bn=facts.batch_statistics,
            progress=lambda done, total, what: tell and tell(table.label, done, total, what),
            partial=files.partial_path(folder, table.label),
            name=table.name,
        )
    return files.read(files.add(folder, table.label, found))


def _subject(path: Path, model: Model, chosen: Mapping[str, Any]) -> Subject:
    """The test part of the data set that was named, if the network takes it, and its training part beside it."""
    if "dataset" not in chosen:
        raise ConfigError(
            f"{path} is a model file without its run folder, so name what to measure it on: add --set "
            "data.dataset=NAME (and --data-dir FOLDER), or give the run's folder"
        )
    facts = model.facts
    network = {key: value for key, value in facts.network.items() if value is not None}
    config = configs.from_tree({"network": network, "method": {"name": "local"}, "data": dict(chosen)})
    found = timed(config, sources(config))
    test = found.test
    if config.data.test_limit:
        test = data.limited(test, config.data.test_limit)
    if tuple(test.shape) != facts.input_shape or test.classes != facts.classes:
        raise DataError(
            f"'{config.data.dataset}' has {'x'.join(map(str, test.shape))} of {test.classes} classes, and the network "
            f"in {path} takes {'x'.join(map(str, facts.input_shape))} of {facts.classes}; name data like those that it "
            "was trained on"
        )
    return Subject(test.images, test.labels, model.preprocess, model.class_names, TrainingPart(found.train, model))
