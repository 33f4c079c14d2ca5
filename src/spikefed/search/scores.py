"""What a search calls good: scores of untrained networks, and figures to keep small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spikefed.errors import ConfigError
from spikefed.objects import nearest
from spikefed.search.candidate import Answers, Size
from spikefed.search.kernels import log_determinant


@dataclass(frozen=True)
class Score:
    """One figure of a candidate.

    Attributes:
        name: in the file and in tables.
        summary: one line.
        better: 1 where more is better, -1 where less is.
        of: the figure from a network's size and its answers, averaged over batches where it needs them.
        looks: whether images have to be shown.
        learns: it needs gradients, and is measured only where an objective asks for it (`saliency`).
        ranks: it compares all cells of a search, and is known at its end (`spikefed.search.with_ensemble`).
    """

    name: str
    summary: str
    better: int
    of: Callable[[Size, Sequence[Answers]], float]
    looks: bool = True
    learns: bool = False
    ranks: bool = False


def _later(size: Size, shown: Sequence[Answers]) -> float:
    raise NotImplementedError("this figure does not follow from one network's answers")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _sahd(size: Size, shown: Sequence[Answers]) -> float:
    return _mean([log_determinant(a.evidence.similar / a.evidence.calls) for a in shown])


def _hd(size: Size, shown: Sequence[Answers]) -> float:
    return _mean([log_determinant(a.evidence.agree / a.evidence.calls) for a in shown])


def _spikes(size: Size, shown: Sequence[Answers]) -> float:
    return _mean([a.image_spikes for a in shown])


def _sops(size: Size, shown: Sequence[Answers]) -> float:
    return _mean([a.image_sops for a in shown])


SCORES = {
    score.name: score
    for score in (
        Score("sahd", "log determinant of the sparsity-aware Hamming kernel [Kim et al. 2022]", 1, _sahd),
        Score("hd", "log determinant of the plain Hamming kernel [Mellor et al. 2021]", 1, _hd),
        Score("parameters", "numbers that are trained", 1, lambda size, _: float(size.parameters), looks=False),
        Score("macs", "multiply-accumulates of a dense inference", 1, lambda size, _: float(size.macs), looks=False),
        Score("spikes", "spikes an image of the untrained network", -1, _spikes),
        Score("sops", "weights that spikes touch, an image of the untrained network", -1, _sops),
        Score("snip", "sum of |w dL/dw| on labels drawn at random [Lee et al. 2019]", 1, _later, False, learns=True),
        Score("ensemble", "mean rank by sahd, macs and spikes; no gradient", 1, _later, False, ranks=True),
    )
}
"""All scores by name."""


@dataclass(frozen=True)
class Objective:
    """A score and which way is better: ``sahd``, or ``-parameters`` for few of them.

    Attributes:
        score: what is measured.
        sign: 1 to have much of it, -1 to have little.
    """

    score: Score
    sign: int

    @classmethod
    def parse(cls, text: str) -> Objective:
        """An objective as a file spells it; ``spikes`` alone means few, for that is better.

        Raises:
            ConfigError: no score of this name.
        """
        name = text[1:] if text[:1] in ("+", "-") else text
        if name not in SCORES:
            raise ConfigError(f"score '{name}' is not known; the nearest is '{nearest(name, SCORES)}'")
        score = SCORES[name]
        sign = {"-": -1, "+": 1}.get(text[:1], score.better)
        return cls(score, sign)

    def __str__(self) -> str:
        return ("" if self.sign == self.score.better else "+" if self.sign > 0 else "-") + self.score.name


def dominated(values: Sequence[Sequence[float]]) -> list[bool]:
    """Whether another row is nowhere worse and somewhere better; all figures the more the better."""
    return [
        any(all(b >= a for a, b in zip(row, other, strict=True)) and tuple(other) != tuple(row) for other in values)
        for row in values
    ]
