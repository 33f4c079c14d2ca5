"""Everything the GPU path has to show, in one call: checks, steps, memory, batched clients, a paper-scale round.

    python benchmarks/gpu.py                # on a machine with a CUDA GPU
    python benchmarks/gpu.py --dry-run      # toy sizes on the CPU: shows that the script runs; its times mean nothing

Times are medians over rounds, the variants interleaved, between synchronisations. One JSON file with provenance goes to
results/bench/. Without a GPU, and without --dry-run, it ends with status 2 and measures nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nets
import provenance
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.networks import build
from spikefed.neurons import LIFParameters, norm_lif, use_kernels
from spikefed.training.batched import StackedNetworks
from spikefed.training.graphs import GraphedStep, optimiser_state

Step = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of a whole call."""

    device: str
    rounds: int
    batches: tuple[int, ...]
    clients: int
    matrix: int
    nets: tuple[str, ...]
    spare: bool  # leave out what only a GPU can do in reasonable time


GPU = Scale("cuda", 9, (64, 128, 256, 512), 32, 8192, ("vgg9", "cifarnet"), False)
DRY = Scale("cpu", 1, (2,), 3, 64, ("toy",), True)
TOY = nets.Layout((8, "P", 16, "P"), (16,), (3, 8, 8), 2, steps=2)


def wait(scale: Scale) -> None:
    if scale.device == "cuda":
        torch.cuda.synchronize()


def timed(steps: dict[str, Step], scale: Scale) -> dict[str, float]:
    """Median milliseconds of each step, interleaved; nan for one that fails (the reason is printed)."""
    times: dict[str, list[float]] = {}
    for name, step in steps.items():
        try:
            for _ in range(3):
                step()
            wait(scale)
            times[name] = []
        except (RuntimeError, ImportError, NotImplementedError) as error:
            print(f"    {name}: {str(error).splitlines()[0][:120]}")
    for _ in range(scale.rounds):
        for name, seconds in times.items():
            wait(scale)
            start = time.perf_counter()
            steps[name]()
            wait(scale)
            seconds.append(time.perf_counter() - start)
    return {name: round(statistics.median(times[name]) * 1e3, 3) if name in times else float("nan") for name in steps}


def check(scale: Scale) -> list[dict[str, Any]]:
    """Every surrogate, neuron and norm on the device against the reference."""
    rows, generator = [], torch.Generator().manual_seed(0)
    for norm in ("none", "bn", "tdbn", "bntt"):
        for kind in ("hard", "soft"):
            for surrogate in ("rectangle", "triangle", "atan"):
                for pool in (False, True):
                    p = LIFParameters(kind=kind, decay=0.6, v_threshold=0.8, surrogate=surrogate)  # type: ignore[arg-type]
                    x = torch.randn(20, 24, 6, 6, generator=generator).to(scale.device)
                    up = torch.randn(20, 24, *([3, 3] if pool else [6, 6]), generator=generator).to(scale.device)
                    found = []
                    for mode in ("auto", "reference"):
                        leaf = x.clone().contiguous(memory_format=torch.channels_last).requires_grad_()
                        with use_kernels(mode):  # type: ignore[arg-type]
                            out = norm_lif(leaf, p, steps=5, norm=norm, pool=pool)  # type: ignore[arg-type]
                        (grad,) = torch.autograd.grad(out, leaf, up)
                        found.append((out.detach(), grad))
                    (out, grad), (wanted_out, wanted) = found
                    rows.append({
                        "norm": norm, "kind": kind, "surrogate": surrogate, "pool": pool,
                        "spikes_that_differ": int((out != wanted_out).sum()),
                        "gradient_error": float((grad - wanted).abs().max() / wanted.abs().max()),
                    })  # fmt: skip
    bad = [r for r in rows if r["spikes_that_differ"] or r["gradient_error"] > 1e-4]
    print(f"  {len(rows)} combinations, {len(bad)} differ" + "".join(f"\n    {r}" for r in bad))
    return rows


def peaks(scale: Scale) -> dict[str, float]:
    """TFLOP/s of square matrix products, TB/s of a copy."""
    n, found = scale.matrix, {}
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(n, n, device=scale.device, dtype=dtype) for _ in range(2))
        found[f"tflops_{name}"] = 2 * n**3 / timed({"mm": lambda a=a, b=b: a @ b}, scale)["mm"] / 1e9
    source = torch.empty(n * n * 4, device=scale.device)
    target = torch.empty_like(source)
    found["tb_per_s"] = 2 * source.nbytes / timed({"copy": lambda: target.copy_(source)}, scale)["copy"] / 1e9
    return {key: float(f"{value:.4g}") for key, value in found.items()}  # a toy product on a busy machine is not 0


