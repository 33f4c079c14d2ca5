"""The study of NetTailor: networks of each task's own shape, cut from one frozen parent of Fashion-MNIST.

``python scripts/tailor.py SEED [CHILD ...]`` writes ``results/continual/tailor-seedS.json``, ``... table`` prints all
seeds. The parent learned 2,000 images at 16x16; two clients with 1,000 images of a child each either train all weights
(FedAvg), the head alone, or proxies, norms and a head, of which the server drops what the choices say after half of
the rounds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from continual import RESULTS, over, result, shown

import spikefed
from spikefed import data, networks

NETWORK = {"name": "16C3-AP2-32C3-32C3-AP2-64C3-64C3-AP2", "steps": 4, "norm": "bn", "readout": "current"}
ROUNDS = 24
FALLS = {"local_epochs": 1, "local_batch": 32, "lr_milestones": [16, 20], "lr_decay": 0.3}
DROPPED_BLOCKS = (3,)
CHILDREN: dict[str, tuple[str, Any]] = {
    "mnist": ("mnist", None),
    "turned by 90 degrees": ("fashion-mnist", lambda x: data.rotated(x, 90)),
    "negative": ("fashion-mnist", lambda x: data.ranged(x, 255, 0)),
}


def tables(seed: int, rounds: int = ROUNDS, **changes: Any) -> dict[str, Any]:
    common = {
        "name": "tailor",
        "seed": seed,
        "rounds": rounds,
        "data": {"clients": 2, "public": 20},
        "network": NETWORK,
        "training": {**FALLS, "lr": 3e-3},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    return {**common, **changes}


def case(parent: Path, blocks: int | None) -> dict[str, Any]:
    """Tables of a child: all weights for None, the head alone for 0, else so many blocks are dropped."""
    network: dict[str, Any] = {**NETWORK, "start": str(parent)}
    if blocks is None:
        return {"network": network}
    network["adapters"] = {"kinds": ["proxy1x1", "bn", "head"] if blocks else ["head"]}
    method: dict[str, Any] = {"name": "adapters"}
    if blocks:
        method["tailor"] = {"drop_after": ROUNDS // 2, "drop_blocks": blocks}
    return {"network": network, "method": method, "training": {**FALLS, "lr": 1e-2}}


def study(seed: int, folder: Path, children: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """Accuracy and numbers of every case, by child."""
    told = tables(seed, 6)
    parent = spikefed.run(told, dataset=shown("fashion-mnist", size=16), out=folder / "parent")
    rows: dict[str, Any] = {}
    for child, (name, look) in children.items():
        images = shown(name, size=16, look=look)
        for blocks in (None, 0, *DROPPED_BLOCKS):
            label = "all weights" if blocks is None else f"{blocks} blocks" if blocks else "head"
            out = folder / f"{child}-{label}".replace(" ", "-")
            run = spikefed.run(tables(seed, **case(parent, blocks)), dataset=images, out=out)
            size = networks.task_size(spikefed.load_model(run).network)
            accuracy = result(run)["accuracy"]
            rows.setdefault(child, {})[label] = {"accuracy": accuracy, "numbers": size.numbers, "macs": size.macs}
            print(child, label, rows[child][label], flush=True)
    return rows


def table() -> Iterator[str]:
    """What the files say: mean and deviation over the seeds."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("tailor-seed*.json"))]
    for child in found[0] if found else ():
        for label in found[0][child]:
            cells = [row[child][label] for row in found]
            whole = fmean(row[child]["all weights"]["numbers"] for row in found)
            saved = over([1 - cell["numbers"] / whole for cell in cells])
            apart = over([row[child][label]["accuracy"] - row[child]["all weights"]["accuracy"] for row in found])
            macs = over([cell["macs"] for cell in cells])
            yield f"| {child} | {label} | {over([c['accuracy'] for c in cells])} | {apart} | {saved} | {macs} |"


def main(part: str, *children: str) -> None:
    if part == "table":
        print("\n".join(table()))
        return
    out = RESULTS / f"tailor-seed{part}.json"
    if out.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = study(int(part), Path(folder), {name: CHILDREN[name] for name in children or CHILDREN})
    out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
