"""Cells scored a second: ours against the released procedure on SpikingJelly's network, and the whole forward space.

    python benchmarks/search.py [--cells 8] [--rounds 9] [--width 16] [--side 28] [--steps 5] [--batch 64]
    python benchmarks/search.py --space [--workers 2] [--width 8] [--steps 4] [--batch 32]

The released procedure builds one network a cell, hooks its spiking layers, and adds a kernel at every call; both sides
score the same random forward cells on the same images, in turns within one process and one thread, and both keep freed
memory as `spikefed search` does. Ours are cells in the middle of a search: ``--before`` others have been scored, whose
beginnings are remembered. A figure is the median over rounds of (their processor time / ours), with its quartiles.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import provenance
import torch
from torch import Tensor, nn

from spikefed import native
from spikefed.networks.cells import Cell
from spikefed.search import Limits, Macro, Memory, Objective, Plan, Space, Task, answers, search
from spikefed.search.scores import SCORES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the adapter that the tests compare with


def theirs(cell: Cell, x: Tensor, given: argparse.Namespace) -> float:
    """The released procedure: score of one cell, float32 sums on the host as there."""
    from spikingjelly.activation_based import functional, neuron

    from networks.snasnet import narrow

    net = narrow(
        cell, side=given.side, classes=10, steps=given.steps, width=given.width, hidden=given.hidden, vote=1, pool=2
    )
    kernel = np.zeros((len(x), len(x)), dtype=np.float32)
    calls = 0

    def count(module: nn.Module, entered: object, out: Tensor) -> None:
        nonlocal calls
        codes = (out.reshape(len(out), -1) > 0).float()
        neurons = codes.shape[1]
        share = (codes.sum(1) / neurons).unsqueeze(1)
        expected = (share @ (1 - share.t()) + (1 - share) @ share.t()) * neurons
        apart = codes @ (1 - codes.t()) + (1 - codes) @ codes.t()
        kernel.__iadd__((neurons - 0.5 / (expected + 1e-3) * apart).numpy())
        calls += 1

    for module in net.modules():
        if isinstance(module, neuron.LIFNode):
            module.register_forward_hook(count)
    functional.reset_net(net)
    with torch.no_grad():
        net.train()(x)
    return float(np.linalg.slogdet(kernel / calls)[1])


def paired(given: argparse.Namespace) -> dict[str, Any]:
    """Processor time of the released procedure over ours, on the same cells."""
    draw = torch.Generator().manual_seed(0)
    space = Space(backward=False)
    x = torch.rand(given.batch, 3, given.side, given.side, generator=draw)
    macro = Macro(
        f"width={given.width},hidden={given.hidden},vote=1,pool=2", (3, given.side, given.side), 10, given.steps, {}
    )
    memory = Memory(512 << 20)

    def ours(cell: Cell) -> float:
        told = answers(macro.network(cell, 0), cell, [x], memory)
        return SCORES["sahd"].of(None, told)  # type: ignore[arg-type]

    def timed(score: Any, cells: Sequence[Cell]) -> float:
        before = time.process_time()
        for cell in cells:
            score(cell)
        return time.process_time() - before

    timed(ours, [space.draw(draw).canonical for _ in range(given.before)])
    timed(lambda cell: theirs(cell, x, given), [space.draw(draw)])
    ratios, rates = [], []
    for _ in range(given.rounds):
        cells = [space.draw(draw).canonical for _ in range(given.cells)]
        other = timed(lambda cell: theirs(cell, x, given), cells)
        own = timed(ours, cells)
        ratios.append(other / own)
        rates.append(given.cells / own)
        print(
            f"released {other / given.cells:.3f} s a cell, ours {own / given.cells:.3f} s: {other / own:.2f}x",
            flush=True,
        )
    quarter = len(ratios) // 4
    ordered = sorted(ratios)
    return {
        "released_over_ours": statistics.median(ratios),
        "quartiles": [ordered[quarter], ordered[-1 - quarter]],
        "cells_per_s": statistics.median(rates),
    }


def whole_space(given: argparse.Namespace) -> dict[str, Any]:
    """Every different forward cell once."""
    x = torch.rand(given.batch, 1, given.side, given.side, generator=torch.Generator().manual_seed(0))
    macro = Macro(f"width={given.width},hidden={given.hidden},vote=1", (1, given.side, given.side), 10, given.steps, {})
    plan = Plan(Space(backward=False), "exhaustive", (Objective.parse("sahd"),), given.limit, None, 0)
    began = time.perf_counter()

    def tell(new: object, asked: int, budget: int) -> None:
        if asked % 640 == 0:
            print(f"{asked} cells, {time.perf_counter() - began:.0f} s", flush=True)

    found = search(plan, Task(macro, 0, ((x,),), Limits()), [], tell, given.workers)
    return {
        "cells": len(found),
        "wall_s": time.perf_counter() - began,
        "processor_s": sum(record["seconds"] for record in found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", action="store_true")
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--before", type=int, default=64)
    parser.add_argument("--width", type=int)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    given.width = given.width or (8 if given.space else 16)
    given.steps = given.steps or (4 if given.space else 5)
    given.batch = given.batch or (32 if given.space else 64)
    torch.set_num_threads(1)
    native.keep_memory()
    found = whole_space(given) if given.space else paired(given)
    print(found)
    setting = {key: value for key, value in vars(given).items() if key != "out"}
    print(provenance.write(given.out, "search", {"setting": setting, **found}, sys.argv))


if __name__ == "__main__":
    main()
