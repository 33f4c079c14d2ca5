"""What learnt thresholds cost: training steps beside those of fixed ones, interleaved in one process, one thread.

    python benchmarks/thresholds.py [--net vgg9-bntt] [--shape 3x32x32] [--batch 8] [--steps 4] [--rounds 9] [--memory]

Cases: ``learnt``, thresholds a channel beside all weights; ``alone``, the same with weights and norms frozen and
running statistics in place of the batch's; ``adapters``, thresholds of one task's adapters, all else frozen. A figure
is the median over rounds of (processor time of the case / of the step with fixed thresholds) within the round, with its
quartiles.

With ``--memory`` a figure is the median over rounds of what a process of its own grows by in three steps, at its peak,
over that of the step with fixed thresholds: activations, gradients, buffers; network and images are there before.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import provenance
import torch
from torch import nn

from spikefed.networks import Norm, SpikingNetwork, adapt, build, learn_thresholds
from spikefed.training import rate_cross_entropy


def frozen(net: SpikingNetwork) -> SpikingNetwork:
    """All but the thresholds, running statistics included."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_("log_threshold" in name)
    for module in net.modules():
        if isinstance(module, Norm):
            module.eval()
    return net


def adapted(net: SpikingNetwork) -> nn.Module:
    """With one task's thresholds."""
    return adapt(net, ["thresholds"]).train()


CASES: dict[str, Callable[[SpikingNetwork], nn.Module]] = {
    "fixed": lambda net: net,
    "learnt": lambda net: learn_thresholds(net, "channel"),
    "alone": lambda net: frozen(learn_thresholds(net, "channel")),
    "adapters": adapted,
}


def trainer(case: str, name: str, shape: tuple[int, ...], batch: int, steps: int) -> Callable[[], float]:
    """A training step on one fixed batch; gives its processor seconds.

    Args:
        case: of `CASES`.
        name: of the network.
        shape: of an image.
        batch: images.
        steps: T.
    """
    net = CASES[case](build(name, input_shape=shape, classes=10, steps=steps))
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *shape, generator=draws)
    y = torch.randint(0, 10, (batch,), generator=draws)
    optim = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1e-3)

    def step() -> float:
        before = time.process_time()
        loss = rate_cross_entropy(net(x, generator=draws), y, 1.0)
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        return time.process_time() - before

    return step


def grown(case: str, name: str, shape: tuple[int, ...], batch: int, steps: int) -> int:
    """Bytes that this process grows by at its peak in three steps; to be called in a fresh one.

    Args:
        case: of `CASES`.
        name: of the network.
        shape: of an image.
        batch: images.
        steps: T.
    """
    torch.set_num_threads(1)
    step = trainer(case, name, shape, batch, steps)
    before = _kilobytes("VmRSS")
    for _ in range(3):
        step()
    return 1024 * (_kilobytes("VmHWM") - before)


def _kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def memory(name: str, shape: tuple[int, ...], batch: int, steps: int) -> dict[str, float]:
    """`grown` of every case, each in a process of its own.

    Args:
        name: of the network.
        shape: of an image.
        batch: images.
        steps: T.
    """
    # Blocks from 64 KiB on go back to the system when they are freed; kept ones would count as in use.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    found = {}
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[case] = float(pool.apply(grown, (case, name, shape, batch, steps)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="vgg9-bntt")
    parser.add_argument("--shape", default="3x32x32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", action="store_true", help="measure memory in the place of time")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    shape = tuple(map(int, given.shape.split("x")))
    if given.memory:
        rounds = [memory(given.net, shape, given.batch, given.steps) for _ in range(given.rounds)]
    else:
        run = {case: trainer(case, given.net, shape, given.batch, given.steps) for case in CASES}
        for each in run.values():
            each()
        rounds = [{case: each() for case, each in run.items()} for _ in range(given.rounds)]
    found: dict[str, dict] = {}
    for case in list(CASES)[1:]:
        ratios = sorted(one[case] / one["fixed"] for one in rounds)
        quarter = len(ratios) // 4
        found[case] = {"median": statistics.median(ratios), "quartiles": [ratios[quarter], ratios[-1 - quarter]]}
        print(f"{case}: {found[case]['median']:.3f} of the step with fixed thresholds, {found[case]['quartiles']}")
    setting = {key: getattr(given, key) for key in ("net", "shape", "batch", "steps", "rounds")}
    if given.memory:
        found["megabytes"] = {case: statistics.median(one[case] for one in rounds) / 1e6 for case in CASES}
        print(found["megabytes"])
    name = "thresholds-memory" if given.memory else "thresholds"
    print(provenance.write(given.out, name, {"setting": setting, "over_fixed": found}, sys.argv))


if __name__ == "__main__":
    main()
