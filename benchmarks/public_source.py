"""FSD and FSD+ with public rows from different places: results/public-source/fashion-seedS.json, one seed a call.

    python benchmarks/public_source.py SEED [--method fsd+] [--sources "own set,seeds"] [--digits] [--small]

Fashion-MNIST, 4 clients with 1,000 images each, 1,000 public rows, 5 rounds. All keep batch statistics when they
predict (``train_bn_at_eval``, as FSD's authors' code does): running statistics of rows that are no clothes do not fit
clothes. Cases that are there already are not run again. ``--digits``: 8x8 digits, 200 images each, 600 public rows, 6
rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import measure

import spikefed

SOURCES: dict[str, dict[str, Any]] = {
    "own set": {},
    "seeds": {"public_source": {"kind": "seeds", "recipe": "impressions", "steps": 10, "lr": 0.1}},
    "noise": {"public_dataset": "noise"},
    "mnist": {"public_dataset": "mnist"},
    "sent": {"public_source": {"kind": "sent", "recipe": "impressions", "steps": 10, "lr": 0.1}},
    "fresh noise": {"public_source": {"kind": "seeds", "steps": 0}},
}
METHODS: dict[str, dict[str, Any]] = {
    "fsd+": {"name": "fsd+"},
    "fsd": {"name": "fsd", "distil_epochs": 2, "server_epochs": 2, "client_reset": "never"},
}


def measured(method: str, source: str, seed: int, toy: bool, out: Path, digits: bool = False) -> dict[str, Any]:
    """Accuracy by round and the bytes of one run.

    Args:
        method: of `METHODS`.
        source: of `SOURCES`.
        seed: of the run.
        toy: in a second.
        out: folder for the run.
        digits: in place of Fashion-MNIST.
    """
    data = {"dataset": "fashion-mnist", "clients": 4, "private_per_client": 1000, "public": 1000}
    data |= {"dataset": "digits", "private_per_client": 200, "public": 600} if digits else {}
    data |= {"dataset": "digits", "private_per_client": 60, "public": 60, "test_limit": 60} if toy else {}
    tree = {
        "name": "public-source",
        "seed": seed,
        "rounds": 2 if toy else 6 if digits else 5,
        "data": {**data, **({"public_dataset": "digits"} if toy and source == "mnist" else SOURCES[source])},
        "network": {"name": "small", "steps": 4},
        "training": {"local_epochs": 1 if toy else 2, "train_bn_at_eval": True},
        "method": METHODS[method],
        "run": {"threads": 1},
    }
    begin = time.process_time()
    run = spikefed.run(tree, out=out / f"{method}-{source.replace(' ', '-')}")
    result = json.loads((run / "result.json").read_text())
    ledger = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    rows = sum(line["encoded_bytes"] for line in ledger if line["kind"] == "public-rows")
    kept = {key: result[key] for key in ("accuracy", "upstream_bytes", "downstream_bytes", "public_set_bytes")}
    curve = [round(100 * line["accuracy"], 2) for line in result["curve"]]
    return {**kept, "public_rows_bytes": rows, "curve": curve, "processor_s": round(time.process_time() - begin, 1)}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/public-source"))
    parser.add_argument("--method", choices=METHODS, help="this one alone")
    parser.add_argument("--sources", default=",".join(SOURCES))
    parser.add_argument("--digits", action="store_true")
    parser.add_argument("--small", action="store_true", help="a toy, for tests")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = args.out / f"{'toy' if args.small else 'digits' if args.digits else 'fashion'}-seed{args.seed}.json"
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            f"{method}, {source}": partial(measured, method, source, args.seed, args.small, Path(folder), args.digits)
            for method in ([args.method] if args.method else METHODS)
            for source in args.sources.split(",")
        }
        measure(file, args.seed, cases)


if __name__ == "__main__":
    main()
