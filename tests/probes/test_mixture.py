"""A client's mix of classes from its answers: found where they betray it, not where all answer alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.probes import Subject, run_probe
from spikefed.probes.mixture import guesses
from spikefed.training import Preprocess

CLASSES = tuple("abcd")


class Says(nn.Module):
    """Spikes for a class with the probabilities of its mix; every image is worth one answer."""

    def __init__(self, mix: list[float]) -> None:
        super().__init__()
        self.mix = torch.tensor(mix)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        said = torch.multinomial(self.mix, len(x), True, generator=generator)
        return torch.eye(len(CLASSES))[said].unsqueeze(0)


def subject(mixes: list[list[float]]) -> Subject:
    pixels = torch.zeros(400, 1, 2, 2, dtype=torch.uint8)
    parts = []
    for mix in mixes:
        labels = torch.arange(4).repeat_interleave((100 * torch.tensor(mix)).round().long())
        parts.append(Subject(pixels[: len(labels)], labels, Preprocess(), CLASSES))
    return Subject(pixels, torch.zeros(400, dtype=torch.int64), Preprocess(), CLASSES, parts)


def found(mixes: list[list[float]], said: list[list[float]]):
    def clients() -> Iterator[tuple[int, nn.Module]]:
        yield from enumerate(Says(mix) for mix in said)

    return run_probe(nn.Identity(), subject(mixes), "mixture", clients=clients)


MIXES = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7]]


def test_answers_like_the_mix_betray_it() -> None:
    told = found(MIXES, MIXES)
    for row in told.records:
        assert float(row["distance_share"] or 0) < 0.1 < float(row["blind_distance_share"] or 0)
        assert row["largest_found"] == 1.0 and float(row["correlation"] or 0) > 0.95
    assert {row["upload"] for row in told.records} == {"outputs", "labels"}
    assert float(told.headline["told_share"] or 0) > 0.7


def test_equal_answers_betray_nothing() -> None:
    told = found(MIXES, [[0.25] * 4] * 4)
    assert abs(float(told.headline["told_share"] or 0)) < 0.15


def test_guesses_by_hand() -> None:
    made = guesses({0: torch.tensor([0.5, 0.5]), 1: torch.tensor([0.25, 0.75])})
    # usual (0.375, 0.625); ratios 4/3 and 0.8; 2/3 and 1.2
    assert made[0].tolist() == pytest.approx([0.625, 0.375], abs=1e-4)
    assert made[1].tolist() == pytest.approx([0.35714, 0.64286], abs=1e-4)


def test_networks_of_two_clients_are_needed() -> None:
    with pytest.raises(ConfigError, match="run.keep_clients = true"):
        run_probe(nn.Identity(), subject(MIXES), "mixture")
