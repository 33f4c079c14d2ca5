"""Conversion, synthesis and PrivateSNN on Fashion-MNIST: one seed a call, results/data-free/fashion-seedS.json.

    python benchmarks/data_free.py SEED [--work FOLDER] [--digits | --cifar10] [--parts ann,conversions]

An ANN twin of ``small`` learns from 10,000 images; it and the ANN of the next seed (the judge of the audit) stay in the
work folder. Measured on 1,000 test images: every recipe and calibration at every T, SpikingJelly's converter on the
same network and images, PrivateSNN's training after the conversion, and what an attacker rebuilds from the weights.
Parts that the file of a seed has already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ann2snn_peer import peer, peer_outputs
from cases import measure
from torch import Tensor, nn

import spikefed
from spikefed.conversion import RECIPES, Retraining, convert, retrain, weight_changes
from spikefed.data import SynthesisPlan, SyntheticSet, synthesise
from spikefed.experiment import Federation, build, from_tree
from spikefed.models import Model
from spikefed.networks import ANNNetwork, relu_view

STEPS = (2, 4, 8, 16, 32, 64)
PEERS = ("max", "channel", "channel-half", "ltb")
"""Of `PEER_RECIPES`: max-half gives what max gives."""
CIFAR10 = {"dataset": "cifar10", "test_limit": 500}
MIDDLE = ("percentile", "local")
"""Recipes for class impressions."""
TREE: dict[str, Any] = {
    "name": "ann-fashion",
    "rounds": 6,
    "data": {
        "dataset": "fashion-mnist",
        "pooled": True,
        "private_per_client": 2500,
        "public": 2000,
        "test_limit": 1000,
    },
    "network": {"name": "small", "twin": "ann"},
    "training": {"local_epochs": 2},
    "method": {"name": "fedavg"},
    "run": {"threads": 1},
}


def on_cifar10(tree: dict[str, Any]) -> dict[str, Any]:
    """The same on CIFAR-10: 12 epochs, 500 test images, two recipes."""
    return {**tree, "name": "ann-cifar10", "rounds": 6, "data": {**tree["data"], **CIFAR10}}


def on_digits(tree: dict[str, Any], toy: bool) -> dict[str, Any]:
    """The same on 8x8 digits; as a toy in seconds."""
    data = {"dataset": "digits", "pooled": True, "public": 100, **({"test_limit": 100} if toy else {})}
    return {**tree, "name": "ann-digits", "rounds": 2 if toy else 8, "data": data}


class Study:
    """One seed."""

    def __init__(self, seed: int, work: Path, tree: dict[str, Any], toy: bool) -> None:
        self.seed = seed
        self.tree = tree
        self.work = work
        self.count = 40 if toy else 512
        self.steps = (2, 8) if toy else STEPS
        self.model = trained(tree, seed, work)
        federation: Federation = build(from_tree({**tree, "seed": seed}))
        self.test = self.model.preprocess(federation.test.images)
        self.labels = federation.test.labels
        rows = federation.split.clients[0].train[: self.count]
        self.real = federation.train.images[rows]
        shape = self.model.input_shape
        settings = {"shape": shape, "classes": self.model.facts.classes, "preprocess": self.model.preprocess}
        self.settings: dict[str, Any] = {**settings, "seed": seed}
        self.toy = toy
        self.brief = tree["data"]["dataset"] == "cifar10"

    @cached_property
    def judge(self) -> Model:
        """The ANN of the next seed."""
        return trained(self.tree, self.seed + 1, self.work)

    @cached_property
    def made(self) -> SyntheticSet:
        """Images by statistics, more than a calibration takes: PrivateSNN trains on them."""
        return self.images("statistics", 80 if self.toy else self.count if self.brief else 1000)

    def accuracy(self, outputs: Tensor) -> float:
        """Of mean outputs ``[N, C]``, percent."""
        return round(100 * float((outputs.argmax(1) == self.labels).double().mean()), 2)

    @torch.no_grad()
    def of(self, net: nn.Module) -> float:
        """Accuracy of a network, percent."""
        return self.accuracy(torch.cat([net(x).mean(0) for x in self.test.split(250)]))

    def images(self, kind: Any, count: int) -> SyntheticSet:
        """Synthetic images from the ANN."""
        plan = SynthesisPlan(kind, count, steps=20 if self.toy else 200)
        return synthesise(self.model.network, plan, **self.settings)

    def conversions(self) -> list[dict[str, Any]]:
        """Every recipe and calibration at every T."""
        sets = {"train": self.real, "statistics": self.made.images[: self.count]}
        if not self.brief:
            sets["impressions"] = self.images("impressions", self.count).images
        rows = []
        for calibration, images in sets.items():
            x = self.model.preprocess(images)
            for recipe in ("max", "local") if self.brief else RECIPES if calibration != "impressions" else MIDDLE:
                for steps in self.steps if recipe in ("max", "local") else self.steps[:5]:
                    net = convert(self.model.network, x, steps=steps, recipe=recipe).network  # type: ignore[arg-type]
                    told = {"calibration": calibration, "recipe": recipe, "steps": steps}
                    rows.append({**told, "accuracy": self.of(net)})
        return rows

    def plain_conversions(self) -> list[dict[str, Any]]:
        """Without compensation, for what it is worth."""
        rows = []
        x = self.model.preprocess(self.real)
        for recipe in ("channel", "local"):
            for steps in self.steps[:4]:
                net = convert(self.model.network, x, steps=steps, recipe=recipe, compensate=False).network
                rows.append({"recipe": recipe, "steps": steps, "accuracy": self.of(net)})
        return rows

    def peers(self) -> list[dict[str, Any]]:
        """SpikingJelly's recipes on the same real images."""
        rows = []
        ann = self.model.network
        assert isinstance(ann, ANNNetwork)
        for recipe in PEERS:
            net = peer(ann, self.model.preprocess(self.real), recipe)
            parts = [peer_outputs(net, x, self.steps) for x in self.test.split(500)]
            for steps in self.steps:
                outputs = torch.cat([part[steps] for part in parts])
                rows.append({"recipe": recipe, "steps": steps, "accuracy": self.accuracy(outputs)})
        return rows

    def private(self) -> list[dict[str, Any]]:
        """PrivateSNN: converted on synthetic images, trained on with what the ANN says of them, attacked."""
        made = self.made
        rows = []
        for recipe in ("max", "local"):
            for steps in self.steps[:3]:
                x = self.model.preprocess(made.images[: self.count])
                net = convert(self.model.network, x, steps=steps, recipe=recipe).network
                before = convert(self.model.network, x, steps=steps, recipe=recipe).network
                for lr in (1e-3, 5e-3):
                    net.load_state_dict(before.state_dict())
                    draws = torch.Generator().manual_seed(self.seed)
                    plan = Retraining(epochs=2 if self.toy else 10, lr=lr)
                    options = {"preprocess": self.model.preprocess, "generator": draws}
                    retrain(net, made.images, made.outputs, plan, **options)
                    told = {"recipe": recipe, "steps": steps, "lr": lr}
                    told |= {"before": self.of(before), "after": self.of(net), "ann_view": self.of(relu_view(net))}
                    weights = [row for row in weight_changes(before, net) if str(row["tensor"]).endswith("weight")]
                    told |= {"weights": weights}
                    if steps == self.steps[:3][-1] and lr == 5e-3:
                        told |= {"hits_before": self.hits(relu_view(before)), "hits": self.hits(relu_view(net))}
                        told |= {"hits_through_spikes": self.hits(net)}
                    rows.append(told)
        return rows

    def hits(self, net: nn.Module) -> float:
        """Share of images rebuilt from a network of which the judge says the class that was asked for, percent."""
        plan = SynthesisPlan("impressions", 20 if self.toy else 100, steps=20 if self.toy else 200, scale=0.1)
        found = synthesise(net, plan, **self.settings)
        said = self.judge.outputs(found.images).mean(2).argmax(1)
        return round(100 * float((said == found.targets.argmax(1)).double().mean()), 2)


