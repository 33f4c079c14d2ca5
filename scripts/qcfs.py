"""The table of quantised ANN twins in docs/data-free.md, from the files of `benchmarks/qcfs.py`.

python scripts/qcfs.py results/data-free/qcfs-*.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_free import cell


def rows_of(found: dict[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """By twin and recipe, all seeds."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for case, measured in found.items():
        for row in measured if ", seed " in case else []:
            rows.setdefault((case.rpartition(", seed ")[0], row["recipe"]), []).append(row)
    return rows


def table(files: Sequence[Path]) -> str:
    """Accuracy in percent: the twin's own, and in few steps."""
    lines = []
    for file in files:
        rows = rows_of(json.loads(file.read_text()))
        steps = sorted({row["steps"] for mine in rows.values() for row in mine})
        if not lines:
            lines += [f"| data, ANN twin, recipe | ANN | {' | '.join(f'T = {t}' for t in steps)} |"]
            lines.append("|" + " --- |" * (len(steps) + 2))
        for (twin, recipe), mine in rows.items():
            own = cell([100 * row["ann"] for row in mine if row["steps"] == steps[0]])
            cells = [cell([100 * row["snn"] for row in mine if row["steps"] == t]) for t in steps]
            lines.append(f"| {file.stem.removeprefix('qcfs-')}, {twin}, `{recipe}` | {own} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    print(table(parser.parse_args().files))


if __name__ == "__main__":
    main()
