"""FGSM and PGD beside torchattacks and foolbox on an ANN twin: the same images but for rounding, the same accuracy."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikefed import data
from spikefed.training import Preprocess
from spikefed.training.attacks import Ball, Goal, Victim, apgd, fgsm, pgd

pytestmark = pytest.mark.filterwarnings("ignore")
PEERS = ("torchattacks", "foolbox")
COUNT = 200


FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """benchmarks/attack_peers.py, which compares on more images."""
    if not FOLDER.is_dir():
        pytest.skip("no checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("attack_peers")


@pytest.fixture(scope="module")
def world(bench) -> tuple[Victim, Tensor, Tensor]:
    sources = data.load_sources("digits")
    images, labels = sources.test.images[:COUNT].float(), sources.test.labels[:COUNT]
    return Victim(bench.trained(sources, epochs=6), Preprocess("signed")), images, labels


@pytest.mark.parametrize("eps", [2.0, 8.0])
@pytest.mark.parametrize("steps", [0, 10, 40], ids=["fgsm", "pgd-10", "pgd-40"])
@pytest.mark.parametrize("peer", PEERS)
def test_the_same_accuracy_within_half_a_point(world, bench, peer, steps, eps):
    victim, images, labels = world
    pytest.importorskip(peer, reason=f"{peer} is not installed (tests/requirements.txt)")
    found = bench.PEERS[peer](bench.Logits(victim.net).eval(), images, labels, eps, steps)
    ball, goal = Ball(images, eps), Goal(range(COUNT), labels)
    ours = pgd(victim, ball, goal, steps=steps, start=False) if steps else fgsm(victim, ball, goal)
    right = [(victim.judged(i, range(COUNT), 1)[0].argmax(1) == labels).double().mean() for i in (images, ours, found)]
    assert right[0] > 0.9 and abs(right[1] - right[2]) <= 0.005, right
    assert (ours - found).abs().median() < 1e-3


@pytest.mark.slow
def test_autoattack_is_no_better_than_apgd_here(world, bench):
    """AutoAttack (CE, targeted DLR, FAB, Square), within half a point of our APGD's two losses."""
    module = pytest.importorskip("torchattacks", reason="torchattacks is not installed (tests/requirements.txt)")
    victim, images, labels = world
    count, eps = 100, 16.0
    images, labels = images[:count], labels[:count]
    attack = module.AutoAttack(bench.Logits(victim.net).eval(), norm="Linf", eps=eps / 255, n_classes=10, seed=0)
    state = torch.get_rng_state()
    found = attack(images / 255, labels) * 255
    torch.set_rng_state(state)
    ball, goal = Ball(images, eps), Goal(range(count), labels)
    ours = [apgd(victim.but(loss=loss), ball, goal, steps=50) for loss in ("ce", "margin")]
    right = [victim.judged(i, range(count), 1)[0].argmax(1) == labels for i in (*ours, found)]
    worst, auto = float((right[0] & right[1]).double().mean()), float(right[2].double().mean())
    assert abs(worst - auto) <= 0.005, (worst, auto)
