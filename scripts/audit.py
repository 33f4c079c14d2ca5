"""The tables of what leaks in docs/data-free.md, from the files of `benchmarks/audit.py`.

    python scripts/audit.py results/audit/fashion-seed*.json

Areas under the curve of the loss attack (and the largest of all attackers): the mean over clients and seeds, least and
most in brackets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

KINDS = ("fedavg, SNN", "fedavg, ANN")
UPLOADS = {"weights": "weights", "outputs": "outputs on 500 images", "labels": "classes on 500 images"}


def areas(found: list[dict[str, Any]], case: str, upload: str, server: bool) -> Iterator[tuple[float, float]]:
    """Of every network: the area of the loss attack, and the largest."""
    for one in found:
        rows = [r for r in one[case]["membership"] if r["upload"] == upload and (r["network"] == "server") == server]
        for network in dict.fromkeys(r["network"] for r in rows):
            mine = {r["attacker"]: r["auc"] for r in rows if r["network"] == network}
            yield mine["loss"], max(mine.values())


def cell(values: list[float], places: int = 2) -> str:
    """Mean and range."""
    return f"{fmean(values):.{places}f} ({min(values):.{places}f}..{max(values):.{places}f})"


def by_upload(found: list[dict[str, Any]]) -> str:
    """Clients: what they could upload, beside the same before any training."""
    lines = ["| what the attacker has of a client | network | loss | strongest of three |", "|" + " --- |" * 4]
    for case in KINDS:
        kind = case.split(", ")[1]
        for upload, told in UPLOADS.items():
            loss, largest = zip(*areas(found, case, upload, server=False), strict=True)
            lines.append(f"| {told} | {kind} | {cell(list(loss))} | {cell(list(largest))} |")
        loss, largest = zip(*areas(found, f"untrained, {kind}", "weights", server=False), strict=True)
        lines.append(f"| weights, untrained | {kind} | {cell(list(loss))} | {cell(list(largest))} |")
    return "\n".join(lines)


def by_method(found: list[dict[str, Any]]) -> str:
    """What the server makes of the uploads: accuracy, bytes, leak."""
    lines = [
        "| method, network | accuracy (%) | uplink, all clients | AUC, server's network | class mix told by outputs |",
        "|" + " --- |" * 5,
    ]
    for case in (name for name in found[0] if ", " in name and not name.startswith("untrained")):
        loss = [area for area, _ in areas(found, case, "weights", server=True)]
        accuracy = [100 * one[case]["accuracy"] for one in found]
        told = [r["told_share"] for one in found for r in one[case]["mixture"] if r["upload"] == "outputs"]
        size = fmean(one[case]["upstream_bytes"] for one in found) / 1000
        lines.append(f"| {case} | {cell(accuracy, 1)} | {size:,.1f} kB | {cell(loss)} | {cell(told)} |")
    return "\n".join(lines)


def tables(found: list[dict[str, Any]]) -> str:
    """Both."""
    return f"{by_upload(found)}\n\n{by_method(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    print(tables([json.loads(path.read_text()) for path in parser.parse_args().files]))


if __name__ == "__main__":
    main()