def trained(tree: dict[str, Any], seed: int, work: Path) -> Model:
    """The ANN of a seed; trained once."""
    out = work / f"ann-{tree['data']['dataset']}-seed{seed}"
    if not (out / "result.json").is_file():
        spikefed.run({**tree, "seed": seed}, out=out)
    return spikefed.load_model(out)


def main() -> None:
    """See the module."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int)
    parser.add_argument("--work", type=Path, default=Path("runs/data-free"))
    parser.add_argument("--out", type=Path, default=Path("results/data-free"))
    parser.add_argument("--small", action="store_true", help="a toy, for tests")
    parser.add_argument("--digits", action="store_true", help="8x8 digits in place of Fashion-MNIST")
    parser.add_argument("--cifar10", action="store_true", help="CIFAR-10 in place of Fashion-MNIST")
    parser.add_argument("--parts", help="these alone, such as ann,spikingjelly")
    args = parser.parse_args()
    torch.set_num_threads(1)
    name = "toy" if args.small else "digits" if args.digits else "cifar10" if args.cifar10 else "fashion"
    tree = on_cifar10(TREE) if args.cifar10 else on_digits(TREE, args.small) if args.small or args.digits else TREE
    study = Study(args.seed, args.work, tree, args.small)
    parts = {
        "ann": lambda: study.of(study.model.network),
        "judge": lambda: study.of(study.judge.network),
        "agreement": lambda: study.made.agreement,
        "conversions": study.conversions,
        "private": study.private,
        "spikingjelly": study.peers,
        "not_compensated": study.plain_conversions,
    }
    wanted = args.parts.split(",") if args.parts else list(parts)
    file = args.out / f"{name}-seed{args.seed}.json"
    check_network(file, study)
    measure(file, args.seed, {part: parts[part] for part in wanted})


def check_network(file: Path, study: Study) -> None:
    """Stop if the file speaks of an ANN of another accuracy."""
    told = json.loads(file.read_text()).get("ann") if file.is_file() else None
    if told is not None and told != study.of(study.model.network):
        raise SystemExit(f"{file} is about an ANN of {told} %, and this one is another; remove the file to begin anew")


if __name__ == "__main__":
    main()
