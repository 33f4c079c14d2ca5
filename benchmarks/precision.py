"""Whole federated runs in float32 beside bfloat16 and ``auto``, several seeds: do they learn alike?

    python benchmarks/precision.py --data-dir DATA [--set rounds=2 ...] [--work runs/precision]

Each run is a process of its own (``spikefed run``); its folder stays under ``--work``, so a repeated command goes on
where it was cut off. A finished folder of another commit or of other settings is refused, never read. Beside float32
stand the difference of each seed's last server accuracy, their mean and its 95 % interval (Student's t over the seeds).
To see a processor without bfloat16 instructions, set ONEDNN_MAX_CPU_ISA=AVX2, ATEN_CPU_CAPABILITY=avx2 and
SPIKEFED_NATIVE_ISA=avx2.
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
from scipy import stats

from spikefed.experiment import config as configs
from spikefed.experiment.provenance import commit
from spikefed.neurons import processor

PRECISIONS = ("float32", "bfloat16", "auto")


def check(folder: Path, config_hash: str) -> None:
    """A run folder is of this commit and this config, or the script ends with a sentence that says what it is of."""
    said = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    for what, here in (("commit", commit()), ("config_hash", config_hash)):
        if said.get(what) != here:
            sys.exit(
                f"{folder} holds a run whose {what.replace('_', ' ')} is {str(said.get(what))[:12]}, here it is "
                f"{str(here)[:12]}; delete the folder, or name another one with --work"
            )


def run(command: list[str], folder: Path, config_hash: str) -> dict[str, Any]:
    """One run: its processor time and its server accuracy after every round. A finished folder is only read."""
    done = folder / "seconds.json"
    if done.is_file():
        check(folder, config_hash)
    else:
        before = os.times()
        subprocess.run([*command, "--out", str(folder), "--quiet"], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        done.write_text(json.dumps(round(seconds, 1)))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "cpu_s": json.loads(done.read_text()),
        "accuracy": [line["server_accuracy"] for line in lines],
        "loss": lines[-1].get("server_loss"),
    }


def interval(differences: list[float]) -> list[float] | None:
    """95 % interval of the mean difference, by Student's t; None for one seed or for equal differences."""
    if len(set(differences)) < 2:
        return None
    error = statistics.stdev(differences) / len(differences) ** 0.5
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return [round(statistics.mean(differences) - half, 4), round(statistics.mean(differences) + half, 4)]


def compared(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean last accuracy of each precision, and its differences from float32 seed by seed."""
    last = {name: [row["accuracy"][-1] for row in runs] for name, runs in rows.items()}
    apart = {name: [v - f for v, f in zip(values, last["float32"], strict=True)] for name, values in last.items()}
    return {
        name: {
            "accuracy": round(statistics.mean(values), 4),
            "differences": [round(d, 4) for d in apart[name]],
            "difference": round(statistics.mean(apart[name]), 4),
            "interval": interval(apart[name]),
            "cpu_s": round(statistics.median(row["cpu_s"] for row in rows[name]), 1),
        }
        for name, values in last.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--experiment", default="experiments/fsd-fashion-mnist-mini.toml")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--seeds", default="0,1,2", help="comma list")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="comma list that begins with float32")
    parser.add_argument("--work", type=Path, default=Path("runs/precision"))
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in given.precisions.split(",")}
    for seed in map(int, given.seeds.split(",")):
        for name in rows:
            command = [sys.executable, "-m", "spikefed", "run", given.experiment, "--data-dir", given.data_dir]
            settings = [*given.settings, f"seed={seed}", f"network.precision={name}"]
            for setting in settings:
                command += ["--set", setting]
            config_hash = configs.load(Path(given.experiment), settings).hash()
            rows[name].append(run(command, given.work / f"{name}-seed{seed}", config_hash))
            print(f"  seed {seed} {name:8} {rows[name][-1]}", flush=True)
    content = {
        "experiment": given.experiment,
        "settings": given.settings,
        "seeds": given.seeds,
        "auto": processor.fastest_precision(),
        "bf16_instructions": processor.has_bf16(),
        "compared": compared(rows),
        "rows": rows,
    }
    print(json.dumps(content["compared"], indent=1))
    print(f"written: {provenance.write(given.out, 'precision', content, sys.argv)}")


if __name__ == "__main__":
    main()
