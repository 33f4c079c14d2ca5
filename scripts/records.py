"""The small JSON of a finished run: its result, where it came from, how long it took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KEPT = ("spikefed", "commit", "python", "torch", "numpy", "platform", "cpu", "cores", "threads", "kernels", "started",
        "finished")  # fmt: skip


def record_of(result: Path) -> dict[str, Any]:
    """The record of the run folder that holds this ``result.json``, without the command."""
    record = json.loads(result.read_text())
    facts = json.loads(result.with_name("provenance.json").read_text())
    record["provenance"] = {key: facts[key] for key in KEPT if key in facts}
    lines = result.with_name("metrics.jsonl").read_text().splitlines()
    record["seconds"] = round(sum(json.loads(line)["seconds"]["round"] for line in lines), 1)
    return record
