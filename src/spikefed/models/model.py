"""A trained network with all that it needs to be used: how images enter it, and what its classes are called."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikefed.errors import DataError
from spikefed.federated.randomness import EVALUATE, generator, shared
from spikefed.files import write_atomic
from spikefed.models.arrays import Intake, Levels
from spikefed.models.facts import ModelFacts
from spikefed.models.file import model_file
from spikefed.models.images import Batch, batches_of
from spikefed.models.predictions import Predictions
from spikefed.models.shrink import small_network
from spikefed.training import Preprocess, outputs

BATCH = 250
"""Images at a time: that of a run's own measurement, so that the last bits are the same."""
WHOLE = "shrunk_from"
"""Entry of the facts that names the network out of which a small one was taken."""


class Model:
    """What `spikefed.load_model` gives.

    Attributes:
        network: called as ``network(x [B, C, H, W], generator=...) -> [T, B, classes]``; in evaluation mode.
        facts: what its file says of it.
        source: where it came from.
        kept: bool masks by name of the tensors that are pruned, of each one's shape, True where an entry is left.
    """

    def __init__(
        self, network: nn.Module, facts: ModelFacts, source: str = "", kept: Mapping[str, Tensor] | None = None
    ) -> None:
        self.network = network.eval()
        self.facts = facts
        self.source = source
        self.kept = dict(kept or {})

    @property
    def preprocess(self) -> Preprocess:
        """Pixels 0..255 (counts, real numbers) to network input."""
        return self.facts.preprocess

    @property
    def class_names(self) -> tuple[str, ...]:
        """A text for each class: its name, else its number."""
        return self.facts.names

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(C, H, W)`` of one image."""
        return self.facts.input_shape

    @property
    def steps(self) -> int:
        """T."""
        return int(getattr(self.network, "steps", 1))

    def predict(
        self, images: Any, *, levels: Levels | None = None, resize: bool = False, seed: int | None = None
    ) -> Predictions:
        """What class each image is of.

        Args:
            images: arrays ``[N, C, H, W]``, ``[N, H, W]`` or of one image; ``(images, labels)``; paths of pictures,
                folders, .npz, .npy or .csv files, ``-`` for standard input; pictures of PIL; a torch ``Dataset`` or
                ``DataLoader``; or a list of these.
                Pixels are uint8 from 0 to 255, or floats from 0 to 1; anything else is asked about.
            levels: the numbers that mean black and white, where they are others: ``(0, 255)`` for floats up to 255.
            resize: let images of another size be resized.
            seed: of the random draws of the input coding; default: those of the run's own last measurement.

        Raises:
            DataError: a file that is missing or damaged, another shape, or another range of numbers.
        """
        intake = self.intake(levels, resize)
        names: list[str] = []
        labels: list[np.ndarray | None] = []

        def noted() -> Iterator[Tensor]:
            for batch in self._batches(images, intake):
                names.extend(batch.sources)
                labels.append(batch.labels)
                yield batch.images

        clock = time.perf_counter()
        scores = [values.mean(dim=2) for values in self._outputs(noted(), seed)]
        if not scores:
            raise DataError("no images were given; give some")
        return Predictions(
            torch.cat(scores),
            self.class_names,
            names,
            spiking=getattr(self.network, "readout", "spike") == "spike",
            logit_scale=self.facts.logit_scale,
            truth=self._truth(labels),
            notes=tuple(intake.notes),
            seconds=time.perf_counter() - clock,
        )

    def outputs(self, images: Tensor, seed: int | None = None) -> Tensor:
        """Outputs of every time step, float32 ``[N, C, T]``: what the run itself saw of these images.

        On its whole test set, in order and with as many threads, they are those of the run's last measurement to the
        bit, input coding included.

        Args:
            images: ``[N, C, H, W]`` as in the data set (uint8 pixels), or with a time axis.
            seed: of the input coding's draws; default: those of the run's last measurement.

        Raises:
            DataError: no images.
        """
        if not len(images):
            raise DataError("no images were given; give some")
        return torch.cat(list(self._outputs(iter([images]), seed)))

    def shrunk(self) -> Model:
        """The small model without the channels, or branches, of which pruning left nothing; it computes the same.

        Raises:
            ConfigError: the layers do not stand in a row and the network is no supernet, or it has tensors that no
                smaller one has (learnt thresholds, parts of tasks).
        """
        small, kept = small_network(self.network, self.kept)
        table = {**self.facts.network, "name": str(small.name)}
        whole = {WHOLE: self.facts.extra.get(WHOLE, self.facts.network["name"])}
        facts = replace(self.facts, network=table, extra={**self.facts.extra, **whole})
        return Model(small, facts, self.source, kept)

    def save(self, path: Path | str) -> None:
        """Write the model file that `spikefed.load_model` reads, masks included; a file that stands there goes."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(Path(path), model_file(self.network, self.facts, self.kept))

    def intake(self, levels: Levels | None = None, resize: bool = False) -> Intake:
        """What this network takes."""
        steps = self.steps if self.facts.timed else None
        return Intake(tuple(self.input_shape), self.facts.values, steps, self.facts.resample, levels, resize)

    def _batches(self, images: Any, intake: Intake) -> Iterator[Batch]:
        """The images, a measurement's batch at a time: what is drawn must not depend on how a loader cuts them."""
        waiting: list[Batch] = []
        for batch in batches_of(images, intake):
            waiting += [batch] if len(batch.images) else []
            if sum(len(part.images) for part in waiting) >= BATCH:
                whole = _joined(waiting)
                cut = len(whole.images) // BATCH * BATCH
                yield _rows(whole, slice(None, cut))
                waiting = [_rows(whole, slice(cut, None))] if cut < len(whole.images) else []
        if waiting:
            yield _joined(waiting)

    @torch.no_grad()
    def _outputs(self, parts: Iterator[Tensor], seed: int | None) -> Iterator[Tensor]:
        told = self.facts
        draws = generator(told.seed, EVALUATE, told.round) if seed is None else torch.Generator().manual_seed(seed)
        with shared(draws), _kept(self.network, told.batch_statistics):
            for images in parts:
                if told.batch_statistics and len(images) < 2:
                    raise DataError(
                        "this network was measured on the statistics of each batch (training.train_bn_at_eval), which "
                        "one image has not; give several at once"
                    )
                yield outputs(
                    self.network,
                    images,
                    preprocess=self.preprocess,
                    generator=draws,
                    batch_size=BATCH,
                    train_bn=told.batch_statistics,
                )

    def _truth(self, parts: list[np.ndarray | None]) -> Tensor | None:
        """Class numbers of the labels that came with all images, by the names of the classes where they are these."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        labels = np.concatenate(known)
        numbers = {name: number for number, name in enumerate(self.class_names)}
        told = [str(label) for label in labels.tolist()]
        if labels.dtype.kind in "biu" and not all(label in numbers for label in told):
            numbers = {str(number): number for number in range(self.facts.classes)}
        strange = next((label for label in told if label not in numbers), None)
        if strange is not None:
            shown = ", ".join(self.class_names[:6]) + (", ..." if len(self.class_names) > 6 else "")
            raise DataError(
                f"label '{strange}' is none of the network's classes ({shown}); leave labels out, or give these"
            )
        return torch.tensor([numbers[label] for label in told])

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        where = f" from {self.source}" if self.source else ""
        name = self.facts.network.get("name")
        classes = self.facts.classes
        return f"Model({name}, {shape} to {classes} classes, T = {self.steps}{where})"


@contextmanager
def _kept(net: nn.Module, wanted: bool) -> Iterator[None]:
    """Put buffers back that predicting on batch statistics moves."""
    before = {name: value.clone() for name, value in net.named_buffers()} if wanted else {}
    try:
        yield
    finally:
        for name, value in net.named_buffers() if wanted else ():
            value.copy_(before[name])


def _joined(parts: list[Batch]) -> Batch:
    labels = [part.labels for part in parts]
    known = [part for part in labels if part is not None]
    return Batch(
        torch.cat([part.images for part in parts]),
        [name for part in parts for name in part.sources],
        np.concatenate(known) if len(known) == len(labels) else None,
    )


def _rows(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.images[rows], batch.sources[rows], None if batch.labels is None else batch.labels[rows])
