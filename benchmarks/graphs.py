"""Training steps and peak memory of networks that branch, beside SpikingJelly's, interleaved in one process.

    python benchmarks/graphs.py --nets resnet19,cell --rounds 7
    python benchmarks/graphs.py --memory

`resnet19` is SpikingJelly's layers in multi-step mode in the places of our graph; `cell` is SpikingJelly's own SNASNet
with its released CIFAR10 cell, at a width of 32. Same weights, same equations; float32; one thread. A figure is the
median over rounds of (SpikingJelly's processor time / ours) within the round. Memory is the highest resident size of a
process of its own over three steps, less its size before the first one.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: threads must not spin beside other work

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import provenance
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed import native
from spikefed.networks import GraphNetwork, build
from spikefed.networks.cells import CIFAR10
from spikefed.networks.graph import INPUT, in_order

STEPS, BATCH, SHAPE = 5, 16, (3, 32, 32)
PEER = "spikingjelly"
OURS = ("spikefed", "spikefed bf16")
Step = Callable[[], float]


class Peer(nn.Module):
    """The graph without ways back in time, made of SpikingJelly's layers in multi-step mode."""

    def __init__(self, net: GraphNetwork) -> None:
        super().__init__()
        self.graph, self.steps = net.graph, net.steps
        self.parts = nn.ModuleDict()
        for node in in_order(net.graph):
            self.parts[node.name.replace(".", "_")] = _theirs(net.get_submodule(node.name))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, averaged over time."""
        from spikingjelly.activation_based import functional

        functional.reset_net(self)
        values = {INPUT: x.unsqueeze(0).expand(self.steps, *x.shape)}
        for node in in_order(self.graph):
            first, *rest = [values[edge.source] for edge in self.graph.into(node.name)]
            for other in rest:
                first = first + other
            values[node.name] = self.parts[node.name.replace(".", "_")](first)
        return values[self.graph.output].mean(0)


def _theirs(ours: Any) -> nn.Sequential:
    """SpikingJelly's layers for one of ours, with its weights."""
    from spikingjelly.activation_based import layer, neuron, surrogate

    plan, made = ours.plan, []
    if plan.kind == "conv":
        sizes = (plan.in_shape[0], plan.map_shape[0], plan.kernel, plan.stride, plan.kernel // 2)
        made.append(layer.Conv2d(*sizes, bias=ours.bias is not None, step_mode="m"))
    elif plan.kind == "linear":
        made.append(layer.Flatten(step_mode="m"))
        made.append(layer.Linear(ours.weight.shape[1], len(ours.weight), bias=ours.bias is not None, step_mode="m"))
    if plan.kind != "pass":
        made[-1].load_state_dict({k: v for k, v in ours.state_dict().items() if k in ("weight", "bias")})
    if ours.norm is not None:
        norm = layer.BatchNorm2d if len(plan.map_shape) == 3 else layer.BatchNorm1d
        made.append(norm(plan.map_shape[0], step_mode="m"))
    if ours.neuron is not None:
        made.append(
            neuron.LIFNode(
                tau=1 / ours.neuron.gain,
                decay_input=True,
                v_threshold=ours.neuron.v_threshold,
                v_reset=0.0,
                surrogate_function=surrogate.ATan(),
                detach_reset=ours.neuron.detach_reset,
                step_mode="m",
            )  # fmt: skip
        )
    if plan.pool:
        made.append(layer.AvgPool2d(plan.window.size or plan.map_shape[1], step_mode="m"))
    return nn.Sequential(*made)


def networks(name: str) -> tuple[GraphNetwork, Callable[[], nn.Module]]:
    """Our network, and how to make SpikingJelly's with its weights."""
    torch.manual_seed(0)
    if name == "resnet19":
        net = build("resnet19", input_shape=SHAPE, classes=10, steps=STEPS, seed=0, readout="current")
        assert isinstance(net, GraphNetwork)
        return net, lambda: Peer(net)
    from networks import snasnet

    sizes = {"width": 32, "hidden": 1024, "vote": 10, "pool": 4}
    text = ",".join(f"{key}={value}" for key, value in sizes.items())
    name = f"cell:{CIFAR10}:{text},dropout=0"
    net = build(name, input_shape=SHAPE, classes=10, steps=STEPS, seed=0, readout="current")
    assert isinstance(net, GraphNetwork)

    def theirs() -> nn.Module:
        made = snasnet.narrow(CIFAR10, side=SHAPE[1], classes=10, steps=STEPS, **sizes)
        snasnet.take(made, net, CIFAR10)
        return _Resetting(made)

    return net, theirs


class _Resetting(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        from spikingjelly.activation_based import functional

        functional.reset_net(self.net)
        return self.net(x)


def step_of(model: Callable[[Tensor], Tensor], net: nn.Module, bf16: bool = False) -> Step:
    """One step of SGD on one fixed batch."""
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(BATCH, *SHAPE, generator=draw), torch.randint(0, 10, (BATCH,), generator=draw)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(x).float(), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def variant(name: str, which: str) -> Step:
    """A training step of one variant."""
    net, theirs = networks(name)
    if which == PEER:
        made = theirs()
        return step_of(made, made)
    return step_of(lambda x: net(x).mean(0), net, which.endswith("bf16"))


def measure(name: str, rounds: int, wanted: list[str]) -> list[dict[str, Any]]:
    """Rounds of one step each; the first warms up."""
    steps = {which: variant(name, which) for which in (PEER, *wanted)}
    losses = {which: step() for which, step in steps.items()}
    times: dict[str, list[float]] = {which: [] for which in steps}
    for _ in range(rounds):
        for which, step in steps.items():
            start = time.process_time()
            step()
            times[which].append(time.process_time() - start)
    rows = []
    for which in steps:
        ratios = [a / b for a, b in zip(times[PEER], times[which], strict=True)]
        rows.append(
            {
                "variant": which,
                "ms": round(statistics.median(times[which]) * 1e3, 1),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_low": round(min(ratios), 3),
                "ratio_high": round(max(ratios), 3),
                "first_loss": losses[which],
            }
        )
    return rows


def _child(pipe: Connection, name: str, which: str) -> None:
    torch.set_num_threads(1)
    step = variant(name, which)
    before = native.resident_bytes()
    for _ in range(3):
        step()
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20)


def memory(name: str, wanted: list[str]) -> list[dict[str, Any]]:
    """Megabytes of a step, each variant in a process of its own."""
    context, rows = multiprocessing.get_context("spawn"), []
    for which in (PEER, *wanted):
        here, there = context.Pipe()
        child = context.Process(target=_child, args=(there, name, which))
        child.start()
        there.close()
        rows.append({"variant": which, "step_mb": round(here.recv(), 1)})
        child.join()
    for row in rows:
        row["part"] = round(row["step_mb"] / rows[0]["step_mb"], 3)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="resnet19,cell")
    parser.add_argument("--variants", default=",".join(OURS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    native.keep_memory()
    results = []
    for name in given.nets.split(","):
        wanted = given.variants.split(",")
        rows = memory(name, wanted) if given.memory else measure(name, given.rounds, wanted)
        results.append({"net": name, "steps": STEPS, "batch": BATCH, "shape": SHAPE, "rows": rows})
        print(f"\n{name}")
        for row in rows:
            print("  " + "   ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    kind = "graphs-memory" if given.memory else "graphs"
    print(f"\nwritten: {provenance.write(given.out, kind, {'results': results, 'rounds': given.rounds}, sys.argv)}")


if __name__ == "__main__":
    main()
