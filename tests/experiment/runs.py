"""What tests of runs share: what two equal runs have in common, and a listener."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikefed.experiment import RunFolder
from spikefed.experiment.progress import Quiet


class Told(Quiet):
    """Keeps what a console would warn of."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


def fingerprint(path: Path) -> tuple[list[dict[str, Any]], str, bytes]:
    """Metrics without timings, the ledger, the model."""
    folder = RunFolder(path)
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in folder.read_lines(folder.metrics)]
    return lines, folder.ledger.read_text(), folder.model.read_bytes()
