"""The study of masked activations: MIME's thresholds on an ANN twin, with and without what raises them.

``python scripts/mime.py SEED`` writes ``results/continual/mime-seedSEED.json``, a configuration at a time, and goes on
where it was stopped; ``python scripts/mime.py table`` prints what the files say.

The parent learned 2,000 images of Fashion-MNIST; its children are the same images turned by 90 degrees, their
negatives, and MNIST. Zeros are the share of hidden activations that are 0 on 1,000 test images.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from continual import RESULTS, over, result, shown, tables

import spikefed
from spikefed import data

NETWORK = {"name": "8C3-AP2-16C3-AP2", "norm": "bn", "twin": "ann"}
CASES: dict[str, dict[str, Any]] = {
    "head": {"kinds": ["head"]},
    "masks a channel + head": {"kinds": ["mime", "head"]},
    "masks a neuron + head": {"kinds": ["mime", "head"], "per": "neuron"},
    "masks a neuron + head, beta 1e-4": {"kinds": ["mime", "head"], "per": "neuron", "sparsity": 1e-4},
    "masks a neuron + head, beta 1e-3": {"kinds": ["mime", "head"], "per": "neuron", "sparsity": 1e-3},
    "masks a channel + head, beta 1e-2": {"kinds": ["mime", "head"], "sparsity": 1e-2},
    "all weights": {},
}


def children() -> dict[str, Any]:
    return {
        "mnist": shown("mnist"),
        "turned by 90 degrees": shown("fashion-mnist", look=lambda x: data.rotated(x, 90)),
        "negative": shown("fashion-mnist", look=lambda x: data.ranged(x, 255, 0)),
    }


def measured(seed: int, case: str, parent: Path, images: Any, out: Path) -> dict[str, Any]:
    """Accuracy, bytes, and zeros with the child's masks and with ReLU; for ``all weights`` those of its ReLU.

    Args:
        seed: of the run.
        case: of `CASES`.
        parent: run folder.
        images: of the child.
        out: run folder.
    """
    told = CASES[case]
    own: dict[str, Any] = {**NETWORK, "start": str(parent)}
    method: dict[str, Any] = {"name": "fedavg"}
    if told:
        own["adapters"] = {"kinds": told["kinds"], "per": told.get("per", "channel")}
        method = {"name": "adapters", "sparsity": told.get("sparsity", 0.0)}
    training = {"local_epochs": 2, "lr": 1e-2 if told else 3e-3}
    probes = [{"name": "many-tasks", "images": 1000}] if told else []
    changes = {"network": own, "method": method, "training": training, "probe": probes}
    run = spikefed.run(tables(seed, **changes), dataset=images, out=out)
    found = result(run)
    row = {"accuracy": found["accuracy"], "bytes": found["upstream_bytes"] // (2 * found["rounds"])}
    if told:
        records = json.loads((run / "probes" / "many-tasks.json").read_text())["measurements"][-1]["records"]
        activity = next(record for record in records if record["part"] == "activity")
        row |= {key: activity[key] for key in ("zero_share", "zero_deviation", "parent_zero_share")}
        row |= {
            key: [r[key] for r in records if r["part"] == "ratios"] for key in ("singular_ratio", "pipelined_ratio")
        }
    return row


def collect(seed: int) -> None:
    """All children and cases of a seed."""
    out = RESULTS / f"mime-seed{seed}.json"
    rows: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        parent = spikefed.run(
            tables(seed, network=NETWORK), dataset=shown("fashion-mnist"), out=Path(folder) / "parent"
        )
        rows["parent"] = result(parent)["accuracy"]
        for child, images in children().items():
            for case in CASES:
                if case not in rows.setdefault(child, {}):
                    run = Path(folder) / f"{child}-{case}".replace(" ", "-").replace(",", "")
                    rows[child][case] = measured(seed, case, parent, images, run)
                    out.write_text(json.dumps(rows, indent=1) + "\n")


def table() -> Iterator[str]:
    """What the files say: mean and deviation over the seeds."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("mime-seed*.json"))]
    yield f"parent {over([row['parent'] for row in found])} % ({len(found)} seeds)"
    for child in [key for key in found[0] if key != "parent"]:
        for case in found[0][child]:
            cells = [row[child][case] for row in found]
            zeros = over([c["zero_share"] for c in cells]) if "zero_share" in cells[0] else "-"
            before = over([c["parent_zero_share"] for c in cells]) if "zero_share" in cells[0] else "-"
            accuracy = over([c["accuracy"] for c in cells])
            yield f"| {child} | {case} | {accuracy} | {zeros} | {before} | {cells[0]['bytes']:,} |"


if __name__ == "__main__":
    print("\n".join(table())) if sys.argv[1] == "table" else collect(int(sys.argv[1]))
