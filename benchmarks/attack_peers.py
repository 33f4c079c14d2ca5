"""FGSM, PGD and the worst case beside torchattacks, foolbox and AutoAttack on an ANN twin: what accuracy each leaves.

    python benchmarks/attack_peers.py [--images 400] [--auto 100]

The ANN twin of `small`, five epochs on 4,000 images of Fashion-MNIST; steps of 2.5 eps / steps from the clean image on
all sides. Ours of the worst case: APGD with two losses, PGD, Square. Nothing is drawn; nothing is timed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import provenance
import torch
from torch import Tensor, nn

from spikefed import data
from spikefed.networks import ann_twin
from spikefed.training import Preprocess, optimiser, train
from spikefed.training.attacks import Ball, Goal, Victim, apgd, fgsm, pgd, square

ATTACKS = {"fgsm": 0, "pgd-10": 10, "pgd-40": 40}


class Logits(nn.Module):
    """The twin as the peers take it: images in [0, 1] to logits ``[B, C]``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(2 * x - 1)[0]


def trained(sources: Any, epochs: int = 5) -> nn.Module:
    """The ANN twin of `small` after some epochs on the first 4,000 images, in eval mode."""
    net = ann_twin("small", input_shape=tuple(sources.train.images.shape[1:]), classes=10, norm="none")
    loss = lambda out, y: nn.functional.cross_entropy(out[0], y)  # noqa: E731
    train(
        net,
        sources.train.images[:4000],
        sources.train.labels[:4000],
        loss,
        optimiser(net, "adam", 3e-3),
        epochs=epochs,
        batch_size=64,
        preprocess=Preprocess("signed"),
        generator=torch.Generator().manual_seed(0),
    )
    return net.eval()


def by_torchattacks(model: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int) -> Tensor:
    """Images of the peer, in pixels; steps 0 is FGSM."""
    import torchattacks

    size = 2.5 * eps / max(steps, 1) / 255
    pgd_ = torchattacks.PGD(model, eps=eps / 255, alpha=size, steps=steps, random_start=False)
    attack = pgd_ if steps else torchattacks.FGSM(model, eps=eps / 255)
    return attack(images / 255, labels) * 255


def by_foolbox(model: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int) -> Tensor:
    import foolbox

    size = 2.5 * eps / max(steps, 1) / 255
    pgd_ = foolbox.attacks.LinfPGD(abs_stepsize=size, steps=max(steps, 1), random_start=False)
    attack = pgd_ if steps else foolbox.attacks.LinfFastGradientAttack(random_start=False)
    fooled = foolbox.PyTorchModel(model, bounds=(0, 1))
    return attack(fooled, images / 255, labels, epsilons=eps / 255)[1] * 255


PEERS = {"torchattacks": by_torchattacks, "foolbox": by_foolbox}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--auto", type=int, default=100, help="images of AutoAttack and of our worst case, at 8 of 255")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    sources = data.load_sources("fashion-mnist", given.data_dir)
    victim = Victim(trained(sources), Preprocess("signed"))
    model = Logits(victim.net).eval()
    images, labels = sources.test.images[: given.images].float(), sources.test.labels[: given.images]

    def right(found: Tensor) -> Tensor:
        return victim.judged(found, range(len(found)), 1)[0].argmax(1) == labels[: len(found)]

    rows = [{"attack": "none", "eps": 0.0, "ours": float(right(images).double().mean())}]
    for eps in (2.0, 8.0):
        ball, goal = Ball(images, eps), Goal(range(len(images)), labels)
        for name, steps in ATTACKS.items():
            ours = pgd(victim, ball, goal, steps=steps, start=False) if steps else fgsm(victim, ball, goal)
            row: dict[str, Any] = {"attack": name, "eps": eps, "ours": float(right(ours).double().mean())}
            for peer, attack in PEERS.items():
                found = attack(model, images, labels, eps, steps)
                row[peer] = float(right(found).double().mean())
                row[f"{peer}_differ"] = float((right(found) != right(ours)).double().mean())
            rows.append(row)
            print(row, flush=True)
    if given.auto:
        rows.append(worst_case(victim, model, images[: given.auto], labels[: given.auto], 8.0, right))
        print(rows[-1], flush=True)
    setting = {key: getattr(given, key) for key in ("images", "auto")}
    peers = {name: provenance._version(name) for name in PEERS}
    content = {"setting": setting, "peers": peers, "accuracy": rows}
    print(provenance.write(given.out, "attack-peers", content, sys.argv))


def worst_case(victim: Victim, model: nn.Module, images: Tensor, labels: Tensor, eps: float, right: Any) -> dict:
    """Our worst case by image beside AutoAttack (APGD with cross-entropy, targeted APGD and FAB, Square)."""
    import torchattacks

    ball, goal = Ball(images, eps), Goal(range(len(images)), labels)
    tried = [apgd(victim.but(loss=loss), ball, goal, steps=50) for loss in ("ce", "margin")]
    tried += [pgd(victim, ball, goal, steps=40), square(victim, ball, goal, queries=100)]
    stands = torch.stack([right(found) for found in [images, *tried]]).all(dim=0)
    found = torchattacks.AutoAttack(model, norm="Linf", eps=eps / 255, n_classes=10, seed=0)(images / 255, labels) * 255
    row = {"attack": "worst case", "eps": eps, "ours": float(stands.double().mean())}
    return {**row, "autoattack": float((right(found) & right(images)).double().mean())}


if __name__ == "__main__":
    main()
