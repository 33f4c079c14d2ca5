"""Walk the quick start as a new user does: write its files, type its commands, time each.

Usage: python scripts/quickstart.py [OUT]   (OUT: default results/quickstart.json)

Clones this repository's last commit into an empty folder, takes the page from there, and runs every command of it in
one shell, the installation included. The documentation shows the times of the JSON file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path("docs") / "quickstart.md"
OWN_DATA = "spikefed run bars.toml"
"""The command with which a user's own data have been run."""


@dataclass(frozen=True)
class Step:
    """One thing the page asks for: a file to write (``text``), or a command to type."""

    name: str
    text: str | None = None


def steps(page: str) -> list[Step]:
    """Files and commands in the order of the page."""
    found = []
    for language, title, body in re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', page, re.M | re.S):
        if title:
            found.append(Step(title, body))
        elif language == "console":
            found += [Step(line[2:]) for line in body.splitlines() if line.startswith("$ ")]
    return found


def walk(todo: list[Step], folder: Path, timeout_s: float = 1500) -> list[tuple[str, float]]:
    """Do the steps in one shell in ``folder``; seconds of each command.

    Raises:
        RuntimeError: a command failed.
    """
    log = folder / ".steps"
    lines = ["set -e", f"now() {{ date +%s.%N >> '{log}'; }}", "now"]
    for step in todo:
        if step.text is not None:
            (folder / step.name).write_text(step.text, encoding="utf-8")
        else:
            lines += [step.name, "now"]
    shell = ["bash", "-c", "\n".join(lines)]
    done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, timeout=timeout_s)
    times = [float(line) for line in log.read_text().splitlines()]
    commands = [step.name for step in todo if step.text is None]
    if done.returncode:
        raise RuntimeError(f"'{commands[len(times) - 1]}' failed: {done.stderr[-2000:]}")
    return [(command, end - start) for command, start, end in zip(commands, times, times[1:], strict=False)]


def main() -> None:
    """Measure and write."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "quickstart.json"
    folder = Path(tempfile.mkdtemp(prefix="quickstart-"))
    try:
        started, load = time.perf_counter(), os.getloadavg()[0]
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "spikefed")], check=True)
        cloned = time.perf_counter() - started
        timed = walk(steps((folder / "spikefed" / PAGE).read_text(encoding="utf-8")), folder / "spikefed")
        own = next(i for i, (command, _) in enumerate(timed) if command.startswith(OWN_DATA))
        facts = json.loads((folder / "spikefed" / "runs" / "bars" / "provenance.json").read_text())
        record = {
            "commands": [{"command": command, "seconds": round(seconds, 1)} for command, seconds in timed],
            "clone_seconds": round(cloned, 1),
            "seconds_to_own_data": round(cloned + sum(seconds for _, seconds in timed[: own + 1]), 1),
            "seconds": round(cloned + sum(seconds for _, seconds in timed), 1),
            "machine": {k: facts[k] for k in ("spikefed", "commit", "python", "torch", "platform", "cpu", "cores")},
            "measured": facts["started"][:10],
            "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {record['seconds_to_own_data']} s to the first run of own data, {record['seconds']} s in all")


if __name__ == "__main__":
    main()
