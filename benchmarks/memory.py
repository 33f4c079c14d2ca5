"""Peak memory of a training step, each variant in a process of its own.

    python benchmarks/memory.py --nets vgg9

The figure is the highest resident size of the process over three steps less its size before the first one
(parameters, imports).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path

VARIANTS = (
    "spikingjelly",
    "spikingjelly bf16",
    "snntorch",
    "plain loop",
    "spikefed reference",
    "spikefed",
    "spikefed dense",
    "spikefed bf16",
)


def _child(pipe: Connection, net: str, variant: str, batch: int | None) -> None:
    import dataclasses
    import resource

    import nets
    import steps
    import torch

    from spikefed import native

    torch.set_num_threads(1)
    layout = nets.LAYOUTS[net]
    if batch:
        layout = dataclasses.replace(layout, batch=batch)
    made = steps.variants(layout, True, [variant])
    if variant not in made:
        pipe.send(None)
        return
    before = native.resident_bytes()
    for _ in range(3):
        made[variant]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send({"variant": variant, "step_mb": round((peak - before) / 2**20, 1), "process_mb": round(peak / 2**20, 1)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="vgg9")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    context, results = multiprocessing.get_context("spawn"), []
    for net in given.nets.split(","):
        rows = []
        for variant in given.variants.split(","):
            here, there = context.Pipe()
            child = context.Process(target=_child, args=(there, net, variant, given.batch))
            child.start()
            there.close()
            row = here.recv()
            child.join()
            if row:
                rows.append(row)
                print(
                    f"  {net:8} {variant:20} step {row['step_mb']:8.1f} MB   process {row['process_mb']:8.1f} MB",
                    flush=True,
                )
        results.append({"net": net, "batch": given.batch, "rows": rows})
    import provenance

    print(f"written: {provenance.write(given.out, 'memory', {'results': results}, sys.argv)}")


if __name__ == "__main__":
    main()
