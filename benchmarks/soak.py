"""A fleet that is hurt at random for many rounds: ``python benchmarks/soak.py --rounds 200``.

Every few rounds one process is killed with SIGKILL, chosen by a fixed seed: the server (in the first 60 % of rounds, so
that its last life is long), its SuperLink, or a client other than the first. It is started again at once (the SuperLink
by its parent). At the end model and ledger must be those of one undisturbed process, no round may be missing, and the
memory of the first client and of the server's last life must be flat: the median of the last quarter of its samples at
most 5 % above that of the second quarter.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import provenance

from spikefed import experiment, native
from spikefed.deploy.loopback import Loopback, differing
from spikefed.experiment import RunFolder

ROOT = Path(__file__).parents[1]
SMALL = [
    "data.clients=3", "data.private_per_client=40", "data.public=40", "data.test_limit=100", "network.steps=4",
    "training.local_epochs=1", "method.distil_epochs=1", "method.server_epochs=1", "run.threads=1",
]  # fmt: skip


def soak(folder: Path, rounds: int, every: int, seed: int, timeout_s: float) -> dict[str, Any]:
    """Run, hurt, compare."""
    file, overrides = ROOT / "experiments" / "fsd-digits-fleet.toml", [*SMALL, f"rounds={rounds}"]
    local = experiment.run(file, overrides=overrides, out=folder / "local")
    dice, kills, memory = random.Random(seed), {}, {}
    with Loopback(file, folder / "fleet", overrides) as fleet:
        fleet.start()
        due, started, end = every, time.monotonic(), time.monotonic() + timeout_s
        while fleet.processes["server"].poll() is None:
            if time.monotonic() > end:
                raise SystemExit(f"only {fleet.rounds()} rounds in {timeout_s:.0f} s: {fleet.said('server')[-500:]}")
            if fleet.rounds():  # before the first round programs start, however long that takes on a busy machine
                sample(fleet, memory)
            if due <= fleet.rounds() < rounds - 2:
                due = fleet.rounds() + every
                victims = ["superlink", "client-1", "client-2"] + ["server"] * (fleet.rounds() < 0.6 * rounds)
                victim = dice.choice(victims)
                kills[victim] = kills.get(victim, 0) + 1
                time.sleep(dice.random())
                hurt(fleet, victim)
            time.sleep(0.5)
        if fleet.wait("server", 1):
            raise SystemExit(fleet.said("server")[-800:])
        codes = {name: fleet.wait(name, 300) for name in fleet.processes}
        seconds = time.monotonic() - started
    found = RunFolder(fleet.run)
    lines = found.read_lines(found.metrics)
    return {
        "rounds": rounds,
        "seed": seed,
        "seconds": round(seconds, 1),
        "kills": kills,
        "exit_codes": codes,
        "rounds_in_order": [line["round"] for line in lines] == list(range(1, rounds + 1)),
        "rounds_without_merge": [line["round"] for line in lines if not line["merged"]],
        "dropped": sum(len(line["dropped"]) for line in lines),
        "differs_from_one_process": differing(local, fleet.run),
        "left_over_processes": len(fleet.left_over()),
        "memory": {name: samples for name, samples in longest_lives(memory).items() if samples["samples"] >= 40},
    }


def sample(fleet: Loopback, memory: dict[tuple[str, int], list[int]]) -> None:
    """Note the memory of every process of the fleet, and of those it has started."""
    for name, process in fleet.processes.items():
        memory.setdefault((name, process.pid), []).append(native.resident_bytes(process.pid))
        for child in children(process.pid):
            flower = "its SuperLink" if name == "server" else "its SuperNode"
            memory.setdefault((f"{name}, {flower}", child), []).append(native.resident_bytes(child))


def hurt(fleet: Loopback, victim: str) -> None:
    """Kill one process and start it again."""
    if victim == "superlink":
        for child in children(fleet.processes["server"].pid):
            os.kill(child, signal.SIGKILL)
        return
    if fleet.processes[victim].poll() is not None:
        return
    fleet.kill(victim)
    if victim == "server":
        fleet.server()
    else:
        fleet.client(int(victim.split("-")[1]))


def children(pid: int) -> list[int]:
    """Direct children, whichever thread started them (Linux)."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def longest_lives(memory: dict[tuple[str, int], list[int]]) -> dict[str, dict[str, Any]]:
    """Memory of the longest life of each program: megabytes at its end, and growth.

    Growth is the last quarter's median over the second quarter's, less one; the first quarter is warming up.
    """
    found: dict[str, dict[str, Any]] = {}
    for (name, _), samples in sorted(memory.items(), key=lambda item: len(item[1])):
        samples = [sample for sample in samples if sample]
        quarter = len(samples) // 4
        if not quarter:
            continue
        late, early = median(samples[-quarter:]), median(samples[quarter : 2 * quarter])
        found[name] = {"samples": len(samples), "mb": round(late / 1e6, 1), "growth": round(late / early - 1, 4)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--every", type=int, default=8, help="rounds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=7200)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), given.rounds, given.every, given.seed, given.timeout)
    path = provenance.write(given.out, "soak", found, sys.argv)
    print(path.read_text(), path)
    bad = not found["rounds_in_order"] or found["rounds_without_merge"] or found["differs_from_one_process"]
    leak = any(found["memory"][name]["growth"] > 0.05 for name in ("server", "client-0") if name in found["memory"])
    sys.exit(1 if bad or leak or found["left_over_processes"] else 0)


if __name__ == "__main__":
    main()