def flop(layout: nets.Layout) -> float:
    """Floating-point operations of the convolutions and linears of one training step (no input gradient at first)."""
    side, total = layout.shape[1], 0.0
    for i, (w, pool) in enumerate(nets.weights(layout).convs):
        rows = layout.batch * (1 if i == 0 else layout.steps)
        total += 2 * rows * side * side * w.numel() * (2 if i == 0 else 3)
        side = side // 2 if pool else side
    return total + sum(6 * layout.batch * layout.steps * w.numel() for w in nets.weights(layout).linears)


def trainer(model: nn.Module, x: Tensor, y: Tensor, bf16: bool, graphed: bool = False) -> Step:
    model = model.to(x.device)
    for holder in model.modules():
        if isinstance(holder, nets.Ours):
            holder.running = [(a.to(x.device), b.to(x.device)) for a, b in holder.running]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(x).float(), y)
        optimizer.zero_grad(set_to_none=not graphed)
        loss.backward()
        optimizer.step()
        return loss.detach()

    if not graphed:
        return lambda: step(x, y)
    recorded = GraphedStep(step, x, y, state=lambda: [*model.parameters(), *optimiser_state(optimizer)])
    return lambda: recorded(x, y)


@contextmanager
def kept_on(device: str) -> Iterator[None]:
    """New tensors of the control are made on the device."""
    with torch.device(device):
        yield


def alone(layout: nets.Layout, dtype: torch.dtype, device: str) -> Step:
    with kept_on(device):
        control = nets.ConvsAlone(layout, dtype)

    def step() -> None:
        for w in control.weights:
            w.grad = None
        control.run(True)

    return step


def steps_of(net: str, batch: int, scale: Scale) -> dict[str, Any]:
    """One network at one batch size: all variants, ratios, share of the dense limit and of the matrix peak."""
    layout = dataclasses.replace(TOY if net == "toy" else nets.LAYOUTS[net], batch=batch)
    x, y = (t.to(scale.device) for t in nets.batch(layout))
    makers: dict[str, Callable[[], Step]] = {
        "convs alone": lambda: alone(layout, torch.float32, scale.device),
        "convs alone bf16": lambda: alone(layout, torch.bfloat16, scale.device),
        "spikefed": lambda: trainer(nets.Ours(layout), x, y, False),
        "spikefed bf16": lambda: trainer(nets.Ours(layout), x, y, True),
        "spikefed graphed": lambda: trainer(nets.Ours(layout), x, y, False, True),
        "spikefed graphed bf16": lambda: trainer(nets.Ours(layout), x, y, True, True),
    }
    if nets.have("spikingjelly"):
        makers["spikingjelly"] = lambda: trainer(nets.spikingjelly(layout), x, y, False)
        makers["spikingjelly bf16"] = lambda: trainer(nets.spikingjelly(layout), x, y, True)
        makers["spikingjelly single step bf16"] = lambda: trainer(nets.spikingjelly(layout, single=True), x, y, True)
    else:
        print("    left out: spikingjelly (pip install --no-deps -r benchmarks/requirements.txt)")
    steps, memory = {}, {}
    for name, make in makers.items():
        try:
            steps[name] = make()
            memory[name] = peak_bytes(steps[name], scale)
        except (RuntimeError, ImportError, torch.OutOfMemoryError) as error:
            print(f"    {name}: {str(error).splitlines()[0][:120]}")
    ms = timed(steps, scale)
    peers = [value for name, value in ms.items() if name.startswith("spikingjelly") and value == value]
    ours = [value for name, value in ms.items() if name.startswith("spikefed") and value == value]
    best = min(ours, default=float("nan"))
    result = {
        "net": net,
        "batch": batch,
        "ms": ms,
        "peak_mb": {name: round(value / 2**20, 1) for name, value in memory.items()},
        "ratio_to_fastest_peer": round(min(peers) / best, 3) if peers and ours else None,
        "part_of_convs_alone_bf16": round(ms.get("convs alone bf16", float("nan")) / best, 3),
        "tflops": round(flop(layout) / best / 1e9, 3),
    }
    print(f"    {result}")
    return result


def peak_bytes(step: Step, scale: Scale) -> float:
    if scale.device != "cuda":
        step()
        return float("nan")
    torch.cuda.reset_peak_memory_stats()
    step()
    wait(scale)
    return float(torch.cuda.max_memory_allocated())


