"""What a pruned network costs: products with the non-zero weights only, beside dense weights and beside SpikingJelly.

    python benchmarks/sparse.py [--sparsity 0.98] [--rounds 7] [--table | --densities]

Interleaved in one process on one thread, processor time; a figure is the median over rounds of the ratio within a
round, with its quartiles. `--table` measures single layers over densities of weights and of spikes instead: what every
way of a product costs beside the path that dense weights take, and what the choice takes. `--densities` measures whole
networks over the weights that are left, of all inner layers or of one between dense ones: where pruning begins to pay,
and that it nowhere costs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import nets
import provenance
import torch
from torch import Tensor, nn

from spikefed import native
from spikefed.networks import build, write_tensors
from spikefed.neurons import (
    ChainLayer,
    Firing,
    LIFParameters,
    NormState,
    dense_weights,
    norm_lif,
    record_paths,
    run_pruned,
    spike_conv2d,
    spike_linear,
    synapses,
)
from spikefed.training import Mask, magnitudes, mask_of_best

LAYERS = {  # channels in and out, side, kernel: those of vgg9, and its hidden linear layer
    "64x64 at 32": (64, 64, 32, 3),
    "128x128 at 16": (128, 128, 16, 3),
    "256x256 at 8": (256, 256, 8, 3),
    "linear 4096x1024": (4096, 1024, 1, 1),
}
WEIGHTS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3)
SPIKES = (0.01, 0.05, 0.2)
VGG9 = "64C3-64C3-AP2-128C3-128C3-AP2-256C3-256C3-256C3-AP2-1024FC"
KEPT = (0.02, 0.045, 0.07, 0.09, 0.12, 0.2, 0.5)
ALONE = {"all": None, "64x64 at 32": 1, "128x128 at 16": 3, "256x256 at 8": 5, "linear": 7}
"""Which layers are pruned: all but the first and the readout, or one alone."""


def seconds(call: Callable[[], Any]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


def ratios(base: Callable[[], Any], others: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Median and quartiles over rounds of base / other, and the median times in ms."""
    for call in (base, *others.values()):
        call()
    times: dict[str, list[float]] = {"base": [], **{name: [] for name in others}}
    for _ in range(rounds):
        times["base"].append(seconds(base))
        for name, call in others.items():
            times[name].append(seconds(call))
    found: dict[str, Any] = {"base": {"ms": 1e3 * statistics.median(times["base"])}}
    for name in others:
        quotients = sorted(b / o for b, o in zip(times["base"], times[name], strict=True))
        low, middle, high = (statistics.quantiles(quotients, n=4) if rounds > 1 else quotients * 3)[:3]
        found[name] = {"ratio": middle, "low": low, "high": high, "ms": 1e3 * statistics.median(times[name])}
    return found


def pruned(net: nn.Module, sparsity: float) -> Mask:
    """Magnitude pruning in place; the mask.

    As in tickets of trained networks, first layer and readout keep their weights; all others lose the same share (a
    global threshold would take whole layers of weights that were only drawn).
    """
    weights = {name: p.detach() for name, p in net.named_parameters() if p.dim() > 1}
    inner = list(weights)[1:-1]
    total, pruned = (sum(weights[name].numel() for name in names) for names in (weights, inner))
    share = sparsity * total / pruned
    masks = [mask_of_best(magnitudes(weights, [name]), share).kept for name in inner]
    mask = Mask({name: kept for each in masks for name, kept in each.items()})
    with torch.no_grad():
        for name, kept in mask.kept.items():
            weights[name].mul_(kept)
    return mask


@torch.no_grad()
def settled(net: nn.Module, x: Tensor, gain: float, times: int = 30) -> nn.Module:
    """The network in evaluation, its running statistics those of these images, its normalisations of this scale.

    Drawn weights fall silent from layer to layer at a scale of 1; the scale sets the rates.
    """
    for parameter in net.parameters():
        if parameter.dim() == 1 and bool((parameter == 1).all()):
            parameter.fill_(gain)
    net.train()
    for _ in range(times):
        net(x)
    return net.eval()


