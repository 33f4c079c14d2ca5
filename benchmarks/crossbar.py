"""Crossbars: the circuit against a general sparse solver, a network on a chip against the plain one, vgg9-bntt written.

    python benchmarks/crossbar.py [--rounds 5] [--vectors 1000] [--skip-vgg9]

One thread, processor time, all parties in turn within a round; a figure is the median over rounds of the ratio within
the round, with its quartiles. ``circuit``: a tile of 128 x 128 with the wires of profile rram and 1,000 input vectors.
``factored``: one sparse LU factorisation (scipy) and a solve a vector; ``vector by vector``: a factorisation each, of
which three are timed and counted 1,000 / 3 times. ``forward``: a network on Fashion-MNIST's shape, batch 256.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import provenance
import scipy.sparse as sparse
import torch
from scipy.sparse.linalg import splu

from spikefed.hardware.crossbar import OnChip, Wires, effective, load_profile
from spikefed.networks import build

WIRES = Wires(row_ohm=5.0, column_ohm=5.0, driver_ohm=1000.0, sense_ohm=1000.0)


def seconds(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def summary(ratios: list[float]) -> dict[str, object]:
    ordered = sorted(ratios)
    quarter = len(ordered) // 4
    return {"median": statistics.median(ordered), "quartiles": [ordered[quarter], ordered[-1 - quarter]]}


def nodal(cells: np.ndarray, wires: Wires) -> tuple[sparse.csc_matrix, np.ndarray]:
    """Nodal matrix of a tile, and which nodes the rows drive."""
    rows, columns = cells.shape
    count = rows * columns
    word = np.arange(count).reshape(rows, columns)
    bit = word + count
    joins = [
        (word.ravel(), bit.ravel(), cells.ravel()),
        (word[:, :-1].ravel(), word[:, 1:].ravel(), np.full(rows * (columns - 1), 1 / wires.row_ohm)),
        (bit[:-1].ravel(), bit[1:].ravel(), np.full((rows - 1) * columns, 1 / wires.column_ohm)),
    ]
    one, other, siemens = (np.concatenate(parts) for parts in zip(*joins, strict=True))
    diagonal = np.zeros(2 * count)
    np.add.at(diagonal, one, siemens)
    np.add.at(diagonal, other, siemens)
    diagonal[word[:, 0]] += 1 / (wires.driver_ohm + wires.row_ohm)
    diagonal[bit[-1]] += 1 / (wires.sense_ohm + wires.column_ohm)
    off = sparse.coo_matrix((-siemens, (one, other)), shape=(2 * count, 2 * count))
    return (off + off.T + sparse.diags(diagonal)).tocsc(), word[:, 0]


def circuit(rounds: int, vectors: int) -> dict[str, object]:
    draws = np.random.default_rng(0)
    cells = draws.random((128, 128)) * 4e-5
    volts = draws.random((vectors, 128))
    source = 1 / (WIRES.driver_ohm + WIRES.row_ohm)
    sense = 1 / (WIRES.sense_ohm + WIRES.column_ohm)
    given = torch.from_numpy(cells)
    inputs = torch.from_numpy(volts)
    found: dict[str, np.ndarray] = {}

    def currents(solve: Callable[[np.ndarray], np.ndarray], driven: np.ndarray, vector: np.ndarray) -> np.ndarray:
        right = np.zeros(2 * cells.size)
        right[driven] = vector * source
        return solve(right)[-128:] * sense

    def ours() -> None:
        found["ours"] = (inputs @ effective(given, WIRES)).numpy()

    def factored() -> None:
        matrix, driven = nodal(cells, WIRES)
        solver = splu(matrix)
        found["factored"] = np.stack([currents(solver.solve, driven, vector) for vector in volts])

    def each() -> None:
        for vector in volts[:3]:
            matrix, driven = nodal(cells, WIRES)
            currents(splu(matrix).solve, driven, vector)

    ours()
    against: dict[str, list[float]] = {"factored": [], "vector by vector": []}
    own: list[float] = []
    for _ in range(rounds):
        own.append(seconds(ours))
        against["factored"].append(seconds(factored) / own[-1])
        against["vector by vector"].append(seconds(each) * vectors / 3 / own[-1])
    gap = float(np.abs(found["ours"] / found["factored"] - 1).max())
    result = {name: summary(ratios) for name, ratios in against.items()}
    print(f"circuit: {statistics.median(own):.3f} s for {vectors} vectors, largest relative gap {gap:.1e}; {result}")
    return {"seconds": statistics.median(own), "largest_relative_gap": gap, "times_slower": result}


def forward(rounds: int) -> dict[str, object]:
    net = build("32C3-AP2-64C3-AP2-256FC", input_shape=(1, 28, 28), classes=10, steps=4, norm="bn", readout="current")
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(256, 1, 28, 28, generator=draws)
    with torch.no_grad():
        for _ in range(10):
            net(x)
    net.eval()
    pcm = load_profile("pcm").changed({"tile": 64})
    kinds = {
        "frozen": pcm,
        "fresh read noise": pcm.changed({"noise.read_when": "each"}),
        "adc 8 bits": pcm.changed({"converters.adc_bits": 8, "converters.dac_bits": 8}),
    }
    chips = {name: OnChip(net, profile) for name, profile in kinds.items()}
    for chip in chips.values():
        chip.calibrate([x])

    def run() -> None:
        with torch.no_grad():
            net(x)

    ratios: dict[str, list[float]] = {name: [] for name in chips}
    run()
    for _ in range(rounds):
        plain = seconds(run)
        for name, chip in chips.items():
            with chip.running(draws):
                ratios[name].append(seconds(run) / plain)
    found = {name: summary(values) for name, values in ratios.items()}
    print(f"forward, times the plain network: {found}")
    return found


def vgg9() -> dict[str, object]:
    net = build("vgg9-bntt", input_shape=(3, 32, 32), classes=10, steps=5)
    profile = load_profile("rram").changed({"weights.layers": "all", "tile": 128})
    held: dict[str, OnChip] = {}

    def write() -> None:
        held["chip"] = OnChip(net, profile)

    spent = seconds(write)
    tiles = sum(held["chip"].crossbars().values())
    print(f"vgg9-bntt: {tiles} crossbars of 128 x 128 written and solved in {spent:.1f} s of one core")
    return {"crossbars": tiles, "processor_seconds": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vectors", type=int, default=1000)
    parser.add_argument("--skip-vgg9", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, object] = {"setting": {"rounds": given.rounds, "vectors": given.vectors, "threads": 1}}
    found["circuit"] = circuit(given.rounds, given.vectors)
    found["forward"] = forward(given.rounds)
    if not given.skip_vgg9:
        found["vgg9"] = vgg9()
    print(provenance.write(given.out, "crossbar", found, sys.argv))


if __name__ == "__main__":
    main()
