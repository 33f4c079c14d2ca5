"""The study of adaptive servers on CIFAR-100: five superclasses as tasks of five classes, five clients, three orders.

``python scripts/superclasses.py tune METHOD`` measures the learning rates of server and clients on validation data,
one seed, all in one order; ``... run SEED`` the tuned methods in three orders, and all with clients of large steps;
``... table`` prints both. Results in ``results/continual/``; a part that has its file is not run again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import spikefed

RESULTS = Path("results/continual")
TASKS = [
    [4, 30, 55, 72, 95],  # aquatic mammals
    [1, 32, 67, 73, 91],  # fish
    [54, 62, 70, 82, 92],  # flowers
    [5, 20, 25, 84, 94],  # furniture
    [6, 7, 14, 18, 24],  # insects
]
METHODS = ("fedavg", "fedyogi")
CLIENT_RATES = (0.01, 0.05, 0.3)
SERVER_RATES = (1e-3, 1e-2, 1e-1)
ORDERS = ("same", "latin", "random")
LARGE = 0.3
"""The client rate at which an adaptive server is said to help most."""


def measured(method: str, server: float | None, client: float, order: str, seed: int, **changes: Any) -> dict[str, Any]:
    """What one run says at its end.

    Args:
        method: of the server.
        server: its step size; None: it has none.
        client: learning rate of the clients' plain SGD.
        order: of the tasks.
        seed: of everything.
        changes: ``rounds`` of a stage, ``evaluate_on``.
    """
    rounds = changes.get("rounds", 2)
    told: dict[str, Any] = {
        "name": "superclasses",
        "seed": seed,
        "rounds": len(TASKS) * rounds,
        "data": {"dataset": "cifar100", "clients": 5, "private_per_client": 1000, "public": 100},
        "network": {"name": "8C3-AP2-16C3-AP2-32C3-AP2", "steps": 4, "norm": "bn", "readout": "current"},
        "training": {"local_epochs": 2, "local_batch": 32, "optimiser": "sgd", "momentum": 0.0, "lr": client},
        "method": {"name": method, **({} if server is None else {"server_lr": server})},
        "stages": {"classes": TASKS, "rounds": rounds, "order": order, "heads": "task"},
        "run": {"threads": 1},
    }
    told["data"]["evaluate_on"] = changes.get("evaluate_on", "test")
    with tempfile.TemporaryDirectory() as folder:
        run = spikefed.run(told, out=Path(folder) / "run")
        found = json.loads((run / "result.json").read_text())
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    stages = found["stages"]
    known = {key: stages["known"][key] for key in ("last_accuracy", "average_accuracy", "forgetting")}
    drift = fmean(line["diagnostics"]["drift_ratio"] for line in lines)
    return {**known, "drift_ratio": drift, "upstream_bytes": sum(stages["upstream_bytes"]), "rates": [server, client]}


def tune(method: str) -> list[dict[str, Any]]:
    """All pairs of rates of one method: last accuracy on the clients' validation data, one round a stage."""
    servers = (None,) if method == "fedavg" else SERVER_RATES
    return [
        measured(method, server, client, "same", 100, rounds=1, evaluate_on="validation")
        for client in CLIENT_RATES
        for server in servers
    ]


def best(method: str, client: float | None = None) -> tuple[float | None, float]:
    """The rates of server and clients that `tune` found, or of the server alone at one rate of the clients."""
    cells = json.loads(file_of("tune", method).read_text())
    chosen = [cell for cell in cells if client is None or cell["rates"][1] == client]
    server, rate = max(chosen, key=lambda cell: cell["last_accuracy"])["rates"]
    return server, rate


def run(seed: int) -> dict[str, Any]:
    """Every tuned method in three orders; and, in one order, all of them with clients of large steps."""
    rows: dict[str, Any] = {
        order: {method: measured(method, *best(method), order, seed) for method in METHODS} for order in ORDERS
    }
    rows["large"] = {method: measured(method, *best(method, LARGE), "same", seed) for method in METHODS}
    return rows


def table() -> Iterator[str]:
    """The grid, and mean and deviation over the seeds."""
    for method in METHODS:
        path = file_of("tune", method)
        for cell in json.loads(path.read_text()) if path.exists() else ():
            server, client = cell["rates"]
            yield f"| {method} | {server or '-'} | {client} | {100 * cell['last_accuracy']:.1f} |"
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("superclasses-seed*.json"))]
    for order in found[0] if found else ():
        for method in METHODS:
            runs = [row[order][method] for row in found]
            cells = [over([r[key] for r in runs], 100) for key in ("average_accuracy", "last_accuracy", "forgetting")]
            drift = over([r["drift_ratio"] for r in runs], 1)
            yield f"| {order} | {method} | {' | '.join(cells)} | {drift} | {runs[0]['upstream_bytes']:,} |"


def over(values: list[float], factor: float) -> str:
    """Mean times a factor, with the deviation over the seeds."""
    digits = 1 if factor > 1 else 2
    spread = f" ± {factor * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{factor * fmean(values):.{digits}f}{spread}"


def file_of(part: str, which: str) -> Path:
    """Where a part's result lies."""
    return RESULTS / (f"superclasses-rates-{which}.json" if part == "tune" else f"superclasses-seed{which}.json")


def main(part: str, which: str = "") -> None:
    if part == "table":
        print("\n".join(table()))
        return
    out = file_of(part, which)
    if out.exists():
        return
    if part == "run":
        for method in METHODS:  # the rates come first, be it that another process is at them too
            main("tune", method)
    rows = tune(which) if part == "tune" else run(int(which))
    RESULTS.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
