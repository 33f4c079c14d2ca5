"""FSD+ in miniature, to choose rules of voting by: small MLPs in place of spiking networks, eight federations at once.

    python scripts/vote_stand_in.py run [--data-dir DATA]   # results/fsd-skew/stand-in.json; a minute of one core
    python scripts/vote_stand_in.py table                   # the table of docs/results.md, from it

Fashion-MNIST mini under Dirichlet 0.1: 4 clients of 2,500 images on average, 2,000 public rows. An image is
its 60 first principal components, a network two layers with ten sigmoid outputs in [0, 1] for the firing rates, an
answer a bit a class, as with `groups = 1`. Votes, silence, rehearsal and the server's answer are those of FSD+.
Measured on 2,000 training images that are neither a client's nor public; no test image is looked at.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pages import filled
from torch import Tensor

import spikefed
from spikefed.data import dirichlet_partition, load
from spikefed.federated.balance import balanced
from spikefed.federated.methods.fsd import merge_weights
from spikefed.federated.methods.fsdplus import FsdPlus, FsdPlusHyperparameters
from spikefed.federated.rowvotes import vote_rows
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
KEPT = ROOT / "results" / "fsd-skew" / "stand-in.json"
BEGIN, END = "<!-- stand-in: made by scripts/vote_stand_in.py -->", "<!-- end of stand-in -->"
SEEDS = range(100, 108)
CLIENTS, CLASSES, PARTS, HIDDEN = 4, 10, 60, 96
PRIVATE, PUBLIC, UNUSED = 2500, 2000, 2000
ROUNDS, EPOCHS, BATCH, REHEARSED, SERVER_EPOCHS, SERVER_BATCH = 7, 2, 64, 16, 6, 80
LR, MILESTONE = 2e-3, 5
"""Learning rate; clients take a fifth of it after this round."""
HYPER = FsdPlusHyperparameters()
GOAL = FsdPlus()._goal(np.zeros((0, CLASSES, 1)), 1, HYPER)
"""Of trains of one step; its loss is what counts here."""


@dataclass(frozen=True)
class Rule:
    """What is tried.

    Attributes:
        name: as the table says it.
        silence: weight before the server has spoken.
        balance: of the target, see `spikefed.federated.balance`.
        rehearse: weight of a batch of public rows.
    """

    name: str
    silence: float = 4.0
    balance: float | None = None
    rehearse: float = 1.0

    def target(self, answers: dict[int, np.ndarray], accuracies: dict[int, float]) -> np.ndarray:
        """What the server learns, ``[P, C]``, of answers ``[P, C, 1]``."""
        known = {client: np.ones(len(said), dtype=bool) for client, said in answers.items()}
        merged = vote_rows(answers, known, merge_weights(accuracies), HYPER.confidence)[0].mean(axis=2)
        return merged if self.balance is None else balanced(merged, self.balance)


RULES = (
    Rule("the vote"),
    Rule("the vote as a distribution, classes as they are", balance=0.0),
    Rule("`balance = 1`", balance=1.0),
    Rule("`balance = 1`, `rehearse = 3`", balance=1.0, rehearse=3.0),
)


def components(data_dir: str | None) -> tuple[Tensor, Tensor]:
    """The training images as their first principal components float32 ``[N, 60]``, and their labels."""
    found = load("fashion-mnist", "train", data_dir)
    flat = found.images.reshape(len(found.images), -1).to(torch.float32) / 255.0
    flat -= flat.mean(dim=0)
    axes = torch.linalg.eigh(flat[:10_000].T @ flat[:10_000])[1][:, -PARTS:]
    parts = flat @ axes
    return parts / parts.std(), found.labels


class Networks:
    """Many networks of one shape that start alike: two layers, sigmoid outputs.

    Args:
        start: weights of one.
        count: how many.
    """

    def __init__(self, start: list[Tensor], count: int) -> None:
        self.weights = [w.repeat(count, 1, 1).requires_grad_() for w in start]

    def __call__(self, x: Tensor) -> Tensor:
        """Rates ``[M, B, C]`` of ``[M, B, 60]``."""
        a, b, c, d = self.weights
        return torch.sigmoid(torch.baddbmm(d, F.relu(torch.baddbmm(b, x, a)), c))

    @torch.no_grad()
    def right(self, x: Tensor, labels: Tensor) -> Tensor:
        """Accuracy of each, ``[M]``."""
        return (self(x).argmax(dim=-1) == labels).float().mean(dim=1)


def distillation(rates: Tensor, target: Tensor) -> Tensor:
    """FSD+'s loss, summed over networks, on those of their rows ``[M, B, C]`` on which the target fires at all."""
    said, goal = rates.flatten(0, 1), target.flatten(0, 1)
    heard = goal.any(dim=-1)
    return len(rates) * GOAL.loss(said[heard][None], goal[heard][:, :, None])


