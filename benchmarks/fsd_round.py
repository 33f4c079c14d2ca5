"""A whole FSD run with the fast kernels beside the same run with the reference, one process each, alternated.

    python benchmarks/fsd_round.py --data-dir DATA [--experiment FILE] [--set rounds=2 ...]

Processor seconds of the whole process (start and data included) decide the ratio, because other work on the machine
does not change them; the seconds of the parts come from metrics.jsonl of the run folder. Federated overhead is the
time for encoding, checkpoints and logs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import provenance

WORK = ("client_train", "distil", "server", "evaluate")


def run(experiment: str, data_dir: str, settings: list[str], mode: str, threads: int, folder: Path) -> dict[str, float]:
    environment = {
        **os.environ,
        "SPIKEFED_KERNELS": mode,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads),
    }
    command = [
        sys.executable,
        "-m",
        "spikefed",
        "run",
        experiment,
        "--data-dir",
        data_dir,
        "--out",
        str(folder),
        "--quiet",
    ]
    for setting in settings:
        command += ["--set", setting]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seconds = {key: sum(line["seconds"].get(key, 0.0) for line in lines) for key in lines[0]["seconds"]}
    overhead = sum(value for key, value in seconds.items() if key in ("wire", "checkpoint", "log"))
    return {
        "cpu_seconds": round(cpu, 2),
        "seconds": round(seconds["round"], 2),
        "overhead_share": round(overhead / seconds["round"], 4),
        "accuracy": lines[-1]["server_accuracy"],
        **{f"seconds_{key}": round(value, 3) for key, value in seconds.items() if key in WORK},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="experiments/fsd-fashion-mnist-mini.toml")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument(
        "--fast-set", action="append", default=[], help="settings of the fast run alone (network.precision=bfloat16)"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(given.repeats):
            pair = {
                mode: run(
                    given.experiment,
                    given.data_dir,
                    given.settings + (given.fast_set if mode == "auto" else []),
                    mode,
                    given.threads,
                    Path(folder) / f"{mode}{repeat}",
                )
                for mode in ("auto", "reference")
            }
            ratio = pair["reference"]["cpu_seconds"] / pair["auto"]["cpu_seconds"]
            print(f"  fast {pair['auto']}\n  reference {pair['reference']}\n  ratio {ratio:.2f}", flush=True)
            rows.append({**pair, "ratio": round(ratio, 3)})
    content = {
        "experiment": given.experiment,
        "settings": given.settings,
        "fast_settings": given.fast_set,
        "threads": given.threads,
        "ratio": statistics.median(row["ratio"] for row in rows),
        "rows": rows,
    }
    print(f"written: {provenance.write(given.out, 'fsd-round', content, sys.argv)}")


if __name__ == "__main__":
    main()
