"""All benchmarks in turn, then the tables: what `make bench` does.

    python -m benchmarks.run [--quick] [--data-dir DATA]

``--quick`` takes few rounds and leaves out `cifarnet`. Parity and the FSD round need the
Fashion-MNIST files: ``--data-dir``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def plan(quick: bool, data_dir: str | None, cores: int) -> list[list[str]]:
    """Command lines, each a script of this folder with its arguments."""
    rounds = "3" if quick else "9"
    threads = "1,2" if cores > 1 else "1"
    networks = ["small", "vgg9"] if quick else ["small", "vgg9", "cifarnet"]
    common = ["--threads", threads, "--tasks", "train,infer", "--rounds", rounds, "--keep-memory"]
    lines = [["steps.py", "--nets", net, *common] for net in networks]
    lines += [["lif.py"], ["layers.py"], ["memory.py", "--nets", ",".join(networks)]]
    if data_dir:
        lines += [["parity.py", "--data-dir", data_dir], ["fsd_round.py", "--data-dir", data_dir]]
    return [*lines, ["tables.py"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data-dir", help="folder of the data files")
    given = parser.parse_args()
    for script, *arguments in plan(given.quick, given.data_dir, os.cpu_count() or 1):
        print(f"\n== {script} {' '.join(arguments)}", flush=True)
        if subprocess.run([sys.executable, str(HERE / script), *arguments]).returncode != 0:
            sys.exit(f"{script} failed")
    if not given.data_dir:
        print("\nleft out: parity.py and fsd_round.py (they need --data-dir with the Fashion-MNIST files)")


if __name__ == "__main__":
    main()