class Row(nets.Ours):
    """The same network as one row of layers, which is how `spikefed.networks` runs it."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean outputs ``[B, classes]`` of images ``[B, C, H, W]``."""
        out = None if self.training else run_pruned(x, self._row())
        return super().forward(x) if out is None else out.unflatten(0, (self.steps, -1)).mean(0)

    def _row(self) -> list[ChainLayer]:
        row = []
        for i, (pool, scale, shift, running) in enumerate(
            zip(self.pools, self.scales, self.shifts, self.running, strict=True)
        ):
            firing = Firing(self.neuron, self.steps, "bn", False, pool=pool, repeat=i == 0)
            weight = self.weights[i]
            row.append(ChainLayer(weight, None, _kind(weight), firing, NormState(scale, shift, *running)))
        return [*row, ChainLayer(self.weights[-1], None, "linear", None)]


def _kind(weight: Tensor) -> Literal["conv", "linear"]:
    return "conv" if weight.dim() == 4 else "linear"


def profile(call: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds in products, in everything else; of a network in one call all is the latter."""
    spent = {"products": 0.0, "all": 0.0}
    plain = {name: getattr(nets, name) for name in ("spike_conv2d", "spike_linear")}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **more: Any) -> Any:
            before = time.process_time()
            out = function(*args, **more)
            spent["products"] += time.process_time() - before
            return out

        return inner

    for name, function in plain.items():
        setattr(nets, name, timed(function))
    call()
    spent["products"] = 0.0
    spent["all"] = seconds(call)
    for name, function in plain.items():
        setattr(nets, name, function)
    return {"products_ms": 1e3 * spent["products"], "other_ms": 1e3 * (spent["all"] - spent["products"])}


def network(sparsity: float, batch: int, rounds: int, gain: float) -> dict[str, Any]:
    """Inference of the vgg9 layout at a sparsity."""
    layout = dataclasses.replace(nets.LAYOUTS["vgg9"], batch=batch)
    x, _ = nets.batch(layout)
    few, _ = nets.batch(dataclasses.replace(layout, batch=8))
    ours, jelly = Row(layout), nets.spikingjelly(layout) if nets.have("spikingjelly") else None
    pruned(ours, sparsity)
    settled(ours, few, gain)
    if jelly is not None:
        own = [p for p in jelly.parameters() if p.dim() > 1]
        with torch.no_grad():
            for mine, theirs in zip(ours.weights, own, strict=True):
                theirs.copy_(mine)
        settled(jelly, few, gain)

    @torch.no_grad()
    def today() -> Tensor:
        with dense_weights():
            return ours(x)

    @torch.no_grad()
    def sparse() -> Tensor:
        return ours(x)

    @torch.no_grad()
    def other() -> Tensor:
        return jelly(x)  # type: ignore[misc]

    with record_paths() as choices:
        difference = float((sparse() - today()).abs().max())
    found = ratios(today, {"sparse": sparse}, rounds)
    if jelly is not None:
        beside = ratios(other, {"sparse": sparse}, max(rounds // 2, 2))
        found["spikingjelly"] = {**beside["sparse"], "ms": beside["base"]["ms"]}
    found["profile"] = {"today": profile(today), "sparse": profile(sparse)}
    rows = [{"op": c.operation, "path": c.path, "shape": c.shape, "density": c.density} for c in choices]
    return {
        "batch": batch,
        "gain": gain,
        "sparsity": sparsity,
        "difference": difference,
        **found,
        "paths": rows[: len(rows) // 2],
    }


def file_sizes(sparsity: float) -> dict[str, float]:
    """Bytes of vgg9-bntt's model file, dense and under a mask."""
    net = build("vgg9-bntt", input_shape=(3, 32, 32), classes=10, steps=8)
    dense = write_tensors(net.state_dict())
    mask = pruned(net, sparsity)
    sizes = {"dense_bytes": len(dense), "sparse_bytes": len(write_tensors(net.state_dict(), mask.kept))}
    return {**sizes, "ratio": sizes["dense_bytes"] / sizes["sparse_bytes"]}


def layer(name: str, kept: float, rate: float, rounds: int, images: int) -> dict[str, Any]:
    """One product over both ways, beside the path of dense weights."""
    inputs, outputs, side, kernel = LAYERS[name]
    draw = torch.Generator().manual_seed(0)
    shape = (outputs, inputs, kernel, kernel) if kernel > 1 else (outputs, inputs)
    weight = torch.randn(shape, generator=draw) * (torch.rand(shape, generator=draw) < kept)
    features = (inputs, side, side) if kernel > 1 else (inputs,)
    currents = (torch.rand(images, *features, generator=draw) < rate).float() * 4
    currents = currents.contiguous(memory_format=torch.channels_last) if kernel > 1 else currents
    x = norm_lif(currents, LIFParameters(decay=0.5, v_threshold=1.0), steps=images)  # spikes that know their density

    def product() -> Tensor:
        return spike_conv2d(x, weight, padding=kernel // 2) if kernel > 1 else spike_linear(x, weight)

    @torch.no_grad()
    def today() -> Tensor:
        with dense_weights():
            return product()

    call = synapses.convolution if kernel > 1 else synapses.linear
    ways: dict[str, Callable[[], Any]] = {
        way: lambda way=way: call(x, weight, None, way) for way in ("by event", "by weight")
    }  # type: ignore[arg-type]
    ways["chosen"] = torch.no_grad()(product)
    with torch.no_grad(), record_paths() as choices:
        product()
    found = ratios(today, ways, rounds)
    return {
        "layer": name,
        "weights": kept,
        "spikes": float(x.mean()),
        "images": images,
        "path": choices[0].path,
        **found,
    }


def table(rounds: int, images: int) -> list[dict[str, Any]]:
    rows = []
    for name in LAYERS:
        for rate in SPIKES:
            for kept in WEIGHTS:
                row = layer(name, kept, rate, rounds, images)
                parts = "  ".join(f"{w} {row[w]['ratio']:6.2f}" for w in ("by event", "by weight", "chosen"))
                print(f"{name:17s} weights {kept:5.3f} spikes {row['spikes']:5.3f}  {parts}  {row['path']}", flush=True)
                rows.append(row)
    return rows


@torch.no_grad()
def thinned(net: nn.Module, kept: float, only: int | None) -> None:
    """The largest weights of the inner layers are left, or of one layer: in place."""
    weights = [p for p in net.parameters() if p.dim() > 1]
    for i, weight in enumerate(weights[:-1]):
        if i and only in (None, i):
            least = weight.abs().flatten().kthvalue(max(int((1 - kept) * weight.numel()), 1)).values
            weight.mul_(weight.abs() > least)


def whole(which: str, kept: float, batches: list[int], gain: float, rounds: int) -> Iterator[dict[str, Any]]:
    """A VGG9 of `spikefed.networks` with so many weights left: dense weights' time over its own, by batch."""
    net = build(VGG9, input_shape=(3, 32, 32), classes=10, steps=8, norm="bn", readout="current", seed=0)
    thinned(net, kept, ALONE[which])
    draw = torch.Generator().manual_seed(1)
    settled(net, torch.rand(8, 3, 32, 32, generator=draw), gain, times=6)
    for batch in batches:
        x = torch.rand(batch, 3, 32, 32, generator=draw)

        def run(x: Tensor = x) -> Tensor:
            with torch.no_grad():
                return net(x)

        def today(run: Callable[[], Tensor] = run) -> Tensor:
            with dense_weights():
                return run()

        found = ratios(today, {"ours": run}, rounds)
        yield {"pruned": which, "kept": kept, "batch": batch, "gain": gain, **found}


def densities(gain: float, batches: list[int], rounds: int) -> list[dict[str, Any]]:
    rows = []
    for which, kept in itertools.product(ALONE, KEPT):
        for row in whole(which, kept, batches, gain, rounds):
            ratio, low, high = (row["ours"][key] for key in ("ratio", "low", "high"))
            said = f"{ratio:5.2f} ({low:.2f} to {high:.2f})"
            print(f"{which:14s} kept {kept:5.3f} batch {row['batch']:2d}  {said}", flush=True)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparsity", type=float, default=0.98)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 32])
    parser.add_argument("--gain", type=float, default=2.0, help="scale of normalisations, which sets firing rates")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--densities", action="store_true")
    parser.add_argument("--images", type=int, default=8, help="images times steps of a layer in the table")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    native.keep_memory()  # as programs do: else every round trip of a large tensor goes to the kernel
    kind = "sparse-table" if given.table else "sparse-densities" if given.densities else "sparse"
    if given.table:
        found: dict[str, Any] = {"rows": table(given.rounds, given.images)}
    elif given.densities:
        found = {"rows": densities(given.gain, given.batches, given.rounds)}
    else:
        found = {"file": file_sizes(given.sparsity), "networks": []}
        print(f"file {found['file']}")
        for batch in given.batches:
            row = network(given.sparsity, batch, given.rounds, given.gain)
            found["networks"].append(row)
            print({key: value for key, value in row.items() if key != "paths"})
            for path in row["paths"][::2]:
                print("   ", path)
    print(provenance.write(given.out, kind, found, sys.argv))


if __name__ == "__main__":
    main()
