"""What every benchmark file carries: versions, processor, threads, commit, command, time."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from spikefed import native
from spikefed.experiment.provenance import commit, cpu_model
from spikefed.neurons import fused, processor

LEVELS = {0: "portable", 1: "avx2", 2: "avx512"}


def describe(command: list[str]) -> dict[str, Any]:
    """The facts needed to read or repeat a measurement; no path and no host name."""
    lib = fused.library()
    return {
        "command": " ".join([Path(command[0]).name, *_without_paths(command[1:])]),
        "commit": commit(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load": [round(v, 2) for v in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "amx": processor.has_amx(),
        "native": LEVELS[lib.spikefed_level()] if lib is not None else native.why_not(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "python": platform.python_version(),
        "versions": {
            name: _version(name) for name in ("spikefed", "torch", "numpy", "spikingjelly", "snntorch", "norse")
        },
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def write(folder: Path, name: str, content: dict[str, Any], command: list[str]) -> Path:
    """``content`` plus provenance, as ``folder/name-<time>.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"
    path.write_text(json.dumps({"provenance": describe(command), **content}, indent=1) + "\n", encoding="utf-8")
    return path


def _without_paths(arguments: list[str]) -> list[str]:
    """Without the folders of this machine: --out, --data-dir and others, and their values."""
    folders = ("--out", "--data-dir", "--other", "--work", "--json")
    return [a for i, a in enumerate(arguments) if a not in folders and (i == 0 or arguments[i - 1] not in folders)]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
