"""The tables of DP-SGD and of leakage against bytes and accuracy in docs/data-free.md.

python scripts/private.py    # from results/private and results/audit
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from audit import areas, cell

PRIVATE = sorted(Path("results/private").glob("fashion-seed*.json"))
AUDIT = sorted(Path("results/audit").glob("fashion-seed*.json"))
SENT = {"fedavg": "weights", "fsd": "outputs", "cfd": "labels"}
"""What a client of a method uploads, as the audit calls it."""


def read(paths: list[Path]) -> list[dict[str, Any]]:
    """The files of a study, a seed each."""
    return [json.loads(path.read_text()) for path in paths]


def cases_of(found: list[dict[str, Any]]) -> Iterator[str]:
    """Those that trained, in their order."""
    yield from (name for name in found[0] if ", " in name and not name.startswith("untrained"))


def dp_sgd(found: list[dict[str, Any]]) -> str:
    """Accuracy, bytes and what a member-hunter finds at each epsilon."""
    head = (
        "method, epsilon | seeds | accuracy (%) | uplink, all clients | AUC, server's network | AUC, clients' networks"
    )
    lines = [f"| {head} |", "|" + " --- |" * 6]
    for case in cases_of(found):
        mine = [one for one in found if case in one]
        accuracy = [100 * one[case]["accuracy"] for one in mine]
        size = fmean(one[case]["upstream_bytes"] for one in mine) / 1000
        server = [most for _, most in areas(mine, case, "weights", server=True)]
        clients = [most for _, most in areas(mine, case, "weights", server=False)]
        told = case.replace("epsilon ", "").replace("none", "without")
        lines.append(
            f"| {told} | {len(mine)} | {cell(accuracy, 1)} | {size:,.1f} kB | {cell(server)} | {cell(clients)} |"
        )
    return "\n".join(lines)


def leakage(audited: list[dict[str, Any]], private: list[dict[str, Any]]) -> str:
    """Leakage against bytes against accuracy: every method that was audited."""
    head = (
        "method | clients | accuracy (%) | uplink, all clients | AUC of what a client uploads | AUC, server's network"
    )
    lines = [f"| {head} |", "|" + " --- |" * 6]
    for found, clients, name in ((audited, "100 images, 100 epochs", str), (private, "500 images, 40 epochs", dp_name)):
        for case in cases_of(found):
            mine = [one for one in found if case in one]
            accuracy = [100 * one[case]["accuracy"] for one in mine]
            size = fmean(one[case]["upstream_bytes"] for one in mine) / 1000
            server = [most for _, most in areas(mine, case, "weights", server=True)]
            sent = uploaded(mine, case)
            uploads = cell(sent) if sent else "not measured"
            lines.append(
                f"| {name(case)} | {clients} | {cell(accuracy, 1)} | {size:,.1f} kB | {uploads} | {cell(server)} |"
            )
    return "\n".join(lines)


def dp_name(case: str) -> str:
    """Of a row."""
    method, _, epsilon = case.partition(", ")
    return f"{method}, SNN" if epsilon == "none" else f"{method}, SNN, DP-SGD at {epsilon}"


def uploaded(found: list[dict[str, Any]], case: str) -> list[float]:
    """The strongest attack on each client's upload, where it was made."""
    if "randomised" in case:
        return []  # the audit's imitator learns plain answers
    method, _, kind = case.partition(", ")
    told = [most for _, most in areas(found, case, SENT[method], server=False)]
    same = f"fedavg, {kind}"  # in one round from common weights clients are the same to the bit whatever the method
    return told or [most for _, most in areas(found, same, SENT[method], server=False)]


def main() -> None:
    print(dp_sgd(read(PRIVATE)))
    print()
    print(leakage(read(AUDIT), read(PRIVATE)))


if __name__ == "__main__":
    main()
