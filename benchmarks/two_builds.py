"""A federated round, or a training step, in this checkout beside the same in another one, in turns.

    python benchmarks/two_builds.py --other CHECKOUT [--experiment FILE] [--rounds 6] [--set table.key=value ...]
    python benchmarks/two_builds.py --other CHECKOUT --steps small,vgg9-bntt [--rounds 20]
    python benchmarks/two_builds.py --other CHECKOUT --codecs context,bitpack,fp16 [--rounds 40]

Each checkout runs in a process of its own, which stays alive and does one round at a time: here, there, there, here,
... A figure is processor time of the whole round (clients, server, evaluation, codecs), or of one training step in
float32 (forward, backward, SGD), or of messages through both links (the server's to a client, a client's back); x is
the median over rounds of (there / here). Round 1 is the warm-up. Both begin from the same seed, so their accuracies,
losses or bytes say whether they do the same. Each says which instruction set its native library runs on; both are held
to SPIKEFED_NATIVE_ISA, also a checkout from before that variable.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import provenance

BEGIN = """
import os

from spikefed.neurons import fused

library, sets = fused.library(), ("portable", "avx2", "avx512")
if library is not None and os.environ.get("SPIKEFED_NATIVE_ISA"):
    library.spikefed_set_level(sets.index(os.environ["SPIKEFED_NATIVE_ISA"]))
isa = "none" if library is None else sets[library.spikefed_level()]
"""
"""Before every worker's own code."""
WORKER = """
import json, sys, time
from pathlib import Path

import torch
from spikefed import native
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.wire import Ledger

torch.set_num_threads(int(sys.argv[1]))
native.keep_memory()
federation = build(configs.load(Path(sys.argv[2]), sys.argv[3:]))
server = federation.server(federation.local_transport(), Ledger())
print("ready", isa, flush=True)
for line in sys.stdin:
    start = time.process_time()
    record = server.run_round()
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "accuracy": record.evaluation.accuracy}), flush=True)
"""

STEP_WORKER = """
import json, sys, time

import torch
from spikefed import native, networks

torch.set_num_threads(int(sys.argv[1]))
native.keep_memory()
name, shape, batch = sys.argv[2], tuple(map(int, sys.argv[3].split("x"))), int(sys.argv[4])
net = networks.build(name, input_shape=shape, classes=10, steps=8, readout="current", seed=0)
draws = torch.Generator().manual_seed(0)
images, labels = torch.rand(batch, *shape, generator=draws), torch.randint(0, 10, (batch,), generator=draws)
optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
print("ready", isa, flush=True)
for line in sys.stdin:
    start = time.process_time()
    loss = torch.nn.functional.cross_entropy(net(images, generator=draws).mean(0), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    print(json.dumps({"seconds": time.process_time() - start, "loss": loss.item()}), flush=True)
"""
CODEC_WORKER = """
import json, sys, time
import numpy as np
from spikefed.wire import ClientLink, ServerLink, SpikeDownlink, SpikeUplink, WeightsDownlink, WeightsUplink

codec, repeats = sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(0)
spiking = codec in ("context", "bitpack")

def train():
    return (truth ^ (rng.random(truth.shape) < 0.02)).astype(np.uint8)

rates = np.where(np.arange(10) == rng.integers(0, 10, (4000, 1)), 0.93, 0.004)
truth = (rng.random((4000, 10, 8)) < rates[:, :, None]).astype(np.uint8)
tensors = lambda: {f"layer{i}.weight": rng.normal(0, 0.05, (200, 500)).astype(np.float32) for i in range(3)}
server = ServerLink(codec, codec)
client = ClientLink(0, codec, codec)
print("ready", isa, flush=True)
number = 0
for line in sys.stdin:
    drawn = [(train(), train()) if spiking else (tensors(), tensors()) for _ in range(repeats)]
    size = 0
    start = time.process_time()
    for down, up in drawn:
        number += 1
        if spiking:
            down = SpikeDownlink(number, down, bytes(32))
            up = SpikeUplink(number, 0, up, 0.5, bytes(32))
        else:
            down = WeightsDownlink(number, down)
            up = WeightsUplink(number, 0, up, 100, 0.5)
        sent = server.encode(down, client=0)
        client.decode(sent, down.plan().for_client(0))
        back = client.encode(up)
        server.decode(back, up.plan())
        size += len(sent) + len(back)
    print(json.dumps({"seconds": time.process_time() - start, "bytes": size}), flush=True)
"""
REPEATS = {"context": 6, "bitpack": 400, "float32": 40, "fp16": 40, "qsgd-7": 8}
"""Messages each way in a round of a codec, so that it takes about a tenth of a second; 4 of any other."""
SHAPES = {"small": ("1x28x28", "64"), "vgg9-bntt": ("3x32x32", "32"), "cifarnet": ("3x32x32", "8")}
"""Images and batch of the steps, as in `steps.py`."""


