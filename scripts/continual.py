"""The study of many tasks: adapters of one frozen parent on its children, and methods under stages.

``python scripts/continual.py children SEED``, ``... stages SEED``, ``... memories SEED`` and ``... votes SEED`` write
``results/continual/PART-seedS.json``; ``python scripts/continual.py table`` prints what they say. A part that has its
file is not run again.
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
from spikefed import data

RESULTS = Path("results/continual")
ADAPTERS: dict[str, dict[str, Any]] = {
    "head": {"kinds": ["head"]},
    "thresholds a layer + head": {"kinds": ["thresholds", "head"], "per": "layer"},
    "thresholds a channel + head": {"kinds": ["thresholds", "head"]},
    "thresholds a neuron + head": {"kinds": ["thresholds", "head"], "per": "neuron"},
    "norms + head": {"kinds": ["bn", "head"]},
    "rank 1 + head": {"kinds": ["low-rank", "head"], "rank": 1},
}
FSD = {"distil_epochs": 2, "server_epochs": 2}
METHODS: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "fedadam": {"name": "fedadam", "server_lr": 0.01},
    "fsd": {"name": "fsd", **FSD},
    "fsd+": {"name": "fsd+", **FSD},
    "adapters (thresholds, norms, head)": {"name": "adapters"},
}
MEMORIES: dict[str, dict[str, Any]] = {
    "EWC, lambda 100": {"ewc": {"strength": 100.0}},
    "EWC, lambda 10,000": {"ewc": {"strength": 10_000.0}},
    "LwF": {"lwf": {"strength": 1.0}},
    "exemplars, 5 a class": {"exemplars": {"per_class": 5}},
}
Pair = tuple[Any, Any]
"""Images and labels."""


def shown(name: str, size: int | None = None, look: Any = None, train: int = 2000, test: int = 1000) -> Any:
    """The first images of a set, in another size or look: training and test part."""

    def part(images: data.ImageSet, count: int) -> Pair:
        pixels = images.images[:count]
        pixels = pixels if size is None else data.resize(pixels, size)
        return (pixels if look is None else look(pixels)).numpy(), images.labels[:count].numpy()

    both = data.load_both(name)
    return part(both[0], train), part(both[1], test)


def tables(seed: int, **changes: Any) -> dict[str, Any]:
    common = {
        "name": "continual",
        "seed": seed,
        "rounds": 6,
        "data": {"clients": 2, "public": 100},
        "network": {"name": "8C3-AP2-16C3-AP2", "steps": 4, "norm": "bn"},
        "training": {"local_epochs": 1, "lr": 3e-3},
        "method": {"name": "fedavg"},
        "run": {"threads": 1},
    }
    return {**common, **changes}


def children(seed: int, folder: Path) -> dict[str, Any]:
    """Accuracy of every adapter on three children of a Fashion-MNIST parent, with bytes a client and round."""
    sets = {
        "mnist": shown("mnist"),
        "turned by 90 degrees": shown("fashion-mnist", look=lambda x: data.rotated(x, 90)),
        "negative": shown("fashion-mnist", look=lambda x: data.ranged(x, 255, 0)),
    }
    parent = spikefed.run(tables(seed), dataset=shown("fashion-mnist"), out=folder / "parent")
    rows: dict[str, Any] = {"parent": result(parent)["accuracy"]}
    network = {**tables(seed)["network"], "start": str(parent)}
    for child, images in sets.items():
        for label, told in {**ADAPTERS, "all weights": {}}.items():
            method = {"name": "adapters"} if told else {"name": "fedavg"}
            own = {**network, **({"adapters": told} if told else {})}
            out = folder / f"{child}-{label}".replace(" ", "-")
            found = result(spikefed.run(tables(seed, network=own, method=method), dataset=images, out=out))
            bytes_ = found["upstream_bytes"] // (2 * found["rounds"])
            rows.setdefault(child, {})[label] = {"accuracy": found["accuracy"], "bytes": bytes_}
    return rows


def stages(seed: int, folder: Path) -> dict[str, Any]:
    """Methods on digits in five tasks of two classes, in one order and in a Latin square; a parent of MNIST at 8x8."""
    return staged(seed, folder, {label: (method, {}) for label, method in METHODS.items()})


def memories(seed: int, folder: Path) -> dict[str, Any]:
    """What clients remember under FedAvg, on the same tasks."""
    return staged(seed, folder, {label: (METHODS["fedavg"], own) for label, own in MEMORIES.items()})


def votes(seed: int, folder: Path) -> dict[str, Any]:
    """The votes of stages before, kept by the server, on the same tasks."""
    cases = {f"{label}, old votes": ({**METHODS[label], "old_votes": 1.0}, {}) for label in ("fsd", "fsd+")}
    return staged(seed, folder, cases)


SERVERS: dict[str, tuple[dict[str, Any], ...]] = {
    "fedavg": ({},),
    "fedadagrad": ({"server_lr": 0.01}, {"server_lr": 0.03}),
    "fedadam": ({"server_lr": 0.01}, {"server_lr": 0.03}),
    "fedyogi": ({"server_lr": 0.01}, {"server_lr": 0.03}),
}
"""Server optimisers with their step sizes, of which the best counts."""


def drift(seed: int, folder: Path) -> dict[str, Any]:
    """Servers over clients of plain SGD that learn in one order; drift of adapters in one order and in random ones."""
    parent = spikefed.run(tables(seed), dataset=shown("mnist", size=8), out=folder / "parent")
    network = {**tables(seed)["network"], "start": str(parent)}

    def run(label: str, order: str, **changes: Any) -> Path:
        stages = {"classes": 5, "rounds": 4, "order": order, "heads": "task"}
        told = tables(
            seed, rounds=20, data={"clients": 5, "public": 300}, stages=stages, **{"network": network, **changes}
        )
        return spikefed.run(told, out=folder / label)

    rows: dict[str, Any] = {"servers": {}, "drift": {}}
    for lr in (0.05, 0.3):
        training = {"local_epochs": 2, "optimiser": "sgd", "momentum": 0.0, "lr": lr}
        for name, choices in SERVERS.items():
            runs = [
                result(run(f"{name}-{lr}-{k}", "same", training=training, method={"name": name, **own}))["stages"][
                    "known"
                ]
                for k, own in enumerate(choices)
            ]
            rows["servers"].setdefault(f"{lr:g}", {})[name] = [found["last_accuracy"] for found in runs]
    own = {**network, "adapters": {"kinds": ["thresholds", "bn", "head"]}}
    for order in ("same", "random"):
        done = run(f"drift-{order}", order, network=own, method={"name": "adapters"})
        lines = map(json.loads, (done / "metrics.jsonl").read_text().splitlines())
        rows["drift"][order] = fmean(line["diagnostics"]["drift_ratio"] for line in lines)
    return rows


def drift_table() -> Iterator[str]:
    """Rows of `drift`."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("drift-seed*.json"))]
    for lr in found[0]["servers"] if found else ():
        cells = [over([max(row["servers"][lr][name]) for row in found]) for name in SERVERS]
        yield f"| {lr} | {' | '.join(cells)} |"
    for order in found[0]["drift"] if found else ():
        ratios = [f"{row['drift'][order]:.2f}" for row in found]
        yield f"drift ratio, {order}: {', '.join(ratios)}"


