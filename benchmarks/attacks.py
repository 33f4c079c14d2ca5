"""EOT PGD on rate coding beside the same attack written with SpikingJelly: one thread, in turns in one process.

    python benchmarks/attacks.py [--images 50] [--draws 10] [--steps 2] [--rounds 5]

`small` at 1x28x28, T = 8, Bernoulli coding, straight through. SpikingJelly has a plain loop over draws: float32, the
gradient of the input alone, its coder's spikes with the gradient passed by hand; time step by time step (its default)
or all at once (step mode 'm'). EOT-10 PGD-20 on 1,000 images is 200 times what one round times with the defaults. A
figure is the median over rounds of (their processor time / ours) within the round, with its quartiles.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import provenance
import torch
from torch import Tensor, nn

from spikefed import data
from spikefed.networks import SpikingNetwork, build, network_info
from spikefed.neurons import ATan
from spikefed.training import Preprocess
from spikefed.training.attacks import Ball, Goal, Victim, pgd

EPS, STEPS = 8.0, 8


def ours(images: int) -> SpikingNetwork:
    """`small` with running statistics that let it fire."""
    neuron = replace(network_info("small").neuron, surrogate=ATan(2.0), strict=False)
    net = build("small", input_shape=(1, 28, 28), classes=10, steps=STEPS, coding="bernoulli", neuron=neuron)
    with torch.no_grad():
        for _ in range(20):
            net(torch.rand(images, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    return net.eval()


def theirs(net: SpikingNetwork, mode: str) -> nn.Module:
    """The same layers and weights in SpikingJelly."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    parts: list[nn.Module] = []
    for mine in net.layers:
        weight, norm = mine.weight, mine.norm
        assert norm is not None
        flat = weight.dim() == 2
        if flat and not any(isinstance(part, layer.Flatten) for part in parts):
            parts.append(layer.Flatten())
        made = (
            layer.Linear(weight.shape[1], weight.shape[0], bias=False)
            if flat
            else layer.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
        )
        made.weight.data.copy_(weight)
        bn = (layer.BatchNorm1d if flat else layer.BatchNorm2d)(weight.shape[0], eps=norm.eps)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(bn, name).data.copy_(getattr(norm, name))
        parts += [made, bn, neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=surrogate.ATan(alpha=2.0))]
        if mine.plan.pool:
            parts.append(layer.AvgPool2d(2))
    found = nn.Sequential(*parts).eval()
    functional.set_step_mode(found, mode)
    return found


class Straight(torch.autograd.Function):
    """Their coder's spikes, the gradient as it comes."""

    @staticmethod
    def forward(ctx, x: Tensor, spikes: Tensor) -> Tensor:
        return spikes

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def peer_attack(net: nn.Module, mode: str, ball: Ball, labels: Tensor, steps: int, draws: int) -> Tensor:
    """PGD with the mean gradient of the draws, as a user of SpikingJelly writes it."""
    from spikingjelly.activation_based import encoding, functional

    coder, x = encoding.PoissonEncoder(), ball.clean
    for _ in range(steps):
        total = torch.zeros_like(x)
        for _ in range(draws):
            leaf = x.clone().requires_grad_()
            unit = leaf / 255
            functional.reset_net(net)
            if mode == "m":
                out = net(torch.stack([Straight.apply(unit, coder(unit.detach())) for _ in range(STEPS)]))  # type: ignore
                rate = out.mean(0)
            else:
                rate = torch.stack([net(Straight.apply(unit, coder(unit.detach()))) for _ in range(STEPS)]).mean(0)
            loss = nn.functional.cross_entropy(rate, labels, reduction="sum")
            total += torch.autograd.grad(loss, leaf)[0]
        x = ball.step(x, total, 2.5 * EPS / 20)
    return x


def timed(work: Callable[[], Tensor]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    test = data.load_sources("fashion-mnist", given.data_dir).test
    ball, labels = Ball(test.images[: given.images].float(), EPS), test.labels[: given.images]
    net = ours(given.images)
    victim = Victim(net, Preprocess(), draws=given.draws, seed=0)
    goal = Goal(range(given.images), labels)
    mine = lambda: pgd(victim, ball, goal, steps=given.steps, size=2.5 * EPS / 20, start=False)  # noqa: E731
    found = {}
    for mode in ("s", "m"):
        peer = theirs(net, mode)
        other = lambda peer=peer, mode=mode: peer_attack(peer, mode, ball, labels, given.steps, given.draws)  # noqa: E731
        agree = float((mine() == other()).double().mean())  # signs of two samples of one expectation
        pairs = [(timed(other), timed(mine)) for _ in range(given.rounds)]
        ratios = sorted(a / b for a, b in pairs)
        quarter = len(ratios) // 4
        median = statistics.median(ratios)
        found["step by step" if mode == "s" else "all steps at once"] = {
            "median": median,
            "quartiles": [ratios[quarter], ratios[-1 - quarter]],
            "seconds": [statistics.median(each) for each in zip(*pairs, strict=True)],
            "pixels_alike": agree,
        }
        print(f"step mode {mode}: {median:.2f} times, quartiles {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}")
    setting = {key: getattr(given, key) for key in ("images", "draws", "steps", "rounds")}
    print(provenance.write(given.out, "attacks", {"setting": setting, "theirs_over_ours": found}, sys.argv))


if __name__ == "__main__":
    main()
