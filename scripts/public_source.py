"""The table of public rows in docs/data-free.md, from the files of `benchmarks/public_source.py`.

python scripts/public_source.py results/public-source/fashion-seed*.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any


def row(case: str, found: list[dict[str, Any]]) -> str:
    """Of the seeds that have it: accuracy and bytes."""
    mine = [one[case] for one in found if case in one]
    accuracy = [100 * one["accuracy"] for one in mine]
    own = [
        100 * (one[case]["accuracy"] - one[base]["accuracy"])
        for one in found
        if case in one and (base := f"{case.split(', ')[0]}, own set") in one
    ]
    sizes = [f"{fmean(one[key] for one in mine) / 1000:,.1f}" for key in
             ("upstream_bytes", "downstream_bytes", "public_rows_bytes", "public_set_bytes")]  # fmt: skip
    spread = f" ({min(accuracy):.1f}..{max(accuracy):.1f})" if len(accuracy) > 1 else ""
    gap = f"{fmean(own):+.1f}" if own else ""
    return f"| {case} | {len(mine)} | {fmean(accuracy):.1f}{spread} | {gap} | {' | '.join(sizes)} |"


def table(found: list[dict[str, Any]]) -> str:
    """A line for each method and source."""
    head = "method, rows | seeds | accuracy (%) | to own set | uplink (kB) | downlink (kB) | of it rows | beforehand"
    cases = dict.fromkeys(case for one in found for case in one if ", " in case)
    return "\n".join([f"| {head} |", "|" + " --- |" * 8, *(row(case, found) for case in cases)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    print(table([json.loads(path.read_text()) for path in parser.parse_args().files]))


if __name__ == "__main__":
    main()
