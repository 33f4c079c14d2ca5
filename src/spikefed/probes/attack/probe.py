"""Accuracy under attack: by attack and distance, the worst case of each image, and whether gradients are masked.

Adversarial images are judged by draws of the coder that no attack saw, the same for clean images and for all attacks:
an image that a draw of its own happens to fool counts against no attack. Images stay in the ball and in the range of
pixels to the last bit, and no number depends on the size of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.probes.accuracy import wilson
from spikefed.probes.attack import masking
from spikefed.probes.attack.plan import Planned, by_gradients, planned, run
from spikefed.probes.attack.settings import AttackHyperparameters
from spikefed.probes.attack.tally import Tally, worst
from spikefed.probes.attack.twin import read_twin
from spikefed.probes.contract import Probe, ProbeContext, ProbeHyperparameters, Quantity, Record, Subject
from spikefed.training.attacks import AGAIN, Ball, Goal, Victim, flip_spikes
from spikefed.training.attacks.surrogates import NAMES, choice

CLEAN = "none"


class Attack(Probe):
    """White and black box attacks, the worst case of each image, and the signs of masked gradients."""

    name: ClassVar[str] = "attack"
    title: ClassVar[str] = "Attacks"
    summary: ClassVar[str] = "accuracy under attacks, their worst case by image, and signs of masked gradients"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = AttackHyperparameters
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("attack", "Attack", unit="text"),
        Quantity("surrogate", "Surrogate", "that its gradients take", "text"),
        Quantity("eps", "eps", "largest distance, in pixels"),
        Quantity("flips", "Flips", "budget of spikes of an image's raster"),
        Quantity("images", "Images"),
        Quantity("accuracy", "Accuracy", "of the images under attack, mean over the draws that judge", "share"),
        Quantity("accuracy_low", "From", "lower end of Wilson's interval", "share"),
        Quantity("accuracy_high", "To", "upper end of Wilson's interval", "share"),
        Quantity(
            "accuracy_again", "Fresh draws", "each image's strongest attack, on draws that did not choose", "share"
        ),
        Quantity("target_share", "Target said", "images of another class that are called the target", "share"),
        Quantity("changed_share", "Changed", "images with a pixel that the attack changed", "share"),
        Quantity("distance", "Distance", "mean over the images, in pixels"),
        Quantity("spikes_flipped", "Flipped", "mean over the images"),
        Quantity("loss_first", "Loss before", "mean loss of the attack at its first step"),
        Quantity("loss_last", "Loss after", "mean loss of the attack at its last step"),
        Quantity("check", "Sign of masking", unit="text"),
        Quantity("flagged", "Seen", unit="text"),
        Quantity("value", "Value"),
        Quantity("note", "Of what", unit="text"),
        Quantity("clean_accuracy", "Clean", "accuracy without attack", "share"),
        Quantity("worst_accuracy", "Worst case", "images that stand under every attack, at the largest eps", "share"),
        Quantity("worst_accuracy_again", "Worst, fresh draws", "the same on draws that did not choose", "share"),
        Quantity("masking_signs", "Signs of masking", "how many of them were seen"),
    )

    def check(self, hyper: AttackHyperparameters) -> None:
        """Refuse what no attack can do."""
        for name in hyper.surrogates:
            if name not in NAMES:
                choice(name, None, 1)  # type: ignore[arg-type]
        if "transfer" in hyper.attacks and hyper.twin is None:
            raise ConfigError("attack 'transfer' needs the ANN twin's model; give its run folder, as twin = \"RUN\"")
        if "transfer" not in hyper.attacks and hyper.twin is not None:
            raise ConfigError(
                f"twin = '{hyper.twin}' is for the attack 'transfer', which is not asked for; add it, as "
                f"attacks = {[*hyper.attacks, 'transfer']}"
            )

    def measure(self, net: nn.Module, subject: Subject, ctx: ProbeContext) -> list[Record]:
        """Rows in parts: attacks, worst case, spike flips, masking."""
        hyper: AttackHyperparameters = ctx.hyper
        self.check(hyper)
        check_labels(subject, hyper.target)
        net.train(ctx.train_bn)
        seed = int(torch.randint(0, 2**62, (), generator=ctx.generator))
        victim = Victim(net, subject.preprocess, seed=seed, fresh=hyper.fresh, loss=hyper.loss, scale=hyper.logit_scale)
        bench = Bench(victim, subject, hyper, ctx, range_of(subject))
        tallies = bench.run()
        return [*_attacks(bench, tallies), *_worst(bench, tallies), *bench.flips(), *_masking(bench, tallies)]

    def headline(self, records: Sequence[Record]) -> Record:
        """Clean accuracy, and at the largest distance what the worst case leaves."""
        last = [row for row in records if row["part"] == "worst case"][-1]
        return {
            "clean_accuracy": next(row["accuracy"] for row in records if row.get("attack") == CLEAN),
            "worst_accuracy": last["accuracy"],
            "worst_accuracy_again": last["accuracy_again"],
            "masking_signs": sum(bool(row["flagged"]) for row in records if row["part"] == "masking"),
        }


def check_labels(subject: Subject, target: int | None) -> None:
    """Refuse images without a class, and a target that none has.

    Raises:
        ConfigError: one sentence.
    """
    classes = len(subject.classes)
    labels = subject.labels
    if len(labels) != len(subject):
        raise ConfigError(
            f"{len(subject)} images have {len(labels)} labels; an attack must know the class of every image it changes"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ConfigError(
            f"labels from {int(labels.min())} to {int(labels.max())} do not fit {classes} classes, so an attack cannot "
            "tell right from wrong; give every image one of them"
        )
    if target is not None and target >= classes:
        raise ConfigError(f"target = {target} is no class of this set; choose one from 0 to {classes - 1}")


def range_of(subject: Subject) -> tuple[float, float]:
    """Darkest and brightest pixel: 0 and 255 of bytes, else the smallest and largest number that is shown."""
    if subject.images.dtype == torch.uint8:
        return 0.0, 255.0
    return float(subject.images.min()), float(subject.images.max())


@dataclass
class Bench:
    """All attacks on all images, batch by batch; a batch that was done is never done again."""

    victim: Victim
    subject: Subject
    hyper: AttackHyperparameters
    ctx: ProbeContext
    range: tuple[float, float]

    def __post_init__(self) -> None:
        span = self.range[1] - self.range[0]
        for eps in self.hyper.eps:  # said before the first attack, not after hours
            Ball(self.subject.images[:1].to(torch.float32), eps, self.hyper.distance, self.range)
        self.plans = planned(self.victim, self.hyper, span)
        self.judged = self.hyper.judged if self.victim.draws_spikes else 1
        self.twin: Victim | None = None
        if "transfer" in self.hyper.attacks:
            net, preprocess = read_twin(self.hyper.twin or "", self.victim.net)
            self.twin = self.victim.but(net=net, preprocess=preprocess)

    def run(self) -> dict[str, Tally]:
        """Every plan's tally by its key, and the clean images' under ``none``."""
        count = len(self.subject)
        size = self.hyper.batch
        tallies = {key: Tally(self.judged, count) for key in [CLEAN, *(plan.key for plan in self.plans)]}
        state: Mapping[str, Any] = self.ctx.restore() or {"done": 0}
        if state["done"]:
            for key, tally in tallies.items():
                tally.restore(key, dict(state))
        total = -(-count // size) * len(self.plans)
        units = 0
        for row in range(0, count, size):
            rows = slice(row, min(row + size, count))
            if rows.stop > state["done"]:
                self._batch(rows, tallies, units, total)
                kept = {key: value for name, tally in tallies.items() for key, value in tally.state(name).items()}
                self.ctx.save({"done": rows.stop, **kept})
            units += len(self.plans)
        return tallies

    def _batch(self, rows: slice, tallies: dict[str, Tally], units: int, total: int) -> None:
        clean = self.subject.images[rows].to(torch.float32)
        self._judge(CLEAN, tallies, rows, clean, clean)
        for place, plan in enumerate(self.plans):
            images = self.attacked(plan, rows, clean, tallies[plan.key])
            self._judge(plan.key, tallies, rows, clean, images)
            self.ctx.progress(units + place + 1, total, "attacks")

    def attacked(self, plan: Planned, rows: slice, clean: Tensor, tally: Tally | None = None) -> Tensor:
        """The adversarial images of some rows, in pixels.

        Args:
            plan: the attack and its budget.
            rows: which images.
            clean: those images, ``[B, C, H, W]``.
            tally: notes of an attack that was interrupted.
        """
        distance = "linf" if plan.far else self.hyper.distance
        ball = Ball(clean, plan.eps, distance, self.range)

        def watch(step: int, loss: Tensor) -> None:
            if tally is not None and step == 0:
                tally.first[rows] = loss
            if tally is not None:
                tally.last[rows] = loss

        return run(plan, self.victim, self.twin, ball, self.goal(rows), self.hyper, watch)

    def goal(self, rows: slice) -> Goal:
        """Any wrong class, or the target."""
        labels = self.subject.labels[rows]
        target = self.hyper.target
        numbers = list(range(rows.start, rows.stop))
        if target is None:
            return Goal(numbers, labels)
        return Goal(numbers, torch.full_like(labels, target), targeted=True)

    def _judge(self, key: str, tallies: dict[str, Tally], rows: slice, clean: Tensor, images: Tensor) -> None:
        tally = tallies[key]
        labels = self.subject.labels[rows]
        numbers = range(rows.start, rows.stop)
        said = self.victim.judged(images, numbers, self.judged).argmax(dim=2)
        tally.right[:, rows] = said == labels
        if self.hyper.target is not None:
            tally.hit[:, rows] = said == self.hyper.target
        fresh = (
            self.victim.judged(images, numbers, self.judged, AGAIN).argmax(dim=2) if self.victim.draws_spikes else said
        )
        tally.again[:, rows] = fresh == labels
        change = images - clean
        tally.moved[rows] = Ball(clean, 0.0, self.hyper.distance, self.range).moved(images)
        tally.pixels[rows] = (change != 0).flatten(1).sum(dim=1)

    def flips(self) -> list[Record]:
        """Rows of the spike flips; none where no spike is drawn."""
        found: list[Record] = []
        for budget in self.hyper.flips if self.victim.draws_spikes else ():
            right = torch.zeros(self.judged, len(self.subject), dtype=torch.bool)
            spent = torch.zeros(self.judged, len(self.subject))
            for row in range(0, len(self.subject), self.hyper.batch):
                rows = slice(row, min(row + self.hyper.batch, len(self.subject)))
                images = self.subject.images[rows].to(torch.float32)
                scores, used = flip_spikes(self.victim, images, self.goal(rows), flips=budget, count=self.judged)
                right[:, rows] = scores.argmax(dim=2) == self.subject.labels[rows]
                spent[:, rows] = used.float()
            row_ = {"part": "spike flips", "flips": budget, **self.shares(right)}
            found.append({**row_, "spikes_flipped": float(spent.mean())})
        return found

    def shares(self, right: Tensor) -> Record:
        """Accuracy with its interval: over images, however many draws judged each."""
        count = right.shape[1]
        accuracy = float(right.double().mean())
        low, high = wilson(accuracy * count, count, self.hyper.level)
        return {"images": count, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high}


def _attacks(bench: Bench, tallies: Mapping[str, Tally]) -> list[Record]:
    rows: list[Record] = [{"part": "attacks", "attack": CLEAN, "eps": 0.0, **bench.shares(tallies[CLEAN].right)}]
    for plan in bench.plans:
        tally = tallies[plan.key]
        row: Record = {"part": "attacks", "attack": plan.attack, "surrogate": plan.surrogate, "eps": plan.eps}
        if plan.far:
            row["attack"] = "every pixel free"
        row |= bench.shares(tally.right)
        if bench.hyper.target is not None:
            others = bench.subject.labels != bench.hyper.target
            row["target_share"] = float(tally.hit[:, others].double().mean()) if others.any() else None
        row |= {
            "changed_share": float((tally.pixels > 0).double().mean()),
            "distance": float(tally.moved.mean()),
            "loss_first": masking.mean(tally.first),
            "loss_last": masking.mean(tally.last),
        }
        rows.append(row)
    return rows


def _worst(bench: Bench, tallies: Mapping[str, Tally]) -> list[Record]:
    """A row for each distance, the smallest first."""
    rows: list[Record] = []
    for eps in sorted(bench.hyper.eps):
        every, picked = worst([tallies[CLEAN], *(tallies[p.key] for p in bench.plans if p.eps == eps and not p.far)])
        again = float(picked.double().mean())
        rows.append({"part": "worst case", "eps": eps, **bench.shares(every), "accuracy_again": again})
    return rows


def _masking(bench: Bench, tallies: Mapping[str, Tally]) -> list[Record]:
    if not bench.hyper.masking:
        return []
    eps = max(bench.hyper.eps)
    here = [plan for plan in bench.plans if plan.eps == eps and not plan.far]
    accuracy = {plan.name: float(tallies[plan.key].right.double().mean()) for plan in here}
    longest = [plan for plan in by_gradients(here) if plan.attack in ("pgd-eot", "pgd")]
    watched = tallies[longest[-1].key] if longest and bench.hyper.steps > 1 else None
    far = next((tallies[plan.key] for plan in bench.plans if plan.far), None)
    still = [plan.name for plan in by_gradients(here) if eps > 0 and not tallies[plan.key].pixels.any()]
    if eps == 0:
        return []
    drawn = bench.victim.draws_spikes
    return masking.signs(
        masking.Seen(
            accuracy=accuracy,
            first=masking.mean(watched.first) if watched else None,
            last=masking.mean(watched.last) if watched else None,
            far=float(far.right.double().mean()) if far else None,
            chance=1 / len(bench.subject.classes),
            still=tuple(still),
            images=len(bench.subject),
            chance_rise=masking.by_chance(watched.last - watched.first) if watched and drawn else 0.0,
        )
    )
