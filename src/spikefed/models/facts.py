"""What a model file says of its network: enough to build it again, and to feed it as in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, cast, get_args, get_type_hints

from spikefed.errors import CheckpointError
from spikefed.training import Preprocess

FORMAT = 2
"""Version of the facts. Version 1 (spikefed 0.1) has no number, and only what stands in `_FIRST`."""
_FIRST = ("network", "input_shape", "classes", "pixels")


@dataclass(frozen=True)
class ModelFacts:
    """Everything about a trained network but its tensors.

    Attributes:
        network: the table ``[network]`` of its experiment, with neuron, norm and coding as they were resolved; an own
            network's ``name`` is its import path.
        input_shape: ``(C, H, W)`` of one image.
        classes: number of outputs.
        preprocess: pixels to network input.
        class_names: a text for each class; empty when they have only numbers.
        values: what the images' numbers are (`spikefed.data.ImageSet`): pixels, counts or reals.
        timed: the images have time steps of their own.
        resample: how those are brought to the network's (`spikefed.data.to_steps`).
        experiment, method: where it was trained; empty when not known.
        seed: of the experiment.
        round: after which this network stood.
        logit_scale: factor on the mean outputs that the loss on labels saw.
        client: whose own network it is; None: the one that the run reports.
        batch_statistics: the run measured it on the statistics of each batch (``training.train_bn_at_eval``).
        extra: what this version does not know, from whoever wrote it.
    """

    network: Mapping[str, Any]
    input_shape: tuple[int, ...]
    classes: int
    preprocess: Preprocess = Preprocess()
    class_names: tuple[str, ...] = ()
    values: str = "pixels"
    timed: bool = False
    resample: str = "bin"
    experiment: str = ""
    method: str = ""
    seed: int = 0
    round: int = 0
    logit_scale: float = 1.0
    batch_statistics: bool = False
    client: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """A text for each class: its name, else its number."""
        return self.class_names or tuple(str(label) for label in range(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; what a version 1 reader knows stands where it always stood."""
        pixels = self.preprocess
        return {
            "format": FORMAT,
            "network": dict(self.network),
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            **({"class_names": list(self.class_names)} if self.class_names else {}),
            "pixels": {"mode": pixels.mode, "mean": list(pixels.mean), "std": list(pixels.std)},
            "values": self.values,
            "timed": self.timed,
            "resample": self.resample,
            "experiment": self.experiment,
            "method": self.method,
            "seed": self.seed,
            "round": self.round,
            "logit_scale": self.logit_scale,
            "batch_statistics": self.batch_statistics,
            **({} if self.client is None else {"client": self.client}),
            **self.extra,
        }

    @staticmethod
    def from_dict(told: Mapping[str, Any], where: str) -> ModelFacts:
        """Inverse of `to_dict`; version 1 is read too.

        Args:
            told: what the file says.
            where: the file, for errors.

        Raises:
            CheckpointError: of another program, of a newer version, or with something missing.
        """
        if not all(key in told for key in _FIRST):
            raise CheckpointError(
                f"{where} says nothing of a spikefed network (its metadata lacks "
                f"{', '.join(key for key in _FIRST if key not in told)}); give a model.safetensors of a run, or load "
                "its tensors with safetensors into a network of your own"
            )
        version = told.get("format", 1)
        if version not in range(1, FORMAT + 1):
            raise CheckpointError(
                f"{where} has model format {version}, this spikefed reads formats up to {FORMAT}; load it with the "
                "spikefed that wrote it, or a newer one"
            )
        known = {"format", *_FIRST}
        rest = {key: value for key, value in told.items() if key not in known}
        plain = {key: rest.pop(key) for key in tuple(rest) if key in _PLAIN}
        for key, value in plain.items():
            if not _PLAIN[key](value):
                raise CheckpointError(f"{where} says {key} = {value!r}; take a whole copy, or load an older spikefed's")
        try:
            pixels = cast(Mapping[str, Any], told["pixels"])
            facts = ModelFacts(
                network=dict(told["network"]),
                input_shape=tuple(int(side) for side in told["input_shape"]),
                classes=int(told["classes"]),
                preprocess=Preprocess(
                    pixels["mode"], tuple(map(float, pixels["mean"])), tuple(map(float, pixels["std"]))
                ),
                class_names=tuple(str(name) for name in plain.pop("class_names", ())),
                **plain,
                extra=rest,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"what {where} says of its network cannot be read ({type(error).__name__}: {error}); take a whole copy"
            ) from error
        _check(facts, where)
        return facts


def _check(facts: ModelFacts, where: str) -> None:
    """Refuse facts that contradict each other, or that only another version understands.

    Raises:
        CheckpointError: the first of them.
    """
    pixels, channels = facts.preprocess, facts.input_shape[:1]
    numbers = {len(pixels.mean), len(pixels.std)}
    wrong = None
    if facts.class_names and len(facts.class_names) != facts.classes:
        wrong = f"{len(facts.class_names)} class names for {facts.classes} classes"
    elif pixels.mode not in get_args(get_type_hints(Preprocess)["mode"]):
        wrong = f"pixels of mode '{pixels.mode}'"
    elif pixels.mode == "standard" and (len(numbers) != 1 or not numbers <= {1, *channels}):
        wrong = f"{len(pixels.mean)} means and {len(pixels.std)} deviations for {channels[0]} channels"
    elif not all(map(isfinite, (*pixels.mean, *pixels.std))) or 0 in pixels.std:
        wrong = f"means {list(pixels.mean)} and deviations {list(pixels.std)} that no pixels have"
    elif facts.values not in ("pixels", "counts", "reals"):
        wrong = f"images of '{facts.values}'"
    if wrong:
        raise CheckpointError(f"{where} has {wrong}; take a whole copy, or the spikefed that wrote it")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


_PLAIN: dict[str, Callable[[Any], bool]] = {
    "class_names": lambda value: isinstance(value, list | tuple),
    "values": _is_text,
    "timed": _is_flag,
    "resample": lambda value: value in ("bin", "pick", "window"),
    "experiment": _is_text,
    "method": _is_text,
    "seed": _is_count,
    "round": _is_count,
    "logit_scale": _is_scale,
    "batch_statistics": _is_flag,
    "client": _is_count,
}
"""Facts that stand as they are, and what each has to be."""
