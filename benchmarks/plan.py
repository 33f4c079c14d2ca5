"""What `spikefed plan` says of six experiments beside what their runs then measure: time, memory, bytes, energy.

    python benchmarks/plan.py [--only NAME] [--data-dir DATA] [--out results/bench]

Plan, run and the same plan again are processes of their own, one after the other, so that none sees another's memory;
of the plans' times the mean counts, as machines do other things too. A ratio is the plan's figure over the run's: 1 is
exact, and the aim is 1/1.5 to 1.5. Time is that of all rounds: on the wall clock, and of the processor (the run's own
start-up taken off). One of the six needs the Fashion-MNIST files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import provenance

from spikefed.experiment import RunFolder
from spikefed.experiment.energy import experiment_energy

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
LIMIT = 1.5
CHANGES = (
    "method.payload=change",
    "method.payload_down=change",
    "wire.weights_up=stc-100",
    "wire.weights_down=stc-100",
)
TICKETS = (
    "method.name=tickets", "method.search=one-shot", "method.restart=keep", "method.search_rounds=4",
    "method.level_rounds=4", "method.sparsities=[0.9]", "wire.weights_up=fp16", "wire.weights_down=fp16",
)  # fmt: skip
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "fsd, digits": ("fsd-digits.toml", ("rounds=8",)),
    "fedavg with stc, digits": ("fedavg-digits.toml", ("rounds=8", *CHANGES)),
    "fsd+, digits, Dirichlet": (
        "fsd-digits.toml", ("rounds=8", "method.name=fsd+", "data.partition=dirichlet", "data.alpha=0.3"),
    ),
    "tickets, digits": ("fedavg-digits.toml", ("rounds=8", *TICKETS)),
    "fsd, watch, people": ("fsd-watch.toml", ("rounds=6",)),
    "fedavg, Fashion-MNIST, two workers, some clients": (
        "fedavg-fashion-mnist-mini.toml",
        (
            "rounds=8", "data.private_per_client=400", "data.clients=6", "data.test_limit=1000", "run.workers=2",
            "participation.schedule=sample", "participation.fraction=0.5",
        ),
    ),
}  # fmt: skip
"""By name: the experiment file, and what is set on top of it."""


@dataclass(frozen=True)
class Spent:
    """What a process used.

    Attributes:
        said: its standard output.
        wall_s: from start to end.
        processor_s: of itself and its workers.
        peak_bytes: the largest that it, or a worker, was.
    """

    said: str
    wall_s: float
    processor_s: float
    peak_bytes: int


def spent(command: Sequence[str]) -> Spent:
    """Run a command to its end."""
    clock = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out, env={**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
        out.seek(0)
        return Spent(out.read(), time.perf_counter() - clock, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def compared(file: Path, settings: Iterable[str], folder: Path) -> dict[str, Any]:
    """Plan and run of one experiment: both figures of everything, and their ratio."""
    sets = [word for text in ("run.threads=1", *settings) for word in ("--set", text)]
    spikefed = [sys.executable, "-m", "spikefed"]
    planned = spent([*spikefed, "plan", str(file), "--json", "-q", *sets])
    plan = json.loads(planned.said)
    ran = spent([*spikefed, "run", str(file), "-q", "--out", str(folder), *sets])
    again = json.loads(spent([*spikefed, "plan", str(file), "--json", "-q", *sets]).said)
    assert again["upstream_bytes"] == plan["upstream_bytes"], "two plans of one experiment are one plan"
    run = RunFolder(folder)
    result = run.read_result()
    rounds_s = sum(line["seconds"]["round"] for line in run.read_lines(run.metrics))
    share = ran.processor_s / ran.wall_s
    pairs = {
        "time_s": (mean(told["round_s"] for told in (plan, again)) * plan["rounds"], rounds_s),
        "processor_s": (mean(told["processor_s"] for told in (plan, again)) * plan["rounds"], share * rounds_s),
        "memory_bytes": (plan["memory_bytes"], ran.peak_bytes),
        "upstream_bytes": (plan["upstream_bytes"], result["upstream_bytes"]),
        "downstream_bytes": (plan["downstream_bytes"], result["downstream_bytes"]),
        "training_pj": (plan["client_round"]["training_pj"], experiment_energy(folder).client_round.training_pj),
    }
    rows = {key: {"plan": a, "run": b, "ratio": round(a / b, 4) if b else None} for key, (a, b) in pairs.items()}
    return {"rounds": plan["rounds"], "exact": plan["exact"], "plan_s": round(planned.wall_s, 2), "figures": rows}


def outside(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The figures that a plan missed by more than `LIMIT`."""
    return [
        f"{row['name']}: {key} {figure['ratio']}"
        for row in rows
        for key, figure in row["figures"].items()
        if figure["ratio"] is not None and not 1 / LIMIT <= figure["ratio"] <= LIMIT
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="one of the six, by a part of its name")
    parser.add_argument("--data-dir", help="folder of the data files")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    folder = [] if given.data_dir is None else [f"data.dir={json.dumps(given.data_dir)}"]
    rows = []
    for name, (file, settings) in CASES.items():
        if given.only and given.only not in name:
            continue
        with tempfile.TemporaryDirectory() as place:
            found = compared(EXPERIMENTS / file, [*settings, *folder], Path(place) / "run")
        rows.append({"name": name, "file": file, "settings": list(settings), **found})
        ratios = "  ".join(f"{key} {figure['ratio']}" for key, figure in found["figures"].items())
        print(f"{name}: {ratios}", flush=True)
    missed = outside(rows)
    print("within a factor 1.5: " + ("all" if not missed else "all but " + "; ".join(missed)))
    if not given.only:
        print(f"written: {provenance.write(given.out, 'plan', {'limit': LIMIT, 'results': rows}, sys.argv)}")


if __name__ == "__main__":
    main()
