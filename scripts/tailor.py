"""The study of NetTailor: networks of each task's own shape, cut from one frozen parent of Fashion-MNIST.

``python scripts/tailor.py SCHEDULE SEED [CHILD ...]`` writes ``results/continual/tailor-SCHEDULE-seedS.json``,
``... table`` prints all of both schedules. The parent learned 2,000 images at 16x16; two clients with 1,000 images of a
child each either train all weights (FedAvg), the head alone, or proxies, norms and a head, of which the server drops
what the choices say after half of the rounds. Schedule ``24-falling`` was made when figures of ``18`` were known.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from continual import RESULTS, over, result, shown

import spikefed
from spikefed import data, networks

NETWORK = {"name": "16C3-AP2-32C3-32C3-AP2-64C3-64C3-AP2", "steps": 4, "norm": "bn", "readout": "current"}
LOCAL = {"local_epochs": 1, "local_batch": 32}
SCHEDULES: dict[str, tuple[int, dict[str, Any]]] = {
    "18": (18, LOCAL),
    "24-falling": (24, {**LOCAL, "lr_milestones": [16, 20], "lr_decay": 0.3}),
}
"""Rounds, and the keys of local training."""
DROPPED_BLOCKS = (3,)
CHILDREN: dict[str, tuple[str, Any]] = {
    "mnist": ("mnist", None),
    "turned by 90 degrees": ("fashion-mnist", lambda x: data.rotated(x, 90)),
    "negative": ("fashion-mnist", lambda x: data.ranged(x, 255, 0)),
}


def tables(seed: int, schedule: str, rounds: int | None = None, **changes: Any) -> dict[str, Any]:
    whole, local = SCHEDULES[schedule]
    common = {
        "name": "tailor",
        "seed": seed,
        "rounds": rounds or whole,
        "data": {"clients": 2, "public": 20},
        "network": NETWORK,
        "training": {**local, "lr": 3e-3},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    return {**common, **changes}


def case(parent: Path, schedule: str, blocks: int | None) -> dict[str, Any]:
    """Tables of a child: all weights for None, the head alone for 0, else so many blocks are dropped."""
    rounds, local = SCHEDULES[schedule]
    network: dict[str, Any] = {**NETWORK, "start": str(parent)}
    if blocks is None:
        return {"network": network}
    network["adapters"] = {"kinds": ["proxy1x1", "bn", "head"] if blocks else ["head"]}
    method: dict[str, Any] = {"name": "adapters"}
    if blocks:
        method["tailor"] = {"drop_after": rounds // 2, "drop_blocks": blocks}
    return {"network": network, "method": method, "training": {**local, "lr": 1e-2}}


def study(schedule: str, seed: int, folder: Path, children: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """Accuracy and numbers of every case, by child.

    Args:
        schedule: a key of `SCHEDULES`.
        seed: of everything.
        folder: for the runs.
        children: of `CHILDREN`.
    """
    told = tables(seed, schedule, 6)
    parent = spikefed.run(told, dataset=shown("fashion-mnist", size=16), out=folder / "parent")
    rows: dict[str, Any] = {}
    for child, (name, look) in children.items():
        images = shown(name, size=16, look=look)
        for blocks in (None, 0, *DROPPED_BLOCKS):
            label = "all weights" if blocks is None else f"{blocks} blocks" if blocks else "head"
            out = folder / f"{child}-{label}".replace(" ", "-")
            run = spikefed.run(tables(seed, schedule, **case(parent, schedule, blocks)), dataset=images, out=out)
            size = networks.task_size(spikefed.load_model(run).network)
            accuracy = result(run)["accuracy"]
            rows.setdefault(child, {})[label] = {"accuracy": accuracy, "numbers": size.numbers, "macs": size.macs}
            print(child, label, rows[child][label], flush=True)
    return rows


def table() -> Iterator[str]:
    """What the files say, by schedule: accuracy of each seed, then mean and deviation."""
    for schedule in SCHEDULES:
        found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"tailor-{schedule}-seed*.json"))]
        for child in found[0] if found else ():
            for label in found[0][child]:
                yield f"| {schedule} | {child} | {label} | {' | '.join(cells(found, child, label))} |"


def cells(found: list[dict[str, Any]], child: str, label: str) -> Iterator[str]:
    """Of one case: the seeds, accuracy, points apart from all weights, share of numbers saved, operations.

    Args:
        found: files of one schedule.
        child: of `CHILDREN`.
        label: of the case.
    """
    own = [row[child][label] for row in found]
    whole = [row[child]["all weights"] for row in found]
    apart = [a["accuracy"] - b["accuracy"] for a, b in zip(own, whole, strict=True)]
    yield ", ".join(f"{100 * cell['accuracy']:.1f}" for cell in own)
    yield over([cell["accuracy"] for cell in own])
    yield ", ".join(f"{100 * value:+.1f}" for value in apart)
    yield over(apart)
    yield over([1 - a["numbers"] / b["numbers"] for a, b in zip(own, whole, strict=True)])
    yield over([cell["macs"] for cell in own])


def main(part: str, *rest: str) -> None:
    if part == "table":
        print("\n".join(table()))
        return
    seed, *children = rest
    out = RESULTS / f"tailor-{part}-seed{seed}.json"
    if out.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = study(part, int(seed), Path(folder), {name: CHILDREN[name] for name in children or CHILDREN})
    out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