class Build:
    """A checkout's process.

    Args:
        checkout: where it lies.
        worker: what the process runs.
        arguments: of the worker, after the number of threads.
        threads: that it may use.
    """

    def __init__(self, checkout: Path, worker: str, arguments: list[str], threads: int) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout / "src"),
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": str(threads),
        }
        command = [sys.executable, "-c", BEGIN + worker, str(threads), *arguments]
        self.process = subprocess.Popen(
            command, env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.instruction_set = self._read("ready").split()[1]

    def _read(self, wanted: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(wanted):
                return line
        sys.exit(f"a process ended early; run its command to see why: {self.process.args}")

    def round(self) -> dict[str, float]:
        """One round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self._read("{"))


def compared(builds: dict[str, Build], rounds: int, measure: str) -> dict[str, Any]:
    """Rounds in turns: their ratios, and the rows.

    Args:
        builds: ``here`` and ``there``.
        rounds: after the warm-up.
        measure: ``accuracy``, ``loss`` or ``bytes``: what both say of their round.
    """
    rows = []
    for number in range(rounds + 1):
        order = ("here", "there") if number % 2 else ("there", "here")
        row = {name: builds[name].round() for name in order}
        ratio = row["there"]["seconds"] / row["here"]["seconds"]
        print(
            f"  round {number + 1}: here {row['here']['seconds']:.3f} s, there {row['there']['seconds']:.3f} s, "
            f"x {ratio:.2f}; {measure} {row['here'][measure]:.4f}, {row['there'][measure]:.4f}",
            flush=True,
        )
        rows.append({**row, "ratio": round(ratio, 3)})
    for build in builds.values():
        build.process.terminate()
    ratios = [row["ratio"] for row in rows[1:]]
    found: dict[str, Any] = {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios)}
    found |= {"native": {name: build.instruction_set for name, build in builds.items()}, "rows": rows}
    print(f"x {found['ratio']:.3f} [{min(ratios):.2f}, {max(ratios):.2f}]")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="the other checkout, with its native library built")
    parser.add_argument("--experiment", default="experiments/fsd-digits.toml", help="relative to both checkouts")
    parser.add_argument("--steps", help=f"training steps of these networks instead: {', '.join(SHAPES)}")
    parser.add_argument("--codecs", help="messages by these codecs instead: context, bitpack, or any of weights")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--other-commit", help="of a checkout that has no history")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    folders = {"here": Path(__file__).resolve().parents[1], "there": given.other.resolve()}
    asked = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(asked, cwd=given.other, capture_output=True, text=True).stdout.strip()
    content: dict[str, Any] = {"threads": given.threads, "other": given.other_commit or commit}
    if given.codecs:
        content["codecs"] = {}
        for name in given.codecs.split(","):
            print(name)
            arguments = [name, str(REPEATS.get(name, 4))]
            builds = {n: Build(at, CODEC_WORKER, arguments, given.threads) for n, at in folders.items()}
            content["codecs"][name] = compared(builds, given.rounds, "bytes")
    elif given.steps:
        content["nets"] = {}
        for name in given.steps.split(","):
            print(name)
            builds = {n: Build(at, STEP_WORKER, [name, *SHAPES[name]], given.threads) for n, at in folders.items()}
            content["nets"][name] = compared(builds, given.rounds, "loss")
    else:
        builds = {
            name: Build(at, WORKER, [str(at / given.experiment), *given.settings], given.threads)
            for name, at in folders.items()
        }
        content |= {"experiment": given.experiment, "settings": given.settings}
        content |= compared(builds, given.rounds, "accuracy")
    print(f"written: {provenance.write(given.out, 'two-builds', content, sys.argv)}")


if __name__ == "__main__":
    main()
