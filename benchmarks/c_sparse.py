"""What the C file of a pruned network saves: lists of the weights that are left beside rows with all zeros.

    python benchmarks/c_sparse.py [--rounds 7] [--images 200]
    python benchmarks/c_sparse.py --run runs/tickets-pooled/imp+et-seed0 --data fashion-mnist

Networks with drawn weights, magnitudes pruned in every layer alike, are exported both ways, compiled with the same
flags, and run on the same images in turn: processor time of the whole program (its start, about a millisecond,
included), median over rounds of the ratio within a round with its quartiles. Flags stand for a processor with vectors
(``-O3 -march=native``) and for one without (``-O2 -fno-tree-vectorize``). Outputs must be equal to the bit. ``--run``
measures a trained network on images of its test set instead.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import provenance
import sparse
import torch
from torch import nn

import spikefed
from spikefed import data
from spikefed.interop import About, CFile, Flat, c_file, flat
from spikefed.models.export import about
from spikefed.networks import build
from spikefed.training import Preprocess, magnitudes, mask_of_best

NETWORKS = {"small": (1, 28), "32C3-32C3-AP2-64C3-AP2-128FC": (3, 32)}
"""Channels and side of the images."""
LEFT = (1.0, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02)
FLAGS = {"vectors": ["-O3", "-march=native"], "scalar": ["-O2", "-fno-tree-vectorize"]}
ABOUT = About("benchmark", Preprocess(), tuple("0123456789"))


def network(name: str, left: float) -> nn.Module:
    """Settled on drawn images, then every layer pruned to this share; the norms settled again."""
    channels, side = NETWORKS[name]
    torch.manual_seed(0)
    net = build(name, input_shape=(channels, side, side), classes=10, steps=4)
    x = torch.rand(32, channels, side, side)
    sparse.settled(net, x, 1.5)
    if left < 1:
        weights = {key: p.detach() for key, p in net.named_parameters() if p.dim() > 1}
        with torch.no_grad():
            for key, weight in weights.items():
                weight.mul_(mask_of_best(magnitudes(weights, [key]), 1 - left).kept[key])
        sparse.settled(net, x, 1.5)
    return net.eval()


def compiled(made: CFile, folder: Path, name: str, flags: list[str]) -> Path:
    (folder / f"{name}.c").write_text(made.text)
    words = ["cc", "-std=c99", *flags, "-DNETWORK_MAIN", f"{name}.c", "-o", name]
    subprocess.run(words, cwd=folder, check=True)
    return folder / name


def seconds(program: Path, images: bytes) -> float:
    """Processor time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([program], input=images, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def drawn(name: str, left: float, count: int) -> tuple[Flat, About, bytes, int]:
    """A network of `NETWORKS`, what is said of it, images, and bytes of one."""
    channels, side = NETWORKS[name]
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=draw)
    return flat(network(name, left)), ABOUT, images.numpy().tobytes(), channels * side * side


def trained(run: str, name: str, count: int) -> tuple[Flat, About, bytes, int]:
    """The network of a run, and images of its test set."""
    model = spikefed.load_model(run)
    images = data.load(name, "test").images[:count]
    return flat(model.network), about(model), images.numpy().tobytes(), images[0].numel()


def measured(
    case: tuple[Flat, About, bytes, int], weights: str, folder: Path, count: int, rounds: int
) -> dict[str, Any]:
    """Sizes, operations and times of one network."""
    plain, said, images, size = case
    made = {lists: c_file(plain, said, weights, lists) for lists in ("never", "auto", "vectors")}
    told: dict[str, Any] = {"weights": weights}
    few = images[: 8 * size]
    told["flash"] = {lists: file.flash_bytes for lists, file in made.items()}
    told["text"] = {lists: len(file.text) for lists, file in made.items()}
    whole, left = (sum(getattr(layer, key) for layer in made["auto"].layers) for key in ("whole", "left"))
    told["left_share"] = left / whole
    told["forms"] = {lists: [layer.form for layer in file.layers] for lists, file in made.items()}
    counting = {lists: compiled(file, folder, lists, ["-O2", "-DNETWORK_COUNT"]) for lists, file in made.items()}
    for lists, program in counting.items():
        out = subprocess.run([program, "operations"], input=few, capture_output=True, check=True).stdout.split()
        told.setdefault("operations", {})[lists] = statistics.mean(map(int, out))
    for kind, flags in FLAGS.items():
        programs = {lists: compiled(file, folder, lists, flags) for lists, file in made.items()}
        scores = {
            subprocess.run([program, "scores"], input=few, capture_output=True, check=True).stdout
            for program in programs.values()
        }
        assert len(scores) == 1, "lists and rows give other outputs"
        times: dict[str, list[float]] = {lists: [] for lists in programs}
        for _ in range(rounds):
            for lists, program in programs.items():
                times[lists].append(seconds(program, images))
        for lists in ("auto", "vectors"):
            ratios = sorted(a / b for a, b in zip(times["never"], times[lists], strict=True))
            low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
            told.setdefault("faster", {}).setdefault(kind, {})[lists] = {"ratio": middle, "low": low, "high": high}
        told.setdefault("image_ms", {})[kind] = {k: 1e3 * statistics.median(v) / count for k, v in times.items()}
    return told


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--left", type=float, nargs="*", default=LEFT)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--weights", nargs="*", default=["float32", "int8"])
    parser.add_argument("--run")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    cases: list[tuple[dict[str, Any], tuple[Flat, About, bytes, int]]]
    if given.run:
        cases = [({"network": Path(given.run).name}, trained(given.run, given.data, given.images))]
    else:
        pairs = [(name, left) for name in given.networks for left in given.left]
        cases = [({"network": name, "left": left}, drawn(name, left, given.images)) for name, left in pairs]
    with tempfile.TemporaryDirectory() as folder:
        for who, case in cases:
            for weights in given.weights:
                told = {**who, **measured(case, weights, Path(folder), given.images, given.rounds)}
                rows.append(told)
                flash, count = told["flash"], told["operations"]
                speed = ", ".join(f"{kind} {told['faster'][kind]['auto']['ratio']:.2f}" for kind in FLAGS)
                print(
                    f"{who['network']} {weights} left {told['left_share']:.3f}: "
                    f"flash {flash['never'] / flash['auto']:.2f}, "
                    f"operations {count['never'] / count['auto']:.2f}, faster {speed}; {told['forms']['auto']}",
                    flush=True,
                )
    version = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    content = {"compiler": version, "flags": FLAGS, "rounds": given.rounds, "images": given.images, "rows": rows}
    command = [Path(word).name if word == given.run else word for word in sys.argv]
    print(provenance.write(given.out, "c-sparse", content, command))


if __name__ == "__main__":
    main()