def staged(seed: int, folder: Path, cases: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Cases of a method and what local training has beside, by order and label."""
    parent = spikefed.run(tables(seed), dataset=shown("mnist", size=8), out=folder / "parent")
    rows: dict[str, Any] = {}
    for order in ("same", "latin"):
        for label, (method, beside) in cases.items():
            own: dict[str, Any] = {**tables(seed)["network"], "start": str(parent)}
            if method["name"] == "adapters":
                own["adapters"] = {"kinds": ["thresholds", "bn", "head"]}
            out = folder / f"{order}-{label}".replace(" ", "-").replace(",", "")
            told = tables(
                seed,
                rounds=20,
                network=own,
                method=method,
                data={"clients": 5, "public": 300},
                training={"local_epochs": 2, "lr": 3e-3, **beside},
                stages={"classes": 5, "rounds": 4, "order": order, "heads": "task"},
            )
            rows.setdefault(order, {})[label] = result(spikefed.run(told, out=out))["stages"]
    return rows


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def table() -> Iterator[str]:
    """What the files say: mean and deviation over the seeds."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("children-seed*.json"))]
    if found:
        yield f"parent {over([row['parent'] for row in found])} % ({len(found)} seeds)"
        for child in [key for key in found[0] if key != "parent"]:
            for label in found[0][child]:
                cells = [row[child][label] for row in found]
                yield f"| {child} | {label} | {over([c['accuracy'] for c in cells])} | {cells[0]['bytes']:,} |"
    for part in ("stages", "memories", "votes"):
        yield from staged_table(part)
    yield from drift_table()


def staged_table(part: str) -> Iterator[str]:
    """Rows of one part of the study that has stages."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{part}-seed*.json"))]
    for order in found[0] if found else ():
        for label in found[0][order]:
            runs = [row[order][label] for row in found]
            known = [run["known"] for run in runs]
            numbers = [over([k[key] for k in known]) for key in ("average_accuracy", "last_accuracy", "forgetting")]
            open_ = over([run["unknown"]["last_accuracy"] for run in runs]) if "unknown" in runs[0] else "-"
            yield f"| {order} | {label} | {' | '.join(numbers)} | {open_} | {sum(runs[0]['upstream_bytes']):,} |"


def over(values: list[float]) -> str:
    """Percent, with the deviation over the seeds."""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.1f}{spread}"


def main(part: str, seed: int = 0) -> None:
    if part == "table":
        print("\n".join(table()))
        return
    out = RESULTS / f"{part}-seed{seed}.json"
    if out.exists():
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = {"children": children, "stages": stages, "memories": memories, "votes": votes, "drift": drift}[part](
            seed, Path(folder)
        )
    out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
