"""Energy of an experiment's network, and of one client in one round: inference, training, radio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikefed import networks
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.probing import subject_of
from spikefed.federated.randomness import EVALUATE, generator, shared
from spikefed.hardware import EnergyReport, SpikeSim, energy_report
from spikefed.hardware.arithmetic import FirstLayer
from spikefed.hardware.text import energy
from spikefed.probes.energy import IMAGES
from spikefed.training import batches


@dataclass(frozen=True)
class RoundEnergy:
    """One client in one round, means over the clients.

    Attributes:
        local_samples: training on private data: samples of all batches, times epochs.
        public_samples: distillation on the public rows: rows times epochs, and those rehearsed; 0 without any. A method
            that leaves out rows of which the server knows nothing (`fsd+`) trains on fewer.
        training_pj: arithmetic of both.
        upstream_bytes, downstream_bytes: measured, per client and round in which it was asked; None without a run.
        radio_pj: of those bytes; None without a run or without a price.
    """

    local_samples: float
    public_samples: float
    training_pj: float
    upstream_bytes: float | None
    downstream_bytes: float | None
    radio_pj: float | None


@dataclass(frozen=True)
class ExperimentEnergy:
    """An experiment's energy.

    Attributes:
        name: of the experiment.
        trained: the weights are those of a finished run; fresh weights spike at other rates.
        accuracy: of the run's server, None without a run.
        inference: the network's report.
        client_round: what a round costs a client.
        radio_nj_per_byte: the price of the radio, None when not given.
    """

    name: str
    trained: bool
    accuracy: float | None
    inference: EnergyReport
    client_round: RoundEnergy
    radio_nj_per_byte: float | None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; the layers as in `EnergyReport.to_json`."""
        return {
            "name": self.name,
            "trained": self.trained,
            "accuracy": self.accuracy,
            **json.loads(self.inference.to_json()),
            "client_round": asdict(self.client_round),
            "radio_nj_per_byte": self.radio_nj_per_byte,
        }

    def __str__(self) -> str:
        c = self.client_round
        weights = "trained weights" if self.trained else "fresh weights: rates change with training"
        lines = [f"{self.name} ({weights})", str(self.inference)]
        samples = f"{c.local_samples:,.0f} private" + (
            f" and {c.public_samples:,.0f} public" if c.public_samples else ""
        )
        lines.append(f"one client, one round: training on {samples} samples, arithmetic: {energy(c.training_pj)}")
        if c.upstream_bytes is None and self.radio_nj_per_byte is not None:
            lines.append(
                "  radio: how many bytes travel is known after a run; give the run's folder instead of its file"
            )
        if c.upstream_bytes is not None and c.downstream_bytes is not None:
            radio = (
                "give the radio's price with --radio-nj-per-byte"
                if c.radio_pj is None
                else f"radio {energy(c.radio_pj)} at {self.radio_nj_per_byte:g} nJ per byte"
            )
            lines.append(f"  {c.upstream_bytes:,.0f} bytes up, {c.downstream_bytes:,.0f} bytes down; {radio}")
        return "\n".join(lines)


def experiment_energy(
    source: Path | str,
    *,
    overrides: Sequence[str] = (),
    images: int = 256,
    first_layer: FirstLayer = "once",
    weight_bits: int = 8,
    chip: SpikeSim | None = None,
    radio_nj_per_byte: float | None = None,
) -> ExperimentEnergy:
    """Energy of an experiment file (fresh weights) or of a run folder (its model, its ledger).

    Args:
        overrides: ``table.key=value`` texts on top of the file.
        images: the first so many test images are shown.
        first_layer: as in `spikefed.hardware.energy_report`.
        weight_bits: as in `spikefed.hardware.energy_report`.
        chip: as in `spikefed.hardware.energy_report`.
        radio_nj_per_byte: energy of sending or receiving one byte.

    Raises:
        ConfigError, DataError: as for a run.
        CheckpointError: the run folder has no finished model.
    """
    folder = RunFolder(Path(source)) if Path(source).is_dir() else None
    config = configs.load(folder.config if folder else Path(source), overrides)
    federation = build(config, start=folder.own_start() if folder else None)
    net = federation.networks.load(networks.read_tensors(folder.model).tensors if folder else None)
    shown = federation.preprocess(federation.test.images[:images])
    draws = generator(config.seed, EVALUATE, 0, 2)
    with shared(draws):
        report = energy_report(net, shown, generator=draws, first_layer=first_layer, weight_bits=weight_bits, chip=chip)
    return ExperimentEnergy(
        name=config.name,
        trained=folder is not None,
        accuracy=folder.read_json(folder.result)["accuracy"] if folder else None,
        inference=report,
        client_round=_round(federation, report, folder, radio_nj_per_byte),
        radio_nj_per_byte=radio_nj_per_byte,
    )


def run_energy(federation: Federation, net: nn.Module, images: int = IMAGES) -> dict[str, Any]:
    """What a finished run says of energy, from the first test images: totals and layers, and a client's round."""
    draws = generator(federation.config.seed, EVALUATE, 0, 2)
    subject = subject_of(federation).first(images)
    with shared(draws):
        report = energy_report(net, subject.preprocess(subject.images), generator=draws)
    spent = asdict(_round(federation, report, None, None))
    known = {key: value for key, value in spent.items() if value is not None}
    return {**json.loads(report.to_json()), "client_round": known}


def _round(
    federation: Federation, report: EnergyReport, folder: RunFolder | None, radio_nj_per_byte: float | None
) -> RoundEnergy:
    hyper: Any = federation.config.hyper()
    split = federation.split
    cut = [_batches(len(client.train), hyper) for client in split.clients]
    epochs = getattr(hyper, "local_epochs", 0)
    local = sum(map(sum, cut)) / len(cut) * epochs
    rows = min(getattr(hyper, "public_per_round", None) or len(split.public_images), len(split.public_images))
    public = rows * getattr(hyper, "distil_epochs", 0)
    if getattr(hyper, "rehearse", 0.0):  # a batch of public rows beside every batch of private ones
        batch = hyper.rehearse_batch or hyper.distil_batch
        public += sum(map(len, cut)) / len(cut) * epochs * min(batch, rows) / hyper.rehearse_every
    sample = report.training.snn_pj if report.spiking else report.training.ann_pj
    up = down = radio = None
    if folder is not None:
        lines = folder.read_lines(folder.metrics)
        asked = sum(len(line["participants"]) for line in lines)
        up, down = (sum(line[f"{way}stream_bytes"] for line in lines) / asked for way in ("up", "down"))
        radio = None if radio_nj_per_byte is None else (up + down) * radio_nj_per_byte * 1e3
    return RoundEnergy(local, public, (local + public) * sample, up, down, radio)


def _batches(samples: int, hyper: Any) -> list[int]:
    """Sizes of the batches of an epoch, as `spikefed.training.batches` cuts them; a method may lack the settings."""
    size = getattr(hyper, "local_batch", samples)
    drop_last = getattr(hyper, "drop_last", False)
    order = torch.Generator()  # unused: sizes do not depend on the order
    return [len(b) for b in batches(samples, max(1, size), shuffle=False, generator=order, drop_last=drop_last)]
