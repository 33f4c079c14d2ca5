"""A million pictures of 3x32x32: seconds to the first round and memory of a round of 10 sampled clients of 100 each.

    python benchmarks/bigset.py [--images 1000000] [--folder DIR]

The set is made once in a folder of class folders (hard links to a few distinct pictures) and as an .npz that is not
compressed; each form is run in a process of its own. Memory is the process's peak resident set; start is wall time from
the call of ``spikefed.run`` to its first round, imports and index included, beside the processor's of the whole start.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import provenance
from PIL import Image

ROOT = Path(__file__).parents[1]
CLASSES = 10
DISTINCT = 64
CHILD = """
import json, resource, sys, time
import spikefed

class Clock:
    def begin(self, *_): self.begun, self.cpu = time.perf_counter(), time.process_time()
    def __getattr__(self, name): return lambda *_: None

clock, start = Clock(), time.perf_counter()
spikefed.run(json.loads(sys.argv[1]), out=sys.argv[2], progress=clock)
took = time.perf_counter() - clock.begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
told = {"start_s": clock.begun - start, "start_cpu_s": clock.cpu, "round_s": took}
print(json.dumps({key: round(value, 2) for key, value in told.items()} | {"peak_bytes": peak}))
"""


def main() -> None:
    """Make both forms, run each, keep a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the set; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        place = Path(name)
        as_folder(place / "pictures", given.images)
        as_npz(place / "pictures.npz", given.images)
        rows = [measure(place, source, given.images) for source in ("images:pictures", "npz:pictures.npz")]
    line = "{source:18} start {start_s:6.2f} s ({start_cpu_s:.2f} of processor), round {round_s:6.2f} s, {gb:5.2f} GB"
    for row in rows:
        print(line.format(**row))
    content = {
        "images": given.images,
        "shape": [3, 32, 32],
        "threads": 1,
        "clock": "wall, and processor where the key says so",
        "rows": rows,
    }
    print(f"written: {provenance.write(ROOT / 'results' / 'bench', 'bigset', content, [sys.argv[0]])}")


def as_folder(root: Path, count: int) -> None:
    """Class folders of PNG files; every file is one of a few pictures."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for label in range(CLASSES):
        folder = root / f"class{label}"
        folder.mkdir()
        for n in range(DISTINCT):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / f"{label}-{n}.png")
        for n in range(count // CLASSES):
            os.link(root / f"{label}-{n % DISTINCT}.png", folder / f"{n:06}.png")


def as_npz(path: Path, count: int, block: int = 10_000) -> None:
    """The archive that numpy.savez would write, block by block."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (count, 3, 32, 32)}
            )
            for start in range(0, count, block):
                file.write(rng.integers(0, 256, (min(block, count - start), 3, 32, 32), dtype=np.uint8).tobytes())
        with archive.open("labels.npy", "w") as file:
            np.lib.format.write_array(file, np.arange(count) % CLASSES)


def measure(place: Path, source: str, count: int) -> dict[str, Any]:
    """One round in a process of its own."""
    clients = (count * 4 // 5 - 1000) // 100  # a fifth is test part
    tree = {
        "name": "big", "rounds": 1, "run": {"threads": 1},
        "data": {"dataset": source, "dir": str(place), "clients": clients, "private_per_client": 100, "public": 1000,
                 "test_limit": 1000},
        "network": {"name": "8C3-AP2-8C3-AP2", "steps": 4}, "training": {"local_epochs": 1},
        "participation": {"schedule": "sample", "fraction": 10 / clients},
        "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1},
    }  # fmt: skip
    words = [sys.executable, "-c", CHILD, json.dumps(tree), str(place / f"run-{source.partition(':')[0]}")]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    row = json.loads(done.stdout.splitlines()[-1])
    return {"source": source, **row, "gb": row["peak_bytes"] / 1e9}


if __name__ == "__main__":
    main()
