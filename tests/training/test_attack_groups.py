"""Images that go through a network a few at a time: every one once, and the attack is the same."""

from __future__ import annotations

import pytest
import torch

from probes.subjects import network, subject
from spikefed.training import Preprocess
from spikefed.training.attacks import Ball, Goal, Victim, apgd, groups, pgd, square, through


@pytest.fixture
def small_room(monkeypatch):
    two = 2 * (4 * 4 * 8 * 8) * 4 * 2  # images of 4 maps of 8x8, float32, 4 steps, 2 draws
    monkeypatch.setattr(groups, "ROOM_BYTES", two)


def test_every_image_is_in_one_group(monkeypatch):
    net = network()
    monkeypatch.setattr(groups, "ROOM_BYTES", 1)
    for count in (1, 2, 7):
        rows = [row for part in groups.groups(net, count, 2) for row in range(part.start, part.stop)]
        assert rows == list(range(count)) and len(groups.groups(net, count, 2)) == count
    monkeypatch.setattr(groups, "ROOM_BYTES", 2**40)
    assert groups.groups(net, 7, 2) == [slice(0, 7)]


def test_images_that_see_each_other_stay_together(monkeypatch):
    monkeypatch.setattr(groups, "ROOM_BYTES", 1)
    assert groups.groups(network().train(), 7, 1) == [slice(0, 7)]
    assert groups.groups(torch.nn.Linear(2, 2).eval(), 7, 1) == [slice(0, 7)], "of another's network nothing is known"


@pytest.mark.parametrize("surrogate", ["own", "adaptive"])
@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_an_attack_by_groups_is_the_attack(coding, surrogate, small_room, monkeypatch):
    shown = subject(8)
    victim = Victim(network(coding=coding), Preprocess("unit"), seed=4, draws=2, scale=5.0)
    ball, goal = Ball(shown.images.float(), 11.3), Goal(range(8), shown.labels)

    def found() -> list[torch.Tensor]:
        with through(victim.net, surrogate):
            tried = [pgd(victim, ball, goal, steps=4), apgd(victim, ball, goal, steps=6)]
        return [*tried, square(victim, ball, goal, queries=5), victim.judged(ball.clean, range(8), 3)]

    parts = found()
    assert len(groups.groups(victim.net, 8, 2)) > 1
    monkeypatch.setattr(groups, "ROOM_BYTES", 2**40)
    assert all(torch.equal(a, b) for a, b in zip(parts, found(), strict=True))
