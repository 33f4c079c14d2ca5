"""What two equal runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikefed.experiment import RunFolder


def fingerprint(path: Path) -> tuple[list[dict[str, Any]], str, bytes]:
    """Metrics without timings, the ledger, the model."""
    folder = RunFolder(path)
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in folder.read_lines(folder.metrics)]
    return lines, folder.ledger.read_text(), folder.model.read_bytes()
