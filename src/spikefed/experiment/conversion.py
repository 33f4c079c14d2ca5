"""A finished run's ANN twin as a spiking network: calibration images, the model file, what it is worth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from spikefed.conversion import Conversion, Recipe, check_wanted, convert
from spikefed.data import SynthesisPlan, SyntheticSet, normed_layers
from spikefed.errors import CheckpointError, ConfigError, DataError
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.models import load_model
from spikefed.experiment.rebuild import neuron_table
from spikefed.experiment.synthesis import NAME, synthesised
from spikefed.files import write_atomic
from spikefed.models import Model, ModelFacts, model_file
from spikefed.networks.layers import SpikingLayer
from spikefed.probes.run import weights_sha256
from spikefed.training import evaluate

Calibrate = Literal["train", "public", "synthetic"]
CALIBRATIONS = ("train", "public", "synthetic")


@dataclass(frozen=True)
class ConversionPlan:
    """What a conversion is told.

    Attributes:
        steps: T.
        calibrate: whose images set the thresholds: the clients' (all together), the public set's, or none of anybody's
            (`spikefed.experiment.synthesis`).
        recipe: see `spikefed.conversion`.
        images: of the calibration set, drawn from it by the run's seed.
        compensate: take mean errors out of biases.
    """

    steps: int = 8
    calibrate: Calibrate = "train"
    recipe: Recipe = "local"
    images: int = 512
    compensate: bool = True

    def check(self) -> None:
        """Raise ConfigError for a number or word that is none."""
        check_wanted(self.steps, self.recipe)
        if self.calibrate not in CALIBRATIONS:
            raise ConfigError(f"calibration on '{self.calibrate}' is not known; use one of {', '.join(CALIBRATIONS)}")
        if self.images < 1:
            raise ConfigError(f"{self.images} calibration images were asked for; take at least 1, better some hundred")


def convert_run(
    run: Path | str,
    plan: ConversionPlan,
    *,
    out: Path | None = None,
    data_dir: Path | str | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Convert the network that a finished run left, keep it, and measure both on the run's test set.

    Args:
        run: run folder of an ANN twin, or RUN@ROUND.
        plan: what is wanted.
        out: model file to write; default ``RUN/converted/RECIPE-CALIBRATION-T8.safetensors``.
        data_dir: folder of the data files; default: where the run found them.
        tell: told what it does.

    Returns:
        path, accuracy of both networks, thresholds and errors by layer.

    Raises:
        ConfigError: a network that cannot be converted, or settings that are none.
        CheckpointError: no such run.
        DataError: the data set is not on this machine, or has no images for the calibration.
    """
    plan.check()
    model = load_model(run)
    folder = folder_of(run)
    federation = federation_of(folder, data_dir)
    if model.facts.timed:
        raise ConfigError(f"{run} takes data with time steps of their own, and an ANN has one; convert one of images")
    pixels = calibration_images(plan, folder, federation, model, tell)
    done = convert(
        model.network,
        model.preprocess(pixels),
        steps=plan.steps,
        recipe=plan.recipe,
        compensate=plan.compensate,
    )
    facts = converted_facts(model.facts, done, plan, len(pixels))
    path = out or folder.path / "converted" / f"{_stem(run, plan)}.safetensors"
    write_model(path, done, facts)
    accuracy = {"ann": accuracy_of(model, federation), "snn": accuracy_of(load_model(path), federation)}
    return {
        "path": str(path),
        **dataclasses.asdict(plan),
        "images": len(pixels),
        "ann_accuracy": accuracy["ann"],
        "snn_accuracy": accuracy["snn"],
        "layers": layer_rows(done),
    }


def _stem(run: Path | str, plan: ConversionPlan) -> str:
    """Name of the file: how it was converted, and from which round where that is not the run's last word."""
    _, at, round = str(run).rpartition("@")
    of_round = f"-round{round}" if at and not Path(run).exists() else ""
    return f"{plan.recipe}-{plan.calibrate}-T{plan.steps}{of_round}"


