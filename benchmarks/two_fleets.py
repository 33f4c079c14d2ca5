"""Loopback fleets of this checkout and of another one, mixed: does a server of the one agree with clients of the other?

    python benchmarks/two_fleets.py --other CHECKOUT [--methods fsd,fedavg] [--upgrade] [--limit 240]

Four fleets a method, one after the other: all of this build, clients of the other build, a server of the other build,
all of the other build. Every one is a server and two clients as processes of their own, with TLS and node keys, as in
docs/deploy.md: two rounds of digits in pure torch (SPIKEFED_NATIVE=0), so no library need be built. The server's build
deals the shares out, so each build reads share folders of the other. ``--upgrade``: three fleets of the other build
are stopped (SIGTERM) after their first round of eight, and go on with this build everywhere, on the server alone, or on
the clients alone. Metrics (without seconds), ledger and final model are held against those of one process of this
build. A process that has not ended after ``--limit`` seconds is stopped and its last words are the result. One JSON
file goes to results/bench; ends with 1 where a fleet differs.
"""

from __future__ import annotations

import os

os.environ["SPIKEFED_NATIVE"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import filecmp
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import provenance
from same_results import HERE, differences, lines

from spikefed import experiment
from spikefed.deploy.loopback import Loopback
from spikefed.errors import DeployError

Builds = tuple[Path, Path]
"""Checkout of the server, checkout of the clients."""

EXPERIMENT = """
name = "two-fleets"
seed = 1
rounds = {rounds}

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
FLEETS = ("new new", "new old", "old new", "old old")
"""Build of the server, build of the clients."""
UPGRADES = ("old old, new new", "old old, new old", "old old, old new")
"""The same, before and after all are stopped and started again."""


def program(checkout: Path) -> list[str]:
    """The command ``spikefed`` of a checkout."""
    return ["env", f"PYTHONPATH={checkout / 'src'}", sys.executable, "-m", "spikefed"]


def check(checkout: Path) -> None:
    """End here if the processes of a checkout would load another spikefed than its own."""
    code = "import spikefed; print(spikefed.__file__)"
    said = subprocess.run([*program(checkout)[:-2], "-c", code], capture_output=True, text=True, timeout=60)
    if not said.stdout.startswith(str(checkout / "src")):
        raise SystemExit(f"{checkout} is no checkout of spikefed: {said.stdout or said.stderr[-200:]}")


def run_fleet(file: Path, folder: Path, first: Builds, limit_s: float, then: Builds | None = None) -> str:
    """Run one fleet to its end; ``ok``, or what a process that failed or did not end said last.

    Args:
        file: the experiment.
        folder: everything is put there.
        first: checkouts that server and clients run; the server's deals out the shares.
        limit_s: seconds that a process may take.
        then: checkouts that all are started again with after the first round, having been told to end.
    """
    with Loopback(file, folder) as fleet:
        fleet.shares = folder / "dealt"
        dealt = subprocess.run(
            [*program(first[0]), "data", "share", str(file), "--out", str(fleet.shares)],
            capture_output=True, text=True, timeout=limit_s,
        )  # fmt: skip
        if dealt.returncode:
            return f"no shares: {dealt.stderr[-300:]}"
        try:
            start(fleet, first)
            if then:
                fleet.wait_for(lambda: fleet.rounds() > 0, limit_s, "first round")
                for name in fleet.processes:
                    fleet.kill(name, signal.SIGTERM)
                done = fleet.rounds()
                start(fleet, then)
            codes = {name: fleet.wait(name, limit_s) for name in fleet.processes}
        except (DeployError, subprocess.TimeoutExpired) as error:
            return f"{error}; {last_words(fleet, list(fleet.processes))}"
        if failed := [name for name, code in codes.items() if code]:
            return f"{codes}; {last_words(fleet, failed)}"
        if then and done >= fleet.config.rounds:
            return f"the run was over after {done} rounds, before it could be taken up"
        return "ok"


def start(fleet: Loopback, builds: Builds) -> None:
    """Start the server of the one and all clients of the other."""
    server, clients = builds
    fleet.server(program=program(server))
    for number in range(fleet.config.data.clients):
        fleet.client(number, program=program(clients))


def last_words(fleet: Loopback, names: Sequence[str]) -> str:
    """What these processes printed last."""
    return "; ".join(f"{name}: {fleet.said(name)[-300:]}" for name in names)


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
    parser.add_argument(
        "--upgrade", action="store_true", help="stop all after the first round, go on with other builds"
    )
    parser.add_argument("--limit", type=float, default=240.0, help="seconds a process may take (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "bench")
    chosen = parser.parse_args()
    builds = {"new": HERE, "old": chosen.other.resolve()}
    for checkout in builds.values():
        check(checkout)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for method in chosen.methods.split(","):
            home = Path(temporary) / method
            home.mkdir()
            file = home / "exp.toml"
            file.write_text(EXPERIMENT.format(method=method, rounds=8 if chosen.upgrade else 2))
            local = experiment.run(file, out=home / "local")
            for number, name in enumerate(UPGRADES if chosen.upgrade else FLEETS):
                began = time.monotonic()
                folder = home / str(number)
                first, *then = [
                    (builds[server], builds[clients]) for server, clients in map(str.split, name.split(","))
                ]
                said = run_fleet(file, folder, first, chosen.limit, *then)
                told = compared(local, folder / "run") if said == "ok" else {"differs": ["no run"]}
                wall_s = round(time.monotonic() - began, 1)
                results.append({"method": method, "server, clients": name, "said": said, **told, "wall_s": wall_s})
                print(*(f"{key}={value}" for key, value in results[-1].items()), flush=True)
    other = subprocess.run(["git", "-C", chosen.other, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    content = {"other": other.stdout.strip(), "results": results}
    path = provenance.write(chosen.out, "two-fleets", content, sys.argv)
    print(path)
    sys.exit(any(row["differs"] for row in results))


if __name__ == "__main__":
    main()
