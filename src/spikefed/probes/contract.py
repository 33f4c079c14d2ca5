"""The contract of a probe: one pure step that looks at a network and says what it found, as rows of plain values.

Whatever is learned about a network during or after training is a probe. It sees a network, a subject (labelled images)
and a context; it does no I/O, reads no clock and never sees a federation. `docs/adding-a-probe.md` walks through a
whole probe in one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from spikefed.hyper import Hyperparameters
from spikefed.probes.partial import Partial
from spikefed.training import Preprocess, outputs

Value = str | int | float | bool | None
Record = dict[str, Value]
"""One row: flat, text keys, plain values; a float that is not finite becomes None."""

Unit = Literal["share", "pj", "bytes", "bits", "seconds", "number", "limit", "text"]
UNITS: dict[str, Unit] = {"_pj": "pj", "_bytes": "bytes", "_bits": "bits", "_s": "seconds", "_share": "share"}
"""Ends of keys that tell the unit of the value."""

Progress = Callable[[int, int, str], None]
"""``(done, total, what)``: how far a probe is."""


@dataclass(frozen=True)
class Quantity:
    """One key of a probe's records, as tables head and write it.

    Attributes:
        key: of the records.
        title: heading of the column.
        note: what a reader must know; a tooltip.
        unit: how the value is written; by default what the end of the key says (`UNITS`), else ``number``. A ``limit``
            is a number that something has to stay below, ``none`` where that is not above zero.
    """

    key: str
    title: str
    note: str = ""
    unit: Unit | None = None

    @property
    def written(self) -> Unit:
        """The unit, told or read off the key."""
        if self.unit is not None:
            return self.unit
        for end, unit in UNITS.items():
            if self.key.endswith(end):
                return unit
        return "number"

    def told(self) -> dict[str, str]:
        """As a probe's file has it."""
        return {"key": self.key, "title": self.title, "note": self.note, "unit": self.written}


@dataclass(frozen=True)
class Curve:
    """A figure that a report draws of a probe: one key of its records over another, a line a method.

    Attributes:
        x: key along the axis; of numbers.
        y: key that is drawn; a key ``y_se`` of the same row, where there is one, gives the band of a single run.
        part: of the records that are meant (their key ``part``).
    """

    x: str
    y: str
    part: str = ""

    def told(self) -> dict[str, str]:
        """As a probe's file has it."""
        return {"x": self.x, "y": self.y, "part": self.part}


