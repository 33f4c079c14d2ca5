"""The table of conversions in docs/data-free.md, from the files of `benchmarks/data_free.py`.

    python scripts/data_free.py results/data-free/fashion-seed*.json

Accuracy in percent by where thresholds came from, recipe and T: the mean over the seeds, least and most in brackets.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

SOURCES = {
    "train": "clients' images",
    "statistics": "synthetic (statistics)",
    "impressions": "synthetic (impressions)",
}


def cell(values: list[float]) -> str:
    """Mean, and the range where there are several."""
    if not values:
        return ""
    spread = f" ({min(values):.1f}..{max(values):.1f})" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}"


def table(found: list[dict[str, Any]]) -> str:
    """Our conversions, and below them those of SpikingJelly on the same networks and images."""
    rows = [(SOURCES[r["calibration"]], r["recipe"], r) for one in found for r in one["conversions"]]
    rows += [("SpikingJelly 2.0", r["recipe"], r) for one in found for r in one.get("spikingjelly", [])]
    steps = sorted({row["steps"] for *_, row in rows})
    lines = [
        f"| thresholds from, recipe | {' | '.join(f'T = {t}' for t in steps)} |",
        "|" + " --- |" * (len(steps) + 1),
    ]
    for source, recipe in dict.fromkeys((source, recipe) for source, recipe, _ in rows):
        mine = [row for s, r, row in rows if (s, r) == (source, recipe)]
        cells = [cell([row["accuracy"] for row in mine if row["steps"] == t]) for t in steps]
        lines.append(f"| {source}, `{recipe}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    found = [json.loads(path.read_text()) for path in parser.parse_args().files]
    print(f"ANN: {', '.join(str(one['ann']) for one in found)}\n")
    print(table(found))


if __name__ == "__main__":
    main()
