"""What the tests of real fleets share: what a fleet has written, and that it is what one process gives."""

from __future__ import annotations

import time
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