@dataclass(frozen=True, eq=False)
class Subject:
    """What a network is shown.

    Attributes:
        images: uint8 ``[N, C, H, W]``; of a set with a time axis ``[N, T, C, H, W]``, of any type.
        labels: int64 ``[N]``.
        preprocess: pixels to network input.
        classes: names of the classes, in the order of the outputs.
        trained: what each client trained on, by number; empty where that is not known. Taken when it is asked for.
    """

    images: Tensor
    labels: Tensor
    preprocess: Preprocess
    classes: tuple[str, ...]
    trained: Sequence[Subject] = ()

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int | None) -> Subject:
        """The first so many images; all when None."""
        return self if count is None else replace(self, images=self.images[:count], labels=self.labels[:count])

    def batches(self, size: int, start: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
        """``(first row, network input [B, C, H, W], labels [B])``, from row ``start`` on, in order, on the host."""
        for row in range(start, len(self), size):
            chosen = slice(row, row + size)
            yield row, self.preprocess(self.images[chosen]), self.labels[chosen]


def nobody() -> Iterator[tuple[int, nn.Module]]:
    """No client's network is known here."""
    return iter(())


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""


class ProbeHyperparameters(Hyperparameters):
    """What every probe can be told."""

    images: int | None = Field(default=None, ge=1, description="use only the first so many test images; default: all")


@dataclass(frozen=True)
class ProbeContext:
    """What a probe may use beside the network and the subject.

    Attributes:
        hyper: the probe's hyperparameters.
        round: 1-based round that the network comes from; 0 where there is none.
        seed: of the experiment.
        whose: the network is: ``server``, or ``client N`` where a method has none at the server.
        generator: the probe's randomness, all of it.
        train_bn: keep batch statistics when predicting, as the run does (``training.train_bn_at_eval``).
        clients: gives ``(number, network)`` of every client whose own network is known, one at a time: each is valid
            until the next, and meanwhile the probed network, which may share its memory, is not.
        progress: to be told how far the probe is.
        partial: what a killed probe left behind, see `save`.
    """

    hyper: Any
    round: int
    seed: int
    generator: torch.Generator
    whose: str = "network"
    train_bn: bool = False
    clients: Callable[[], Iterator[tuple[int, nn.Module]]] = nobody
    progress: Progress = silent
    partial: Partial = field(default_factory=Partial)

    def outputs(self, net: nn.Module, subject: Subject) -> Tensor:
        """The network's outputs on all images, ``[N, C, T]`` float32, as the run itself measures them."""
        return outputs(
            net, subject.images, preprocess=subject.preprocess, generator=self.generator, train_bn=self.train_bn
        )

    def save(self, state: dict[str, Any]) -> None:
        """Keep what is done so far, so that a probe that is killed goes on from here.

        Args:
            state: tensors, arrays, and whatever JSON holds. The generator's state is kept with it.
        """
        self.partial.save(state, self.generator)

    def restore(self) -> dict[str, Any] | None:
        """What the last `save` of the same measurement kept, the generator set back to it; None at a fresh start."""
        return self.partial.restore(self.generator)


class Probe(ABC):
    """One step, and words for what it gives; below it hooks, which do the usual thing unless a probe differs.

    A whole probe, which counts how many images of each class it was shown:

    >>> class Shown(Probe):
    ...     name = "shown"
    ...     summary = "images of each class"
    ...     quantities = (Quantity("class", "Class", unit="text"), Quantity("images", "Images"))
    ...     def measure(self, net, subject, ctx):
    ...         counts = subject.labels.bincount(minlength=len(subject.classes)).tolist()
    ...         return [{"class": name, "images": n} for name, n in zip(subject.classes, counts)]
    >>> pixels = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    >>> subject = Subject(pixels, torch.tensor([0, 1, 1]), Preprocess(), ("cat", "dog"))
    >>> from spikefed.probes import run_probe
    >>> run_probe(nn.Identity(), subject, Shown()).records
    [{'class': 'cat', 'images': 1}, {'class': 'dog', 'images': 2}]

    Attributes:
        name: what an experiment file says.
        title: heading of its part of the report; the name when empty.
        summary: one line for ``spikefed list probes``.
        version: raised when the same network would give other records; partial results of another version are dropped.
        hyperparameters: the class of ``ctx.hyper``.
        quantities: keys of the records in the order of the columns; a key that is not listed stands behind them.
        curves: figures of a report.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    summary: ClassVar[str]
    version: ClassVar[int] = 1
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = ProbeHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = ()
    curves: ClassVar[tuple[Curve, ...]] = ()

    @abstractmethod
    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> Sequence[Record]:
        """Look at the network and say what was found, at least one row.

        The network comes in eval mode and is put back as it was afterwards, whatever the probe did to its tensors.

        Raises:
            ConfigError: the network is none that this probe can look at.
        """

    def check(self, hyper: Any) -> None:  # noqa: B027 - a hook: doing nothing is the usual thing
        """Hook: called before a run begins, so that what is missing is said before hours of training, not after.

        Raises:
            ConfigError: a package that is not installed, hyperparameters that do not go together.
        """

    def headline(self, records: Sequence[Record]) -> Record:
        """Hook: the few numbers that stand in the table of a sweep, from the records; those of a single row itself."""
        if len(records) != 1:
            return {}
        return {key: value for key, value in records[0].items() if isinstance(value, int | float)}
