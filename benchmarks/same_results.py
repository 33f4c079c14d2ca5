"""Runs of this checkout and of another one, held against each other bit by bit.

    python benchmarks/same_results.py --other CHECKOUT [--only WORD ...] [--rounds 2] [--json FILE]

For every experiment of digits and every method that both know: metrics (without seconds), ledger and model; with
``--sweeps`` for every variant of every sweep of digits too, seed 0. Then what
the other build left behind: a run that was killed after its first round goes on here and ends as if nothing had been; a
finished run opens here. Last, a loopback fleet of each build (``--fleet``). Both use the kernels that they were built
with, so build the native library in both. A key of the metrics that only this build writes is named, not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import provenance
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parents[1]
TINY = {
    "name": "tiny",
    "data": {"clients": 3, "private_per_client": 32, "public": 20, "test_limit": 30},
    "network": {"name": "4C3-AP2-12FC", "steps": 4},
    "training": {"local_epochs": 1, "local_batch": 16},
    "run": {"threads": 1},
}
CHANGE = {"name": "fedavg", "payload": "change"}
VARIANTS: dict[str, dict[str, Any]] = {
    "fsd+ by rows": {"method": {"name": "fsd+", "row_share": 0.4, "groups": 2}},
    "fsd+ labels": {"method": {"name": "fsd+", "send": "labels", "row_share": 0.5}},
    "fsd random response": {"method": {"name": "fsd", "response_epsilon": 2.0, "response_source": "seeded"}},
    "fsd secure": {"method": {"name": "fsd", "secure": True}},
    "fsd secure, lied to": {
        "method": {
            "name": "fsd",
            "secure": True,
            "vote_levels": 9,
            "response_epsilon": 2.0,
            "response_source": "seeded",
        },
        "attack": {"clients": [1], "kind": "invert-spikes", "claim": 1.0},
    },
    "ds-fl power": {"method": {"name": "ds-fl", "sharpen": "power"}},
    "cfd 4 bits": {"method": {"name": "cfd", "bits_up": 4, "bits_down": 4}},
    "fedavg stc": {"method": CHANGE, "wire": {"weights_up": "stc-100"}},
    "fedavg qsgd": {"method": CHANGE, "wire": {"weights_up": "qsgd-7"}},
    "fedavg cossgd": {"method": CHANGE, "wire": {"weights_up": "cosine-2"}},
    "fedavg top-k": {"method": CHANGE, "wire": {"weights_up": "topk-100"}},
    "fedavg norms at home": {"method": {"name": "fedavg", "send": ["weight"]}},
}
WORKER = """
import json, sys
from pathlib import Path

import torch
from spikefed import experiment
from spikefed.experiment.progress import Quiet
from spikefed.report import load_run

class Killed(BaseException):
    pass

class Once(Quiet):
    def round(self, line):
        raise Killed

torch.set_num_threads(1)
for text in sys.stdin:
    job = json.loads(text)
    try:
        if "open" in job:
            load_run(job["open"])
            print("answer " + json.dumps("ok"), flush=True)
            continue
        if "sweep" in job:
            done = experiment.compare([Path(job["sweep"])], Path(job["out"]), overrides=job["set"], seeds=[0])
            refused = sorted({str(each.error) for each in done if each.error is not None})
            print("answer " + json.dumps("; ".join(refused) or "ok"), flush=True)
            continue
        config = Path(job["file"]) if "file" in job else job["config"]
        progress = Once() if job.get("kill") else Quiet()
        out = job["out"]
        experiment.run(config, overrides=job["set"], out=out, resume=job.get("resume", False), progress=progress)
        answer = "ok"
    except Killed:
        answer = "killed"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print("answer " + json.dumps(answer), flush=True)
"""


class Build:
    """A checkout's process, which does one run after the other."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=self.environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, job: dict[str, Any]) -> str:
        """Do it; ``ok``, ``killed``, or what went wrong."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise SystemExit(f"{self.checkout} ended")

    def methods(self) -> list[str]:
        """Names of its methods."""
        code = "from spikefed.federated.methods import METHODS; print(*METHODS, sep='\\n')"
        done = subprocess.run([sys.executable, "-c", code], env=self.environment, capture_output=True, text=True)
        return done.stdout.split()


def _ledger(folder: Path) -> list[dict[str, Any]]:
    """The ledger without the size of masked votes as text, which is chance: masks are fresh in every run."""
    found = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [{k: v for k, v in each.items() if k != "text_bytes" or each["kind"] != "masked-votes"} for each in found]


def lines(folder: Path) -> list[dict[str, Any]]:
    """Metrics without what clocks say, and without the sum of what `_ledger` leaves out."""
    masked = any(each["kind"] == "masked-votes" for each in _ledger(folder))
    chance = {"seconds", *(("text_upstream_bytes", "text_upstream_bytes_total") if masked else ())}
    text = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in chance} for line in text]


def _tensors(folder: Path) -> dict[str, tuple[str, bytes]] | None:
    """Of the run's model, by name; None where it has none. What is said of the model beside them may grow."""
    path = folder / "model.safetensors"
    if not path.exists():
        return None
    return {name: (str(array.dtype), array.tobytes()) for name, array in sorted(load_file(path).items())}


def differences(old: Path, new: Path) -> tuple[list[str], set[str]]:
    """What differs between two run folders, and the keys of the metrics that are new."""
    before = lines(old)
    after = lines(new)
    added = {key for line in after for key in line} - {key for line in before for key in line}
    kept = [{key: value for key, value in line.items() if key not in added} for line in after]
    found = [] if before == kept else ["metrics"]
    found += [] if _ledger(old) == _ledger(new) else ["ledger"]
    found += [] if _tensors(old) == _tensors(new) else ["model"]
    return found, added