def clients(scale: Scale) -> dict[str, Any]:
    """Small clients one by one, stacked, and stacked in a recorded step; the results of the first two compared."""
    shape, batch, lr = ((1, 8, 8), 4, 0.05) if scale.spare else ((1, 28, 28), 32, 0.05)
    made = [build("small", input_shape=shape, classes=10, steps=2 if scale.spare else 8, seed=i, coding="direct")
            for i in range(scale.clients)]  # fmt: skip
    made = [net.to(scale.device) for net in made]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(scale.clients, batch, *shape, generator=generator).to(scale.device)
    y = torch.randint(0, 10, (scale.clients, batch), generator=generator).to(scale.device)
    stacked = StackedNetworks(made).to(scale.device)
    optimizers = [torch.optim.SGD(net.parameters(), lr=lr) for net in made]
    together = torch.optim.SGD(stacked.parameters(), lr=lr)

    def one_by_one() -> None:
        for net, optimizer, images, labels in zip(made, optimizers, x, y, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(net(images).mean(0), labels).backward()
            optimizer.step()

    def all_at_once(x: Tensor = x, y: Tensor = y) -> Tensor:
        together.zero_grad(set_to_none=False)
        scores = stacked(x).mean(1).flatten(0, 1)
        loss = F.cross_entropy(scores, y.flatten(), reduction="sum") / batch
        loss.backward()
        together.step()
        return loss.detach()

    one_by_one(), all_at_once()
    difference = max(float((getattr(stacked, stacked._keys[name])[i] - p).detach().abs().max())
                     for i, net in enumerate(made) for name, p in net.named_parameters())  # fmt: skip
    recorded = GraphedStep(all_at_once, x, y, state=lambda: [*stacked.parameters(), *stacked.buffers()])
    ms = timed({"one by one": one_by_one, "stacked": all_at_once, "recorded": lambda: recorded(x, y)}, scale)
    best = min(ms["stacked"], ms["recorded"])
    result = {"clients": scale.clients, "batch": batch, "ms": ms, "ratio": round(ms["one by one"] / best, 3),
              "largest_difference_after_a_step": difference}  # fmt: skip
    print(f"    {result}")
    return result


def paper_round(scale: Scale) -> dict[str, Any]:
    """Seconds of one round of table2-cifar10 from measured steps (V-SNN's VGG9 with BNTT, Poisson coding, T = 8).

    Passes of FSD 4.1: 4 clients x 5 epochs of 10,000 private images, 4 clients and the server 5 epochs of 8,000
    public images each; forward only: 4 x 8,000 public and 5 x 10,000 test images.
    """
    trained, seen = 4 * 5 * 10000 + 5 * 5 * 8000, 4 * 8000 + 5 * 10000
    batch, steps = (2, 2) if scale.spare else (32, 8)
    neuron = LIFParameters(kind="soft", decay=0.95, v_threshold=1.0, surrogate="triangle", detach_reset=True)  # type: ignore[arg-type]
    name = "8C3-AP2-16FC" if scale.spare else "vgg9-bntt"
    options = {"input_shape": (3, 32, 32), "classes": 10, "steps": steps, "norm": "bntt", "coding": "poisson"}
    net = build(name, **options, neuron=neuron).to(scale.device)
    x, y = torch.rand(batch, 3, 32, 32, device=scale.device), torch.randint(0, 10, (batch,), device=scale.device)
    large = x.repeat(1 if scale.spare else 8, 1, 1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step(bf16: bool) -> None:
        net.precision = "bfloat16" if bf16 else "float32"
        optimizer.zero_grad()
        F.cross_entropy(net(x, generator=draw).mean(0), y).backward()
        optimizer.step()

    def look() -> None:
        with torch.inference_mode():
            net(large, generator=draw)

    draw = torch.Generator(scale.device).manual_seed(0)
    ms = timed({"float32": lambda: step(False), "bf16": lambda: step(True), "forward bf16": look}, scale)
    seconds = {
        kind: round((trained / batch * ms[kind] + seen / len(large) * ms["forward bf16"]) / 1e3, 1)
        for kind in ("float32", "bf16")
    }
    result = {"batch": batch, "ms": ms, "trained_images": trained, "forward_images": seen, "round_s": seconds}
    print(f"    {result}")
    return result


def measure(scale: Scale) -> dict[str, Any]:
    content: dict[str, Any] = {"dry_run": scale.device != "cuda"}
    content["device"] = torch.cuda.get_device_name() if scale.device == "cuda" else "none: dry run on the CPU"
    for name, part in (("check", check), ("peak", peaks), ("clients", clients), ("paper_round", paper_round)):
        print(f"  {name}", flush=True)
        content[name] = part(scale)
    print("  steps", flush=True)
    content["steps"] = [steps_of(net, batch, scale) for net in scale.nets for batch in scale.batches]
    for result in content["steps"]:
        result["part_of_matrix_peak"] = round(result["tflops"] / content["peak"]["tflops_bf16"], 3)
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        print("no CUDA GPU here: nothing measured; --dry-run runs the script at toy sizes on the CPU", file=sys.stderr)
        sys.exit(2)
    content = measure(DRY if given.dry_run else GPU)
    name = "gpu-dry" if given.dry_run else "gpu"
    print(f"written: {provenance.write(given.out, name, content, sys.argv)}")


if __name__ == "__main__":
    main()
