"""What becomes of a network on imperfect chips, and what batch norm can repair: accuracy over noise, age, tiles, wires.

One setting of the chip is the middle of everything; from there one number at a time is changed. Repairs look at
images that clients trained on (of a model file alone: at the training part of the data named beside it); where those
are not known, at every second image of the subject, and the others are for measuring accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware import PE_CYCLE_NS, SpikeSim, count_operations
from spikefed.hardware.crossbar import (
    TREATMENTS,
    Changes,
    ChipProfile,
    Examples,
    OnChip,
    check_treatments,
    load_profile,
    soft_answers,
    treated,
)
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject

AXES = {"reads": "noise.read", "tiles": "tile", "cell_bits": "cell.bits", "adc_bits": "converters.adc_bits"}
"""Keys of the probe, and the number of the profile that each changes."""


class ChipHyperparameters(ProbeHyperparameters):
    """What `Chip` can be told."""

    profile: str = Field(
        default="rram", description="kind of chip: rram, pcm, fefet, ideal, or a TOML file of your own"
    )
    changes: Changes = Field(
        default={}, description="numbers of the profile that are others here, such as {noise.read = 0.2}"
    )
    chips: int = Field(default=3, ge=1, le=1000, description="chips that differ in their seeds alone")
    seed: int = Field(default=0, ge=0, description="seed of the first chip")
    repairs: list[str] = Field(
        default=["none", "gain", "adapt", "labels", "soft"],
        min_length=1,
        description="none; gain (drift compensation); adapt (statistics); labels, soft (scale and shift too)",
    )
    calibration: int = Field(default=1000, ge=1, description="images that repairs and converters' ranges see at most")
    age_s: float = Field(default=0.0, ge=0, description="age of the chips, in seconds after programming")
    ages_s: list[float] = Field(default=[], description="ages to measure, one by one")
    reads: list[float] = Field(default=[], description="read noise to measure")
    tiles: list[int] = Field(default=[], description="tile sizes to measure")
    ohms: list[float] = Field(default=[], description="resistances of a segment of wire to measure, rows and columns")
    cell_bits: list[int] = Field(default=[], description="bits of a cell to measure")
    adc_bits: list[int] = Field(default=[], description="bits of the ADC to measure")
    logit_scale: float = Field(default=1.0, gt=0, description="of the loss on labels; that of training.logit_scale")


class Chip(Probe):
    """Accuracy on chips before and after each repair, PC2 by layer, and energy and time of the crossbars."""

    name: ClassVar[str] = "chip"
    title: ClassVar[str] = "On imperfect chips"
    summary: ClassVar[str] = (
        "accuracy on noisy, drifting crossbars before and after batch-norm repair, and PC2 by layer"
    )
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = ChipHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("setting", "Setting", "the number of the profile that differs", "text"),
        Quantity("value", "Value", "what it is"),
        Quantity("chip", "Chip", "its seed"),
        Quantity("repair", "Repair", "digital: no chip at all", "text"),
        Quantity("accuracy", "Accuracy", "mean over the chips", "share"),
        Quantity("accuracy_least", "Least", "of the chips", "share"),
        Quantity("accuracy_most", "Most", "of the chips", "share"),
        Quantity("accuracy_deviation", "Deviation", "over the chips", "share"),
        Quantity("layer", "Layer", unit="text"),
        Quantity("crossbars", "Crossbars", "tiles, slices and signs counted"),
        Quantity("pc2", "PC2", "share of the weights' change that no scale undoes, mean over the chips"),
        Quantity("pc2_most", "PC2, most", "of the layers"),
        Quantity("repaired_accuracy", "Repaired", "the best repair's", "share"),
        Quantity("digital_accuracy", "Digital", "without a chip", "share"),
        Quantity("energy_pj", "Energy", "of an image by SpikeSim, whatever spikes"),
        Quantity("time_s", "Time", "of an image by SpikeSim: all cycles of all elements, 104 ns each"),
    )

    def check(self, hyper: ChipHyperparameters) -> None:
        """The profile and all its changes are read before a run begins."""
        for name in hyper.repairs:
            if name not in TREATMENTS:
                raise ConfigError(f"'repairs' of probe 'chip': '{name}' is not known; use {', '.join(TREATMENTS)}")
        list(settings(hyper))

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in four parts: a setting and repair, one chip, a layer, the crossbars' energy."""
        hyper: ChipHyperparameters = ctx.hyper
        self.check(hyper)
        check_treatments(net, hyper.repairs)
        known, shown = _examples(net, subject, ctx)
        todo = [(name, value, profile, age) for name, value, profile, age in settings(hyper)]
        held = ctx.restore() or {}
        written = todo[0][2].model_dump_json()  # a file of one's own may have been edited since
        done: list[Record] = held.get("rows", []) if held.get("profile") == written else []
        for number in range(len(done) // len(hyper.repairs), len(todo) * hyper.chips):
            setting, value, profile, age_s = todo[number // hyper.chips]
            seed = hyper.seed + number % hyper.chips
            chip = OnChip(net, profile, seed)
            for name, accuracy in treated(
                chip,
                hyper.repairs,
                known,
                shown,
                age_s=age_s,
                preprocess=subject.preprocess,
                generator=_draws(ctx, number),
                train_bn=ctx.train_bn,
                logit_scale=hyper.logit_scale,
            ):
                found = chip.pc2()
                row = {"setting": setting, "value": value, "chip": seed, "repair": name, "accuracy": accuracy}
                done.append(row | {"pc2": fmean(found.values()), "pc2_most": max(found.values())})
            ctx.save({"profile": written, "rows": done})
            ctx.progress(number + 1, len(todo) * hyper.chips, "chips")
        digital = _digital(net, shown, subject, ctx)
        rows = [{"part": "accuracy", "repair": "digital", "accuracy": digital}, *_summaries(done)]
        rows += [{"part": "chips", **{k: v for k, v in row.items() if not k.startswith("pc2")}} for row in done]
        return [*rows, *_layers(net, hyper), *_energy(net, subject, todo[0][2])]

    def headline(self, records: Sequence[Record]) -> Record:
        """At the middle setting: without repair, by the best repair, without a chip; its largest PC2."""
        rows = [row for row in records if row["part"] == "accuracy"]
        digital = rows[0]["accuracy"]
        middle = [row for row in rows[1:] if row["setting"] == rows[1]["setting"]]
        plain = next((row["accuracy"] for row in middle if row["repair"] == "none"), None)
        best = max(float(row["accuracy"] or 0) for row in middle)
        return {
            "accuracy": plain,
            "repaired_accuracy": best,
            "digital_accuracy": digital,
            "pc2_most": middle[0]["pc2_most"],
        }


def settings(hyper: ChipHyperparameters) -> Iterator[tuple[str, float | None, ChipProfile, float]]:
    """``(number that differs, its value, profile, age)``: the middle first.

    Raises:
        ConfigError: a profile that cannot be, in one sentence.
    """
    middle = load_profile(hyper.profile).changed(hyper.changes)
    yield middle.name, None, middle, hyper.age_s
    for age_s in hyper.ages_s:
        if age_s < 0:
            raise ConfigError(f"'ages_s' of probe 'chip': a chip cannot be {age_s:g} seconds old; give 0 or more")
        yield "age_s", age_s, middle, age_s
    for ohm in hyper.ohms:
        yield "ohm", ohm, middle.changed({"wires.row_ohm": ohm, "wires.column_ohm": ohm}), hyper.age_s
    for key, number in AXES.items():
        for value in getattr(hyper, key):
            yield number, value, middle.changed({number: value}), hyper.age_s


def _examples(net: nn.Module, subject: Subject, ctx: ProbeContext) -> tuple[Examples, Examples]:
    """What repairs may see, and what is measured on."""
    hyper: ChipHyperparameters = ctx.hyper
    if len(subject.trained):
        each = max(1, hyper.calibration // len(subject.trained))
        parts = [part.first(each) for part in subject.trained]
        images = torch.cat([part.images for part in parts])
        labels = torch.cat([part.labels for part in parts])
        shown = Examples(subject.images, subject.labels)
    else:
        images = subject.images[1::2][: hyper.calibration]
        labels = subject.labels[1::2][: hyper.calibration]
        shown = Examples(subject.images[::2], subject.labels[::2])
    if not len(images):
        raise ConfigError("probe 'chip' needs images to repair on beside those that it measures on; give two at least")
    soft = None
    if "soft" in hyper.repairs:
        soft = soft_answers(net, images, preprocess=subject.preprocess, generator=_draws(ctx, 10**6))
    return Examples(images, labels, soft), shown


def _digital(net: nn.Module, shown: Examples, subject: Subject, ctx: ProbeContext) -> float:
    scores = ctx.outputs(net, Subject(shown.images, shown.labels, subject.preprocess, subject.classes)).mean(dim=2)
    return float((scores.argmax(dim=1) == shown.labels).double().mean())


def _draws(ctx: ProbeContext, number: int) -> torch.Generator:
    """A stream for each chip and setting, so that a probe that was cut short draws what a whole one draws."""
    return torch.Generator().manual_seed((ctx.generator.initial_seed() + 7919 * (number + 1)) % 2**63)


def _summaries(rows: Sequence[Record]) -> Iterator[Record]:
    """Over the chips of each setting and repair."""
    kinds = list(dict.fromkeys((row["setting"], row["value"], row["repair"]) for row in rows))
    for setting, value, name in kinds:
        mine = [row for row in rows if (row["setting"], row["value"], row["repair"]) == (setting, value, name)]
        found = [float(row["accuracy"] or 0) for row in mine]
        yield {
            "part": "accuracy",
            "setting": setting,
            "value": value,
            "repair": name,
            "accuracy": fmean(found),
            "accuracy_least": min(found),
            "accuracy_most": max(found),
            "accuracy_deviation": pstdev(found),
            "pc2": fmean(float(row["pc2"] or 0) for row in mine),
            "pc2_most": max(float(row["pc2_most"] or 0) for row in mine),
        }


def _layers(net: nn.Module, hyper: ChipHyperparameters) -> Iterator[Record]:
    """PC2 of every layer at the middle setting."""
    _, _, profile, age_s = next(settings(hyper))
    found: list[dict[str, float]] = []
    crossbars: dict[str, int] = {}
    for seed in range(hyper.seed, hyper.seed + hyper.chips):
        chip = OnChip(net, profile, seed)
        chip.age(age_s)
        found.append(chip.pc2())
        crossbars = chip.crossbars()
    for layer, count in crossbars.items():
        yield {"part": "layers", "layer": layer, "crossbars": count, "pc2": fmean(each[layer] for each in found)}


def _energy(net: nn.Module, subject: Subject, profile: ChipProfile) -> Iterator[Record]:
    """SpikeSim's price of the convolutions; nothing for a network that it cannot count."""
    steps: Any = getattr(net, "steps", None)
    if steps is None:
        return
    counts = count_operations(net, subject.preprocess(subject.images[:1]), generator=torch.Generator().manual_seed(0))
    model = SpikeSim(size=profile.tile)
    cycles = sum(model.cycles(layer) for layer in counts) * steps
    yield {
        "part": "energy",
        "energy_pj": sum(model.energy_pj(layer, steps) for layer in counts),
        "time_s": cycles * PE_CYCLE_NS * 1e-9,
    }
