"""A federated round in this checkout beside the same round in another one, in turns.

    python benchmarks/two_builds.py --other CHECKOUT [--experiment FILE] [--rounds 6] [--set table.key=value ...]

Each checkout runs in a process of its own, which stays alive and does one round at a time: here, there, there, here,
... A figure is processor time of the whole round (clients, server, evaluation, codecs); x is the median over rounds of
(there / here). Round 1 is the warm-up. Both begin from the same seed, so their accuracies say whether they learn alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import provenance

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
print("ready", flush=True)
for line in sys.stdin:
    start = time.process_time()
    record = server.run_round()
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "accuracy": record.evaluation.accuracy}), flush=True)
"""


class Build:
    """A checkout's process."""

    def __init__(self, checkout: Path, experiment: str, settings: list[str], threads: int) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout / "src"),
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": str(threads),
        }
        command = [sys.executable, "-c", WORKER, str(threads), str(checkout / experiment), *settings]
        self.process = subprocess.Popen(
            command, env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read("ready")

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="the other checkout, with its native library built")
    parser.add_argument("--experiment", default="experiments/fsd-digits.toml", help="relative to both checkouts")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    builds = {
        name: Build(folder.resolve(), given.experiment, given.settings, given.threads)
        for name, folder in (("here", Path(__file__).parents[1]), ("there", given.other))
    }
    rows = []
    for number in range(given.rounds + 1):
        order = ("here", "there") if number % 2 else ("there", "here")
        row = {name: builds[name].round() for name in order}
        ratio = row["there"]["seconds"] / row["here"]["seconds"]
        print(
            f"  round {number + 1}: here {row['here']['seconds']:.3f} s, there {row['there']['seconds']:.3f} s, "
            f"x {ratio:.2f}; accuracy {row['here']['accuracy']:.4f}, {row['there']['accuracy']:.4f}",
            flush=True,
        )
        rows.append({**row, "ratio": round(ratio, 3)})
    for build in builds.values():
        build.process.terminate()
    ratios = [row["ratio"] for row in rows[1:]]
    content = {
        "experiment": given.experiment,
        "settings": given.settings,
        "threads": given.threads,
        "other": subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=given.other, capture_output=True, text=True
        ).stdout.strip(),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "rows": rows,
    }
    print(f"x {content['ratio']:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
    print(f"written: {provenance.write(given.out, 'two-builds', content, sys.argv)}")


if __name__ == "__main__":
    main()
