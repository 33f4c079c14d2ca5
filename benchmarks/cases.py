"""A study of several cases in one file, which goes on behind what is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provenance import describe

from spikefed import native


def measure(file: Path, seed: int, cases: Mapping[str, Callable[[], Any]]) -> None:
    """Run the cases that ``file`` lacks, in their order, and write it after each.

    Args:
        file: JSON; may exist.
        seed: of the study.
        cases: what measures each.
    """
    native.keep_memory()
    file.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"seed": seed}
    found["machine"] = describe(sys.argv)
    for case, result in cases.items():
        if case not in found:
            found[case] = result()
            file.write_text(json.dumps(found, indent=1) + "\n")
