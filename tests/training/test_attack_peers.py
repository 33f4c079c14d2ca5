"""FGSM and PGD beside torchattacks and foolbox on an ANN twin: the same images but for rounding, the same accuracy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikefed import data
from spikefed.networks import ann_twin
from spikefed.training import Preprocess, optimiser, train
from spikefed.training.attacks import Ball, Goal, Victim, apgd, fgsm, pgd

pytestmark = pytest.mark.filterwarnings("ignore")
PEERS = ("torchattacks", "foolbox")
COUNT = 200


class Logits(nn.Module):
    """The twin as the peers take it: images in [0, 1] to logits ``[B, C]``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(2 * x - 1)[0]


@pytest.fixture(scope="module")
def world() -> tuple[Victim, Tensor, Tensor]:
    sources = data.load_sources("digits")
    net = ann_twin("small", input_shape=(1, 8, 8), classes=10, norm="none")
    loss = lambda out, y: nn.functional.cross_entropy(out[0], y)  # noqa: E731
    train(
        net,
        sources.train.images,
        sources.train.labels,
        loss,
        optimiser(net, "adam", 3e-3),
        epochs=6,
        batch_size=64,
        preprocess=Preprocess("signed"),
        generator=torch.Generator().manual_seed(0),
    )
    images, labels = sources.test.images[:COUNT].float(), sources.test.labels[:COUNT]
    return Victim(net.eval(), Preprocess("signed")), images, labels


def theirs(peer: str, net: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int) -> Tensor:
    """Images of the peer, in pixels; steps 0 is FGSM."""
    module: Any = pytest.importorskip(peer, reason=f"{peer} is not installed (tests/requirements.txt)")
    model, unit, size = Logits(net).eval(), images / 255, 2.5 * eps / max(steps, 1) / 255
    if peer == "torchattacks":
        if steps:
            attack = module.PGD(model, eps=eps / 255, alpha=size, steps=steps, random_start=False)
        else:
            attack = module.FGSM(model, eps=eps / 255)
        return attack(unit, labels) * 255
    fooled = module.PyTorchModel(model, bounds=(0, 1))
    if steps:
        attack = module.attacks.LinfPGD(abs_stepsize=size, steps=steps, random_start=False)
    else:
        attack = module.attacks.LinfFastGradientAttack(random_start=False)
    return attack(fooled, unit, labels, epsilons=eps / 255)[1] * 255


@pytest.mark.parametrize("eps", [2.0, 8.0])
@pytest.mark.parametrize("steps", [0, 10, 40], ids=["fgsm", "pgd-10", "pgd-40"])
@pytest.mark.parametrize("peer", PEERS)
def test_the_same_accuracy_within_half_a_point(world, peer, steps, eps):
    victim, images, labels = world
    found = theirs(peer, victim.net, images, labels, eps, steps)
    ball, goal = Ball(images, eps), Goal(range(COUNT), labels)
    ours = pgd(victim, ball, goal, steps=steps, start=False) if steps else fgsm(victim, ball, goal)
    right = [(victim.judged(i, range(COUNT), 1)[0].argmax(1) == labels).double().mean() for i in (images, ours, found)]
    assert right[0] > 0.9 and abs(right[1] - right[2]) <= 0.005, right
    assert (ours - found).abs().median() < 1e-3


@pytest.mark.slow
def test_autoattack_is_no_better_than_apgd_here(world):
    """AutoAttack (CE, targeted DLR, FAB, Square), within half a point of our APGD's two losses."""
    module = pytest.importorskip("torchattacks", reason="torchattacks is not installed (tests/requirements.txt)")
    victim, images, labels = world
    count, eps = 100, 16.0
    images, labels = images[:count], labels[:count]
    attack = module.AutoAttack(Logits(victim.net).eval(), norm="Linf", eps=eps / 255, n_classes=10, seed=0)
    state = torch.get_rng_state()
    found = attack(images / 255, labels) * 255
    torch.set_rng_state(state)
    ball, goal = Ball(images, eps), Goal(range(count), labels)
    ours = [apgd(victim.but(loss=loss), ball, goal, steps=50) for loss in ("ce", "margin")]
    right = [victim.judged(i, range(count), 1)[0].argmax(1) == labels for i in (*ours, found)]
    worst, auto = float((right[0] & right[1]).double().mean()), float(right[2].double().mean())
    assert abs(worst - auto) <= 0.005, (worst, auto)
