"""Where a result came from: versions, machine, commit, command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikefed import neurons
from spikefed.experiment.config import Experiment
from spikefed.federated import Method, method
from spikefed.objects import is_own
from spikefed.version import __version__


def now() -> str:
    """UTC time to the second, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def commit() -> str | None:
    """Commit of the source tree spikefed runs from, with ``+`` when it has changes; None outside a git checkout."""
    folder = Path(__file__).parents[1]
    try:
        run = lambda *a: subprocess.run(["git", *a], cwd=folder, capture_output=True, text=True, timeout=10, check=True)  # noqa: E731
        tracked = run("ls-files", "--error-unmatch", "__init__.py")
        changed = run("status", "--porcelain", "--untracked-files=no", "--", ".")
        return run("rev-parse", "HEAD").stdout.strip() + ("+" if changed.stdout.strip() else "") if tracked else None
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Versions and hardware, for run folders and benchmark files."""
    return {
        "spikefed": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in ("safetensors", "scikit-learn", "zstandard")},
    }


def command(argv: Sequence[str]) -> str:
    """The command line that started this, as a shell takes it; what it came from where there is none."""
    program = Path(argv[0])
    if program.stem in ("spikefed", "__main__"):
        return shlex.join(["spikefed", *argv[1:]])
    if "ipykernel" in program.stem:
        return "spikefed.run in a notebook"
    if program.suffix == ".py":
        return shlex.join(["python", *argv])
    return shlex.join(argv) if program.name not in ("", "-c") else "spikefed.run in a Python session"


def provenance(config: Experiment) -> dict[str, Any]:
    """`machine`, with seed, config hash, threads, kernels and the command that started this.

    Of a user's own method also its title, where it has one: a report must not need its code.
    """
    name = str(config.method["name"])
    title = _own_title(type(method(name))) if is_own(name) else ""
    return machine() | {
        "threads": torch.get_num_threads(),
        "kernels": neurons.kernels(),
        "seed": config.seed,
        "config_hash": config.hash(),
        "command": command(sys.argv),
        "started": now(),
        **({"method_title": title} if title else {}),
    }


def _own_title(made: type[Method]) -> str:
    """The title that a user's class gives itself; empty where it only inherits that of a method of this project."""
    giver = next((base for base in made.__mro__ if "title" in vars(base)), Method)
    return "" if giver.__module__.startswith("spikefed.") else str(vars(giver)["title"])