def rows_of(x: Tensor, index: Tensor) -> Tensor:
    """``x[m, index[m]]`` for every m."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


class Federations:
    """All seeds' federations under one rule.

    Args:
        rule: how the server votes, and what clients do beside their labels.
        images: all, ``[N, 60]``.
        labels: theirs.
    """

    def __init__(self, rule: Rule, images: Tensor, labels: Tensor) -> None:
        self.rule = rule
        self.draws = torch.Generator().manual_seed(SEEDS[0])
        public, unused, self.train, self.valid = [], [], [], []
        for seed in SEEDS:
            draws = np.random.default_rng(seed)
            order = draws.permutation(len(images))
            public.append(order[:PUBLIC])
            unused.append(order[PUBLIC : PUBLIC + UNUSED])
            private = order[PUBLIC + UNUSED :][: CLIENTS * PRIVATE]
            for part in dirichlet_partition(labels[private].numpy(), CLIENTS, 0.1, draws):
                own, cut = private[part], int(0.9 * len(part))
                self.train.append((images[own[:cut]], labels[own[:cut]]))
                self.valid.append((images[own[cut:]], labels[own[cut:]]))
        self.public, self.truth = images[np.stack(public)], labels[np.stack(public)]
        self.unused, self.unused_labels = images[np.stack(unused)], labels[np.stack(unused)]
        shares = torch.stack([torch.bincount(y, minlength=CLASSES) / len(y) for _, y in self.train])
        self.lacking = (shares < 0.1 / CLASSES).float().mean(dim=1)
        scales = [((PARTS, HIDDEN), (2 / PARTS) ** 0.5), ((HIDDEN, CLASSES), 0.5 * (2 / HIDDEN) ** 0.5)]
        first, last = (torch.randn(1, *shape, generator=self.draws) * scale for shape, scale in scales)
        start = [first, torch.zeros(1, 1, HIDDEN), last, torch.full((1, 1, CLASSES), -1.0)]
        self.clients, self.servers = Networks(start, len(self.train)), Networks(start, len(SEEDS))
        self.each = self.public.repeat_interleave(CLIENTS, 0)
        self.told: Tensor | None = None

    def train_clients(self, round: int) -> None:
        """Local epochs with rehearsal, or silence in the first round."""
        optim = torch.optim.Adam(self.clients.weights, lr=LR * (0.2 if round > MILESTONE else 1.0))
        for _ in range(EPOCHS * int(0.9 * PRIVATE / BATCH)):
            picks = [torch.randint(len(y), (BATCH,), generator=self.draws) for _, y in self.train]
            x = torch.stack([x[pick] for (x, _), pick in zip(self.train, picks, strict=True)])
            y = torch.stack([y[pick] for (_, y), pick in zip(self.train, picks, strict=True)])
            again = torch.randint(PUBLIC, (len(x), REHEARSED), generator=self.draws)
            rates, said = self.clients(torch.cat([x, rows_of(self.each, again)], dim=1)).split([BATCH, REHEARSED], 1)
            loss = BATCH**-1 * F.cross_entropy(HYPER.logit_scale * rates.flatten(0, 1), y.flatten(), reduction="sum")
            if self.told is None:
                loss = loss + self.rule.silence * (self.lacking * said.square().sum(dim=-1).mean(dim=1)).sum()
            else:
                loss = loss + self.rule.rehearse * distillation(said, rows_of(self.told, again))
            optim.zero_grad()
            loss.backward()
            optim.step()

    def vote(self) -> Tensor:
        """What the servers learn, ``[S, P, C]``."""
        with torch.no_grad():
            fired = (self.clients(self.each) >= 0.5).to(torch.uint8).reshape(len(SEEDS), CLIENTS, PUBLIC, CLASSES, 1)
            right = [float((self._one(i, x).argmax(-1) == y).float().mean()) for i, (x, y) in enumerate(self.valid)]
        targets = []
        for seed, said in enumerate(fired.numpy()):
            own = right[seed * CLIENTS : (seed + 1) * CLIENTS]
            targets.append(self.rule.target(dict(enumerate(said)), dict(enumerate(own))))
        return torch.from_numpy(np.stack(targets)).to(torch.float32)

    def _one(self, client: int, x: Tensor) -> Tensor:
        alone = Networks([w[client : client + 1].detach() for w in self.clients.weights], 1)
        return alone(x[None])[0]

    def train_servers(self, target: Tensor) -> None:
        """Distil, and answer with the servers' own firing."""
        optim = torch.optim.Adam(self.servers.weights, lr=LR)
        for _ in range(SERVER_EPOCHS):
            order = torch.stack([torch.randperm(PUBLIC, generator=self.draws) for _ in SEEDS])
            for batch in order.split(SERVER_BATCH, 1):
                said = self.servers(rows_of(self.public, batch))
                loss = distillation(said, rows_of(target, batch))
                optim.zero_grad()
                loss.backward()
                optim.step()
        with torch.no_grad():
            self.told = (self.servers(self.public) >= 0.5).float().repeat_interleave(CLIENTS, 0)

    def run(self) -> dict[str, Any]:
        """All rounds: accuracies in [0, 1], ``server`` by round and seed."""
        course = []
        target = torch.zeros(0)
        for round in range(1, ROUNDS + 1):
            self.train_clients(round)
            target = self.vote()
            self.train_servers(target)
            course.append(self.servers.right(self.unused, self.unused_labels).tolist())
        images, labels = (x.repeat_interleave(CLIENTS, 0) for x in (self.unused, self.unused_labels))
        own = self.clients.right(images, labels).reshape(len(SEEDS), CLIENTS).mean(dim=1)
        voted = (target.argmax(dim=-1) == self.truth).float().mean(dim=1)
        return {"server": course, "clients": own.tolist(), "target": voted.tolist()}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rule by rule, means over the seeds in %."""
    lines = [
        "| rule | server, round by round | server, last | least of the seeds | clients' own | right on public rows |"
    ]
    lines.append("|" + " --- |" * 6)
    for row in rows:
        last = [100 * share for share in row["server"][-1]]
        course = ", ".join(f"{100 * mean(shares):.1f}" for shares in row["server"])
        cells = [row["rule"], course, f"{mean(last):.1f} ± {stdev(last):.1f}", f"{min(last):.1f}"]
        cells += [f"{100 * mean(row[key]):.1f}" for key in ("clients", "target")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("--data-dir")
    commands.add_parser("table")
    args = parser.parse_args()
    if args.command == "table":
        told = json.loads(KEPT.read_text())
        PAGE.write_text(filled(PAGE.read_text(), BEGIN, END, "\n".join(table(told["rules"]))))
        return
    torch.set_num_threads(1)
    images, labels = components(args.data_dir)
    found = []
    for rule in RULES:
        found.append({"rule": rule.name, **Federations(rule, images, labels).run()})
        print(rule.name, f"{100 * mean(found[-1]['server'][-1]):.1f} %", flush=True)
    told = {"seeds": list(SEEDS), "spikefed": spikefed.__version__, "torch": torch.__version__, "rules": found}
    write_atomic(KEPT, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