def folder_of(run: Path | str) -> RunFolder:
    """The run folder that ``RUN`` or ``RUN@ROUND`` means. Raises CheckpointError for a lone model file."""
    path = Path(run) if Path(run).exists() else Path(str(run).rpartition("@")[0])
    folder = RunFolder(path.parent if path.is_file() else path)
    if not folder.exists():
        raise CheckpointError(
            f"{run} is a model file without its run folder, which says where calibration images come from; give the "
            "folder that 'spikefed run' made"
        )
    return folder


def federation_of(folder: RunFolder, data_dir: Path | str | None) -> Federation:
    """Data and objects of the run in a folder."""
    place = [] if data_dir is None else [f"data.dir={json.dumps(str(data_dir))}"]
    return build(configs.load(folder.config, place), start=folder.own_start())


def calibration_images(
    plan: ConversionPlan, folder: RunFolder, federation: Federation, model: Model, tell: Callable[[str], None]
) -> Tensor:
    """Images ``[n, C, H, W]`` as the data set has them.

    Args:
        plan: which, and how many.
        folder: of the run.
        federation: its data.
        model: its network, which synthetic images are made from.
        tell: told what it does.

    Raises:
        DataError: there are none.
    """
    if plan.calibrate == "synthetic":
        return _synthetic(plan, folder, model, tell)
    if plan.calibrate == "public":
        there = federation.split.public_images
    else:
        rows = torch.cat([client.train for client in federation.split.clients])
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(federation.config.seed))
        there = federation.train.images[rows[order[: plan.images]]]
    if not len(there):
        raise DataError(f"the {plan.calibrate} set has no images to calibrate on; use another with --calibrate")
    return there[: plan.images]


def _synthetic(plan: ConversionPlan, folder: RunFolder, model: Model, tell: Callable[[str], None]) -> Tensor:
    """Those that `spikefed synthesise` left of this very network, if there are enough; else new ones."""
    path = folder.path / NAME
    if path.is_file():
        found = SyntheticSet.load(path)
        if found.provenance.get("network_sha256") == weights_sha256(model.network) and len(found) >= plan.images:
            tell(f"thresholds from the synthetic images in {path}")
            return found.images[: plan.images]
    has_norm = bool(normed_layers(model.network))
    kind: Literal["statistics", "impressions"] = "statistics" if has_norm else "impressions"
    tell(f"making {plan.images} synthetic images from the network ({kind})")
    wanted = SynthesisPlan(kind=kind, images=plan.images)
    return synthesised(model, wanted, folder.path / "converted" / f"calibration-{plan.images}.safetensors").images


def converted_facts(facts: ModelFacts, done: Conversion, plan: ConversionPlan, images: int) -> ModelFacts:
    """What the converted network's model file says.

    Args:
        facts: of the ANN.
        done: the conversion.
        plan: how it was made.
        images: of the calibration set.
    """
    neuron = next(layer.neuron for layer in done.network.layers if isinstance(layer, SpikingLayer))
    assert neuron is not None
    network = {
        "name": done.layout,
        "steps": plan.steps,
        "norm": "none",
        "coding": "direct",
        "readout": "current",
        "pooling": done.pooling,
        "neuron": neuron_table(neuron) | {"start": neuron.start},
    }
    source = {"network": facts.network.get("name"), "thresholds": _plain(done.thresholds)}
    extra = {**facts.extra, "converted": {**dataclasses.asdict(plan), "images": images, **source}}
    return dataclasses.replace(facts, network=network, batch_statistics=False, extra=extra)


def write_model(path: Path, done: Conversion, facts: ModelFacts) -> None:
    """Write the converted network's model file. Raises ConfigError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, model_file(done.network, facts))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}); choose another --out") from error


def accuracy_of(model: Model, federation: Federation) -> float:
    """On the run's test set."""
    draws = torch.Generator().manual_seed(federation.config.seed)
    test = federation.test
    return evaluate(model.network, test.images, test.labels, preprocess=model.preprocess, generator=draws).accuracy


def layer_rows(done: Conversion) -> list[dict[str, Any]]:
    """Threshold and error of every layer."""
    rows = []
    for name, error in done.errors.items():
        theta = done.thresholds.get(name)
        low = None if theta is None else float(theta.min())
        high = None if theta is None else float(theta.max())
        rows.append({"layer": name, "least_threshold": low, "largest_threshold": high, "error_share": error})
    return rows


def _plain(tensors: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: cast(list[float], tensor.tolist()) for name, tensor in tensors.items()}
