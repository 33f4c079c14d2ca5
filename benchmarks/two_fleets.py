"""Loopback fleets of this checkout and of another one, mixed: does a server of the one agree with clients of the other?

    python benchmarks/two_fleets.py --other CHECKOUT [--methods fsd,fedavg] [--limit 240] [--out results/bench]

Four fleets a method, one after the other: all of this build, clients of the other build, a server of the other build,
all of the other build. Every one is a server and two clients as processes of their own, with TLS and node keys, as in
docs/deploy.md: two rounds of digits in pure torch (SPIKEFED_NATIVE=0), so no library need be built. The server's build
deals the shares out, so each build reads share folders of the other. A process that has not ended after ``--limit``
seconds is stopped and its last words are the result. Metrics (without seconds), ledger and final model are held
against those of one process of this build. Ends with 1 where a fleet differs.
"""

from __future__ import annotations

import os

os.environ["SPIKEFED_NATIVE"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import filecmp
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import provenance
from same_results import HERE, differences, lines

from spikefed import experiment
from spikefed.deploy.loopback import Loopback
from spikefed.errors import DeployError

EXPERIMENT = """
name = "two-fleets"
seed = 1
rounds = 2

[data]
dataset = "digits"
clients = 2
private_per_client = 64
public = 40
test_limit = 100

[network]
name = "8C3-AP2-32FC"
steps = 4

[method]
name = "{method}"

[training]
local_epochs = 1
local_batch = 16

[run]
threads = 1
"""
FLEETS = (("new", "new"), ("new", "old"), ("old", "new"), ("old", "old"))
"""Build of the server, build of the clients."""


def program(checkout: Path) -> list[str]:
    """The command ``spikefed`` of a checkout."""
    return ["env", f"PYTHONPATH={checkout / 'src'}", sys.executable, "-m", "spikefed"]


def check(checkout: Path) -> None:
    """End here if the processes of a checkout would load another spikefed than its own."""
    code = "import spikefed; print(spikefed.__file__)"
    said = subprocess.run([*program(checkout)[:-2], "-c", code], capture_output=True, text=True, timeout=60)
    if not said.stdout.startswith(str(checkout / "src")):
        raise SystemExit(f"{checkout} is no checkout of spikefed: {said.stdout or said.stderr[-200:]}")


def run_fleet(file: Path, folder: Path, server: Path, clients: Path, limit_s: float) -> str:
    """Run one fleet to its end; ``ok``, or what a process that failed or did not end said last.

    Args:
        file: the experiment.
        folder: everything is put there.
        server: checkout that the server runs, and that deals out the shares.
        clients: checkout that the clients run.
        limit_s: seconds that a process may take.
    """
    with Loopback(file, folder) as fleet:
        fleet.shares = folder / "dealt"
        dealt = subprocess.run(
            [*program(server), "data", "share", str(file), "--out", str(fleet.shares)],
            capture_output=True, text=True, timeout=limit_s,
        )  # fmt: skip
        if dealt.returncode:
            return f"no shares: {dealt.stderr[-300:]}"
        fleet.server(program=program(server))
        for number in range(fleet.config.data.clients):
            fleet.client(number, program=program(clients))
        try:
            codes = {name: fleet.wait(name, limit_s) for name in fleet.processes}
        except DeployError as error:
            said = "; ".join(f"{name}: {fleet.said(name)[-300:]}" for name in fleet.processes)
            return f"{error}; {said}"
        failed = [f"{name} ended with {code}: {fleet.said(name)[-300:]}" for name, code in codes.items() if code]
        return "; ".join(failed) or "ok"


def compared(local: Path, run: Path) -> dict[str, Any]:
    """What a fleet's run folder says, and what of it differs from the run in one process."""
    found, added = differences(run, local)
    told = lines(run)
    return {
        "differs": found,
        "ledger_identical": filecmp.cmp(local / "ledger.jsonl", run / "ledger.jsonl", shallow=False),
        "keys_only_here": sorted(added),
        "rounds": len(told),
        "dropped": [drop for line in told for drop in line.get("dropped", [])],
        "upstream_bytes": told[-1]["upstream_bytes_total"],
        "downstream_bytes": told[-1]["downstream_bytes_total"],
        "accuracy": told[-1]["server_accuracy"],
    }


def main() -> None:
    """Run the fleets, print a line each, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="a checkout; nothing in it need be built")
    parser.add_argument("--methods", default="fsd,fedavg", help="each gives four fleets (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds a process may take (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "bench")
    chosen = parser.parse_args()
    builds = {"new": HERE, "old": chosen.other.resolve()}
    for checkout in builds.values():
        check(checkout)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for method in chosen.methods.split(","):
            file = Path(temporary) / f"{method}.toml"
            file.write_text(EXPERIMENT.format(method=method))
            local = experiment.run(file, out=Path(temporary) / f"{method}-local")
            for server, clients in FLEETS:
                folder = Path(temporary) / f"{method}-{server}-{clients}"
                began = time.monotonic()
                said = run_fleet(file, folder, builds[server], builds[clients], chosen.limit)
                row: dict[str, Any] = {"method": method, "server": server, "clients": clients, "said": said}
                row |= compared(local, folder / "run") if said == "ok" else {"differs": ["no run"]}
                results.append(row | {"wall_s": round(time.monotonic() - began, 1)})
                print(*(f"{key}={value}" for key, value in results[-1].items()), flush=True)
    other = subprocess.run(["git", "-C", chosen.other, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    content = {"other": other.stdout.strip(), "results": results}
    path = provenance.write(chosen.out, "two-fleets", content, sys.argv)
    print(path)
    sys.exit(any(row["differs"] for row in results))


if __name__ == "__main__":
    main()
