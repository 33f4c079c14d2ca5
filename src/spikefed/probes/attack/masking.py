"""Signs that gradients are masked: a robustness that only holds against attacks that cannot see.

Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from spikefed.probes.contract import Record

NOTICED = 0.02
"""Difference of accuracies from which on it counts: 2 points."""


@dataclass(frozen=True)
class Seen:
    """What the signs are read from, at the largest eps.

    Attributes:
        accuracy: of every attack by its name, in [0, 1]; ``clean`` without one.
        first, last: mean loss of PGD before its first and its last step; None where it has one step alone.
        far: accuracy when every pixel may take any value; None where that was not tried.
        chance: accuracy of guessing.
        still: attacks by gradients that changed no pixel of any image.
        images: how many were attacked.
        chance_rise: what fresh draws of a coder may add to ``last - first`` by chance; 0 where nothing is drawn.
    """

    accuracy: Mapping[str, float]
    first: float | None
    last: float | None
    far: float | None
    chance: float
    still: tuple[str, ...]
    images: int
    chance_rise: float = 0.0


def signs(seen: Seen) -> list[Record]:
    """A row for each sign that could be looked for."""
    rows: list[Record] = []

    def row(check: str, flagged: bool, value: float, note: str) -> None:
        rows.append({"part": "masking", "check": check, "flagged": flagged, "value": value, "note": note})

    white = {n: a for n, a in seen.accuracy.items() if n.startswith(("fgsm", "pgd", "apgd"))}
    black = {n: a for n, a in seen.accuracy.items() if n.startswith(("square", "transfer", "noise"))}
    if white and black:
        gap = min(white.values()) - min(black.values())
        note = "best black box minus best white box, in accuracy left"
        row("black box beats white box", gap > NOTICED, gap, note)
    if seen.first is not None and seen.last is not None:
        rise = seen.last - seen.first
        row(
            "loss does not rise with steps",
            rise <= max(1e-3, seen.chance_rise),
            rise,
            "of the longest attack by gradients, first to last step",
        )
    if seen.far is not None:
        noise = 3 * (seen.chance * (1 - seen.chance) / seen.images) ** 0.5
        row("accuracy above chance at any eps", seen.far > seen.chance + noise, seen.far, "every pixel free")
    for name, against, check in (
        ("pgd", "pgd-eot", "more draws change the figure"),
        ("pgd-stop", "pgd", "straight through changes the figure"),
    ):
        if name in seen.accuracy and against in seen.accuracy:
            gap = seen.accuracy[name] - seen.accuracy[against]
            row(check, gap > NOTICED, gap, f"accuracy under {name} minus that under {against}")
    for name in seen.still:
        row(f"{name} changed no pixel", True, 0.0, "its gradients are 0: a coder stops them, or every neuron is silent")
    return rows


def by_chance(rises: Tensor) -> float:
    """Twice the standard error of the mean of ``rises [N]``; 0 of fewer than two that are finite."""
    known = rises[rises.isfinite()].double()
    return 2 * float(known.std()) / len(known) ** 0.5 if len(known) > 1 else 0.0


def mean(values: Tensor) -> float | None:
    """Mean of what is finite; None of nothing. Of any shape."""
    known = values[values.isfinite()]
    return float(known.double().mean()) if len(known) else None
