"""The table of one round and no more in docs/data-free.md, from results/one-shot.

python scripts/one_shot.py results/one-shot/digits.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from audit import cell

OWN = "distilled, own set"
OF_CLIENTS = {
    "worst client": "clients_accuracy_least",
    "best client": "clients_accuracy_most",
    "ensemble: mean of the clients' outputs": "vote_accuracy",
}
TAUGHT = {
    OWN: "the own public set",
    "distilled, noise": "noise",
    "distilled, generator": "images of a generator",
}


def table(found: dict[str, Any]) -> str:
    """Clients, their average and ensemble, and the average taught by the ensemble on rows of several kinds."""

    def told(case: str, key: str) -> str:
        return cell([100 * row[key] for row in found["rows"] if row["case"] == case], 1)

    lines = ["| what | accuracy (%) |", "| --- | --- |"]
    lines += [f"| {what} | {told(OWN, key)} |" for what, key in OF_CLIENTS.items()]
    lines.append(f"| average of the weights (FedAvg) | {told('fedavg', 'accuracy')} |")
    there = {row["case"] for row in found["rows"]}
    for case, rows in TAUGHT.items():
        if case in there:
            lines.append(f"| average, taught by the ensemble on {rows} | {told(case, 'accuracy')} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    print(table(json.loads(parser.parse_args().file.read_text())))


if __name__ == "__main__":
    main()
