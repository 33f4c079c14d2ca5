"""Building and regrouping event lists in this checkout beside the same in another one, in turns.

    python benchmarks/lists.py --other CHECKOUT

Processor time of ``events.listed`` and ``events.banded`` on random spikes of the sizes of `small` and `vgg9`; x is the
median over rounds of (there / here). SPIKEFED_NATIVE_ISA=avx2 measures AVX2.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import provenance
from two_builds import Build

WORKER = """
import json, sys, time

import torch
from spikefed.neurons import events

CASES = {
    "small 32 at 14x14 float32": ((512, 32, 14, 14), 0.24, True, torch.float32),
    "vgg9 64 at 32x32 bfloat16": ((256, 64, 32, 32), 0.07, False, torch.bfloat16),
    "vgg9 64 at 16x16 bfloat16": ((256, 64, 16, 16), 0.175, True, torch.bfloat16),
    "vgg9 64 at 16x16 float32": ((256, 64, 16, 16), 0.175, True, torch.float32),
}
torch.set_num_threads(int(sys.argv[1]))
draws = torch.Generator().manual_seed(0)
maps = {}
for name, (shape, density, pooled, dtype) in CASES.items():
    x = (torch.rand(*shape, generator=draws) < density).float()
    if pooled:
        x *= torch.randint(1, 5, x.shape, generator=draws) / 4
    maps[name] = x.to(dtype).contiguous(memory_format=torch.channels_last)
print("ready", isa, flush=True)
for line in sys.stdin:
    row = {}
    for name, x in maps.items():
        start = time.process_time()
        found = events.listed(x)
        listed = time.process_time()
        events.banded(found, 3)
        row[name] = {"list": listed - start, "regroup": time.process_time() - listed}
    print(json.dumps(row), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="the other checkout, with its native library built")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    folders = {"here": Path(__file__).resolve().parents[1], "there": given.other.resolve()}
    builds = {name: Build(folder, WORKER, [], 1) for name, folder in folders.items()}
    rounds = []
    for number in range(given.rounds + 1):
        order = ("here", "there") if number % 2 else ("there", "here")
        rounds.append({name: builds[name].round() for name in order})
    for build in builds.values():
        build.process.terminate()
    rows = []
    for case in rounds[0]["here"]:
        for part in ("list", "regroup"):
            here, there = ([r[name][case][part] for r in rounds[1:]] for name in ("here", "there"))
            ratios = [t / h for t, h in zip(there, here, strict=True)]
            spread = [round(q, 2) for q in statistics.quantiles(ratios, n=4)]
            rows.append({"case": case, "part": part, "here_ms": round(1e3 * statistics.median(here), 2), "x": spread})
            print(f"  {case:28} {part:8} here {rows[-1]['here_ms']:.2f} ms, x {spread[1]} [{spread[0]}, {spread[2]}]")
    print(f"written: {provenance.write(given.out, 'lists', {'rounds': given.rounds, 'rows': rows}, sys.argv)}")


if __name__ == "__main__":
    main()