def cases(other: Build, here: Build, rounds: int) -> dict[str, dict[str, Any]]:
    """Jobs by name: files of digits, then every method on a small network."""
    some = [f"rounds={rounds}", "run.threads=1"]
    files = sorted((other.checkout / "experiments").glob("*digits*.toml"))
    jobs = {
        file.stem: {"file": str(file), "set": [*some, *_shortened(tables)]}
        for file in files
        if {"method", "preset"} & (tables := _tables(file)).keys()
    }
    known = here.methods()
    for name in (method for method in other.methods() if method in known):
        jobs[f"method {name}"] = {"config": {**TINY, "rounds": rounds, "method": {"name": name}}, "set": []}
    for name, tables in VARIANTS.items():
        jobs[name] = {"config": {**TINY, "rounds": rounds, **tables}, "set": []}
    return jobs


def sweeps(other: Build, rounds: int) -> dict[str, dict[str, Any]]:
    """Jobs by name: the sweeps of digits, every variant with its first seed."""
    files = sorted((other.checkout / "experiments" / "sweeps").glob("*digits*.toml"))
    whole = ["run.threads=1"]
    jobs = {}
    for file in files:
        # A search for tickets says itself how many rounds it takes.
        some = [] if file.stem.startswith("tickets") else [f"rounds={rounds}", *_shortened(_tables(file))]
        jobs[f"sweep {file.stem}"] = {"sweep": str(file), "set": [*whole, *some]}
    return jobs


def _shortened(tables: dict[str, Any]) -> list[str]:
    """What else makes a search for branches end in the first of few rounds."""
    methods = [
        tables.get("method", {}),
        *(each.get("method", {}) for each in tables.get("sweep", {}).get("methods", [])),
    ]
    return ["method.search_rounds=1"] if any(each.get("name") == "dc-nas" for each in methods) else []


def _tables(file: Path) -> dict[str, Any]:
    tree = tomllib.loads(file.read_text())
    base = tree.pop("extends", None)
    return {**(_tables(file.parent / base) if base else {}), **tree}


def swept(job: dict[str, Any], old: Build, new: Build, folder: Path) -> str:
    """``same`` with the number of runs, or what differs in how many, and what both builds refuse."""
    said = {build.run(job | {"out": str(folder / name)}) for name, build in (("old", old), ("new", new))}
    if len(said) > 1:
        return " / ".join(sorted(said))
    told = "" if said == {"ok"} else f"; both refuse: {said.pop()}"
    return _all_runs(folder) + told


def _all_runs(folder: Path) -> str:
    """What differs between the run folders under ``old`` and those under ``new``."""
    found = [path.parent.relative_to(folder / "old") for path in sorted((folder / "old").rglob("metrics.jsonl"))]
    apart = {str(run): differences(folder / "old" / run, folder / "new" / run)[0] for run in found}
    named = [f"{run}: {', '.join(what)}" for run, what in apart.items() if what]
    return "; ".join(named) or (f"same ({len(found)} run folders)" if found else "no run to compare")


def compared(job: dict[str, Any], old: Build, new: Build, folder: Path) -> str:
    """``same``, or what differs; the run that was killed and taken up here is a third one."""
    said = {old.run(job | {"out": str(folder / "old")}), new.run(job | {"out": str(folder / "new")})}
    if said != {"ok"}:
        return "same refusal" if len(said) == 1 else "; ".join(sorted(said))
    found, added = differences(folder / "old", folder / "new")
    old.run(job | {"out": str(folder / "taken"), "kill": True})
    resumed = new.run(job | {"out": str(folder / "taken"), "resume": True})
    apart = [resumed] if resumed != "ok" else differences(folder / "old", folder / "taken")[0]
    found += [f"taken up: {what}" for what in apart]
    opened = new.run({"open": str(folder / "old")})
    found += [] if opened == "ok" else [f"does not open: {opened}"]
    told = f" (new keys: {', '.join(sorted(added))})" if added else ""
    return (", ".join(found) or "same") + told


def fleets(old: Build, new: Build, folder: Path) -> str:
    """A loopback fleet of each build: server and clients as processes over TLS."""
    for name, build in (("old", old), ("new", new)):
        command = [sys.executable, "-m", "spikefed.deploy.loopback", "experiments/fsd-digits-fleet.toml"]
        done = subprocess.run(
            [*command, "--out", str(folder / name)], env=build.environment, cwd=build.checkout,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            return f"{name}: {(done.stderr or done.stdout)[-300:]}"
    return _all_runs(folder)


def main() -> None:
    """Compare, print a line a case, and end with 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, required=True, help="a checkout with its native library built")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose names hold one of these words")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fleet", action="store_true", help="loopback fleets too")
    parser.add_argument("--sweeps", action="store_true", help="sweeps of digits too")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    old = Build(chosen.other.resolve())
    new = Build(HERE)
    results: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        jobs = cases(old, new, chosen.rounds) | (sweeps(old, chosen.rounds) if chosen.sweeps else {})
        for number, (name, job) in enumerate(jobs.items()):
            if chosen.only and not any(word in name for word in chosen.only):
                continue
            held = swept if "sweep" in job else compared
            results[name] = held(job, old, new, Path(temporary) / str(number))
            print(f"{name:28} {results[name]}", flush=True)
        if chosen.fleet:
            results["loopback fleet"] = fleets(old, new, Path(temporary))
            print(f"{'loopback fleet':28} {results['loopback fleet']}", flush=True)
    if chosen.json:
        chosen.json.write_text(
            json.dumps({"provenance": provenance.describe(sys.argv), "results": results}, indent=1) + "\n"
        )
    sys.exit(any(not said.startswith("same") for said in results.values()))


if __name__ == "__main__":
    main()
