"""How long the five notebooks on data of one's own train: image folder, csv, series, events, people.

    python benchmarks/notebooks.py

Each runs in a process and an empty folder of its own. "Training" is everything inside `spikefed.run`, reading the data,
measuring and writing the run folder included; "all" is the whole notebook. Seconds of processor time and by the clock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
NOTEBOOKS = ("image-folder", "csv", "series", "events", "people")
BOUND_S = 20
"""Seconds of training that the five may take together."""


def one(path: Path) -> dict[str, Any]:
    """Run the code of a notebook here; seconds of each of its runs."""
    import spikefed

    runs: list[dict[str, Any]] = []
    plain = spikefed.run

    def timed(*args: Any, **kwargs: Any) -> Any:
        began, worked = time.perf_counter(), time.process_time()
        try:
            return plain(*args, **kwargs)
        finally:
            clock, work = time.perf_counter() - began, time.process_time() - worked
            runs.append({"clock_s": round(clock, 3), "processor_s": round(work, 3)})

    spikefed.run = timed
    began, worked = time.perf_counter(), time.process_time()
    space: dict[str, Any] = {"__name__": "__main__"}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), space)
    everything = {
        "clock_s": round(time.perf_counter() - began, 2),
        "processor_s": round(time.process_time() - worked, 2),
    }
    return {"runs": runs, "training": {key: round(sum(run[key] for run in runs), 2) for key in everything},
            "all": everything}  # fmt: skip


def main() -> None:
    """Time the five, print a table and keep a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--one", type=Path, help="run this notebook here and print what it took (called by itself)")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one)))
        return
    import provenance

    rows = []
    for name in NOTEBOOKS:
        words = [sys.executable, __file__, "--one", str(ROOT / "docs" / "tutorials" / f"{name}.ipynb")]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        rows.append({"notebook": name, **json.loads(done.stdout.splitlines()[-1])})
        took = rows[-1]["training"]
        print(f"{name:14} {len(rows[-1]['runs'])} runs: training {took['processor_s']:5.2f} s of processor time, "
              f"{took['clock_s']:5.2f} s by the clock")  # fmt: skip
    together = {key: round(sum(row["training"][key] for row in rows), 2) for key in ("clock_s", "processor_s")}
    took = f"{together['processor_s']:.2f} s of processor time, {together['clock_s']:.2f} s by the clock"
    print(f"together       training {took}; the bound is {BOUND_S} s")
    content = {"rows": rows, "training": together, "bound_s": BOUND_S, "threads": 1}
    print(f"written: {provenance.write(ROOT / 'results' / 'bench', 'notebooks', content, sys.argv)}")


if __name__ == "__main__":
    main()
