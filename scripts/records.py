"""The small JSON of a finished run: its result, where it came from, how long it took; and of a study's runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
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


def collect(folders: Iterable[Path], target: Path, record: Callable[[Path], dict[str, Any]]) -> None:
    """A file a run below the folders, named after it: what ``record`` says of the run's folder."""
    for folder in folders:
        for run in sorted(path.parent for path in folder.glob("*/result.json")):
            text = json.dumps(record(run), indent=1) + "\n"
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{run.name}.json").write_text(text)


def study(about: str, record: Callable[[Path], dict[str, Any]], tables: Callable[[Path], str], to: str) -> None:
    """The command line of a study: ``collect RUNS... --to FOLDER``, and ``tables FOLDER...``.

    Args:
        about: for its help.
        record: of a run's folder.
        tables: of a folder of records.
        to: where records go by default.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("collect", "tables"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, default=Path(to))
    given = parser.parse_args()
    if given.command == "collect":
        collect(given.folders, given.to, record)
    else:
        print("\n\n".join(map(tables, given.folders)))
