"""What the tests of real fleets share: what a fleet has written, and that it is what one process gives."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import spikefed
from spikefed.deploy.loopback import Loopback, differing
from spikefed.experiment import RunFolder

HANGS_S = 1800.0
"""What has not ended by then never will: no bound on what is slow."""


def lines(fleet: Loopback) -> list[dict[str, Any]]:
    folder = RunFolder(fleet.run)
    return folder.read_lines(folder.metrics)


def same_as_one_process(fleet: Loopback) -> None:
    """The fleet's final model and ledger are those of ``spikefed run``, byte for byte."""
    local = fleet.folder / "local"
    if not local.exists():
        spikefed.run(fleet.file, overrides=fleet.overrides, out=local)
    assert differing(local, fleet.run) == []


def everybody_ends(fleet: Loopback, *names: str, killing: str | None = None) -> None:
    assert fleet.wait("server", HANGS_S) == 0, fleet.said("server")
    for name in names:
        assert fleet.wait(name, HANGS_S) == 0, fleet.said(name)
    if killing:
        fleet.kill(killing)
    deadline = time.monotonic() + HANGS_S
    while fleet.left_over() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert fleet.left_over() == []


def with_tasks(file: Path, kinds: list[str], method: str) -> None:
    """Make a tiny experiment one of two tasks by turns, each client in an order of its own, on a frozen parent.

    Args:
        file: rewritten; its parent's run stands beside it.
        kinds: of adapters.
        method: the table ``[method]``.
    """
    text = file.read_text()
    parent = file.with_name("parent.toml")
    parent.write_text(text.replace('name = "fsd"', 'name = "fedavg"').partition("distil_epochs")[0])
    start = spikefed.run(parent, overrides=["rounds=1", "run.threads=1"], out=file.with_name("parent"))
    head, _, _ = text.partition("[method]")
    network = f"steps = 4\nstart = {json.dumps(str(start))}\n[network.adapters]\nkinds = {json.dumps(kinds)}\n"
    stages = '[stages]\nrotations = [0, 90]\nrounds = 2\norder = "latin"\n[run]\nthreads = 1\n'
    file.write_text(f"{head.replace('steps = 4', network)}{method}{stages}")
