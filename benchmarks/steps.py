"""Training and inference steps of spikefed beside its peers, interleaved in one process.

    python benchmarks/steps.py --nets small,vgg9 --threads 1

Rounds go A B C ... A B C ...; a figure is the median over rounds of (time of the reference / time of the variant)
within the round, so slow drifts of a shared machine cancel. With one thread the times are CPU times, with more they
are wall times. One JSON file with provenance goes to results/bench/. Peers that are not installed are left out with a
line that says so.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: threads must not spin beside other work

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nets
import provenance
import torch
import torch.nn.functional as F
from nets import Layout
from torch import Tensor, nn

from spikefed import native
from spikefed.neurons import paths, use_kernels

REFERENCE = "spikingjelly"
Step = Callable[[], float]


def trainer(model: nn.Module, x: Tensor, y: Tensor, bf16: bool, mode: str = "auto") -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step() -> float:
        with use_kernels(mode):  # type: ignore[arg-type]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(x).float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return step


def _settle(model: nn.Module, x: Tensor) -> None:
    """Running statistics of the batch itself: with the initial ones an untrained network would be silent."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm | nets.Ours)]
    before = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(x)
    for m, momentum in zip(norms, before, strict=True):
        m.momentum = momentum


def inference(model: nn.Module, x: Tensor, y: Tensor, bf16: bool, mode: str = "auto") -> Step:
    _settle(model, x)
    model.eval()

    def step() -> float:
        with use_kernels(mode), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):  # type: ignore[arg-type]
            return F.cross_entropy(model(x).float(), y).item()

    return step


def alone(layout: Layout, dtype: torch.dtype, training: bool) -> Step:
    control = nets.ConvsAlone(layout, dtype)

    def step() -> float:
        for p in control.weights:
            p.grad = None
        with torch.set_grad_enabled(training):
            control.run(training)
        return float("nan")

    return step


def variants(layout: Layout, training: bool, wanted: list[str] | None) -> dict[str, Step]:
    """Name -> one step. The reference comes first."""
    x, y = nets.batch(layout)
    run = trainer if training else inference
    table: dict[str, tuple[str | None, Callable[[], Step]]] = {
        "spikingjelly": ("spikingjelly", lambda: run(nets.spikingjelly(layout), x, y, False)),
        "spikingjelly single step": ("spikingjelly", lambda: run(nets.spikingjelly(layout, single=True), x, y, False)),
        "spikingjelly bf16": ("spikingjelly", lambda: run(nets.spikingjelly(layout), x, y, True)),
        "snntorch": ("snntorch", lambda: run(nets.snntorch(layout), x, y, False)),
        "norse": ("norse", lambda: run(nets.norse(layout), x, y, False)),
        "plain loop": (None, lambda: run(nets.plain(layout), x, y, False)),
        "ann twin": (None, lambda: run(nets.ann(layout), x, y, False)),
        "convs alone": (None, lambda: alone(layout, torch.float32, training)),
        "convs alone bf16": (None, lambda: alone(layout, torch.bfloat16, training)),
        "spikefed reference": (None, lambda: run(nets.Ours(layout), x, y, False, "reference")),
        "spikefed": (None, lambda: run(nets.Ours(layout), x, y, False)),
        "spikefed dense": (None, lambda: _dense(run(nets.Ours(layout), x, y, False))),
        "spikefed bf16": (None, lambda: run(nets.Ours(layout), x, y, True)),
        "spikefed rectangle": (None, lambda: run(nets.Ours(layout, "rectangle"), x, y, False)),
        "spikefed rectangle bf16": (None, lambda: run(nets.Ours(layout, "rectangle"), x, y, True)),
    }
    made = {}
    for name, (package, make) in table.items():
        if wanted is not None and name not in wanted:
            continue
        if package and not nets.have(package):
            print(
                f"  left out: {name} ({package} is not installed; pip install --no-deps -r benchmarks/requirements.txt)"
            )
        else:
            made[name] = make()
    return made


def _dense(step: Step) -> Step:
    """The same without event lists."""

    def run() -> float:
        names = ("FLOAT32_LIMIT", "FLOAT32_WEIGHT_LIMIT", "BF16_LIMIT", "BF16_WEIGHT_LIMIT", "AMX_WEIGHT_LIMIT")
        limits = {name: getattr(paths, name) for name in names}
        for name in names:
            setattr(paths, name, -1.0)
        try:
            return step()
        finally:
            for name, limit in limits.items():
                setattr(paths, name, limit)

    return run


def measure(
    steps: dict[str, Step], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds per round of every variant, and the loss of each one's first step."""
    losses = {name: step() for name, step in steps.items()}  # also the warm-up
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = clock()
            step()
            times[name].append(clock() - start)
    return times, losses


def table(times: dict[str, list[float]], reference: str) -> list[dict[str, float | str]]:
    base = times[reference]
    rows: list[dict[str, float | str]] = []
    for name, seconds in times.items():
        ratios = [b / s for b, s in zip(base, seconds, strict=True)]
        rows.append(
            {
                "variant": name,
                "ms": round(statistics.median(seconds) * 1e3, 2),
                "ratio": round(statistics.median(ratios), 3),
                "ratio_low": round(min(ratios), 3),
                "ratio_high": round(max(ratios), 3),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="small,vgg9,cifarnet")
    parser.add_argument("--threads", default="1", help="comma list, for example 1,2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", default="train", help="train, infer, or both by comma")
    parser.add_argument("--variants", help="comma list of names (default: all)")
    parser.add_argument(
        "--keep-memory", action="store_true", help="let the allocator keep freed memory (all variants gain)"
    )
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    if given.keep_memory:
        native.keep_memory()
    results = []
    for name in given.nets.split(","):
        for threads in map(int, given.threads.split(",")):
            for task in given.tasks.split(","):
                torch.set_num_threads(threads)
                wanted = given.variants.split(",") if given.variants else None
                steps = variants(nets.LAYOUTS[name], task == "train", wanted)
                times, losses = measure(steps, given.rounds, time.process_time if threads == 1 else time.perf_counter)
                rows = table(times, REFERENCE if REFERENCE in times else next(iter(times)))
                results.append(
                    {
                        "net": name,
                        "threads": threads,
                        "task": task,
                        "clock": "cpu" if threads == 1 else "wall",
                        "rows": rows,
                    }
                )
                print(f"\n{name}, {task}, {threads} thread(s)")
                for row in rows:
                    print(
                        "  {variant:26} {ms:9.1f} ms   x {ratio:6.2f}  [{ratio_low:.2f}, {ratio_high:.2f}]".format(
                            **row
                        ),
                        end="",
                    )
                    print(f"   first loss {losses[row['variant']]:.4f}", flush=True)  # type: ignore[index]
    path = provenance.write(given.out, "steps", {"results": results, "rounds": given.rounds}, sys.argv)
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
