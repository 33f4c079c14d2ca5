"""Collect the federated-SNN study into small JSON files, and make the tables of docs/fedsnn.md from those files.

    python scripts/fedsnn.py collect runs/fedsnn-tune-cpu results/fedsnn-cpu/tune
    python scripts/fedsnn.py collect runs/fedsnn-clients-cpu results/fedsnn-cpu
    python scripts/fedsnn.py paper-network results/fedsnn-cpu/networks   # the paper's networks, untrained
    python scripts/fedsnn.py tables

A run's JSON is that of scripts/results.py with three things more: energy by every model (`spikefed energy RUN --json`),
the model deviation of every round, and the firing rates of the last.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import results
import torch
from pages import filled
from scipy.stats import ttest_1samp

from spikefed import networks
from spikefed.experiment.energy import experiment_energy
from spikefed.files import write_atomic
from spikefed.hardware import energy_report
from spikefed.hardware.text import energy

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "fedsnn.md"
FOLDER = ROOT / "results" / "fedsnn-cpu"
BEGIN, END = "<!-- tables: made by scripts/fedsnn.py -->", "<!-- end of tables -->"


def collect(source: Path, target: Path) -> None:
    """`results.collect`, with energy, drift and rates."""
    results.collect(source, target)
    for run in sorted(path.parent for path in source.glob("*/result.json")):
        path = target / f"{run.name}.json"
        record = json.loads(path.read_text())
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        record["model_deviation"] = [line["diagnostics"].get("model_deviation") for line in lines]
        record["firing_rates"] = lines[-1]["firing_rates"]
        record["energy"] = experiment_energy(run).to_dict()
        write_atomic(path, json.dumps(record, indent=1) + "\n")


def paper_networks(target: Path) -> None:
    """Sizes of the paper's networks, and the spike rates below which vgg9-bntt saves energy: no training needed."""
    target.mkdir(parents=True, exist_ok=True)
    shape = {"input_shape": (3, 32, 32), "classes": 10}
    image = torch.zeros(1, 3, 32, 32)
    built = {
        "vgg9-bntt": networks.build("vgg9-bntt", **shape, steps=20, readout="current"),
        "vgg9-bntt, ANN twin": networks.ann_twin("vgg9-bntt", **shape),
        "vgg9-lab-ann": networks.ann_twin("vgg9-lab-ann", **shape),
    }
    for name, net in built.items():
        table, report = networks.describe(net), energy_report(net, image)
        record = {
            "network": name,
            "T": table.steps,
            "weights": table.weights,
            "parameters": table.parameters,
            "state_bytes": table.state_bytes,
            "macs": table.macs,
            "ann_fp32_pj": report.total("ann_pj"),
            "break_even": [{"against": row.against, "rate": row.rate} for row in report.break_even],
        }
        write_atomic(target / f"{name.replace(', ', '-').replace(' ', '-')}.json", json.dumps(record, indent=1) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """Every JSON of a folder, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def side(record: dict[str, Any]) -> str:
    """SNN or ANN."""
    return str(record["config"]["network"]["twin"]).upper()


def network_table() -> list[str]:
    """The three networks of the paper."""
    lines = [
        "| network | weights | with norm parameters | bytes of one upload | MACs per pass | ANN arithmetic, FP32 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    even = []
    for r in read(FOLDER / "networks"):
        lines.append(
            f"| `{r['network']}`{', T = ' + str(r['T']) if r['T'] > 1 else ''} | {r['weights']:,} | "
            f"{r['parameters']:,} | {r['state_bytes']:,} | {r['macs']:,} | {energy(r['ann_fp32_pj'])} |"
        )
        for row in r["break_even"]:
            verdict = f"{row['rate']:.2f} ({row['rate'] / r['T']:.1%})" if row["rate"] > 0 else "never"
            even.append(f"| `{r['network']}`, T = {r['T']} | {row['against']} | {verdict} |")
    head = ["", "| network | against | saves energy below R (per step) |", "| --- | --- | --- |"]
    return lines + head + even if lines[2:] else []


def tuning_table() -> list[str]:
    """Validation accuracy by side and learning rate; the best of a side in bold."""
    found = sorted(read(FOLDER / "tune"), key=lambda r: (side(r), r["config"]["training"]["lr"]))
    if not found:
        return []
    best = {s: max(r["accuracy"] for r in found if side(r) == s) for s in {side(r) for r in found}}
    lines = ["| side | learning rate | rounds | validation accuracy (%) |", "| --- | --- | --- | --- |"]
    for r in found:
        value = f"{100 * r['accuracy']:.2f}"
        value = f"**{value}**" if r["accuracy"] == best[side(r)] else value
        lines.append(f"| {side(r)} | {r['config']['training']['lr']:g} | {r['rounds']} | {value} |")
    images = min(r["config"]["data"]["test_limit"] for r in found)
    error = 100 * max((r["accuracy"] * (1 - r["accuracy"]) / images) ** 0.5 for r in found)
    seeds = len({r["seed"] for r in found})
    return [
        *lines,
        "",
        f"{seeds} seed{'s' * (seeds > 1)}, {images:,} validation images: a standard error of {error:.1f} points, so "
        "neighbours in this grid are not told apart; it rules out rates that are wrong by a factor.",
    ]


def accuracy_table(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Test accuracy of the last round, bytes, drift."""
    lines = [
        "| run | learning rate | seeds | rounds | test images | test accuracy (%) | upstream bytes "
        "| model deviation, last round |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, records in groups.items():
        images = records[0]["config"]["data"]["test_limit"]
        lines.append(
            f"| `{name}` | {records[0]['config']['training']['lr']:g} | {len(records)} | {records[0]['rounds']} | "
            f"{'all' if images is None else f'{images:,}'} | "
            f"{results.spread([100 * r['accuracy'] for r in records], '.2f')} | "
            f"{results.size(statistics.mean(r['upstream_bytes'] for r in records))} | "
            f"{results.spread([r['model_deviation'][-1] for r in records], '.4f')} |"
        )
    return lines


def difference(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """SNN minus ANN, seed by seed."""
    by_seed: dict[int, dict[str, float]] = defaultdict(dict)
    for records in groups.values():
        for r in records:
            by_seed[r["seed"]][side(r)] = 100 * r["accuracy"]
    paired = [pair["SNN"] - pair["ANN"] for pair in by_seed.values() if len(pair) == 2]
    if not paired:
        return []
    seeds = f"{len(paired)} seed" + ("s" if len(paired) > 1 else "")
    says = "does not beat" if statistics.mean(paired) <= 0 else "beats"
    sure = len(paired) > 1 and ttest_1samp(paired, 0.0).pvalue < 0.05
    doubt = "" if sure else " (not settled: one seed, or a paired t-test gives p > 0.05)"
    return [
        "",
        f"SNN minus ANN, seed by seed: {results.spread(paired, '+.2f')} points ({seeds}): at this scale the SNN {says} "
        f"the ANN of the same layers{doubt}.",
    ]


def energy_table(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Energy of one inference and one training sample of the trained networks, and ANN over SNN, by model."""
    snn = next((rs for rs in groups.values() if side(rs[0]) == "SNN"), [])
    ann = next((rs for rs in groups.values() if side(rs[0]) == "ANN"), [])
    if not snn or not ann:
        return []
    mean = lambda rs, key: statistics.mean(key(r["energy"]["totals"]) for r in rs)  # noqa: E731
    rows = []
    for label, key in (
        ("paper formula, FP32", "paper_formula_fp32_pj"),
        ("paper formula, INT32", "paper_formula_int32_pj"),
        ("with memory, 24.96 pJ a byte", "simple_with_memory_pj"),
        ("Lemaire: SRAMs and addresses", "lemaire_pj"),
    ):
        rows.append((label, mean(snn, lambda t, k=key: t[k]), mean(ann, lambda t, k=key: t[k])))
    for index, line in enumerate(snn[0]["energy"]["totals"]["break_even"]):
        if index == 0:
            continue  # the paper formula again
        both = [
            mean(snn, lambda t, i=index, k=k: t["break_even"][i][k])  # the ANN of the same layers, by the same counts
            for k in ("snn_pj", "ann_pj")
        ]
        rows.append((f"against a {line['against']}", *both))
    training = lambda t: t["training_per_sample"]  # noqa: E731
    trained = mean(ann, lambda t: training(t)["ann_pj"])
    rows.append(("training, one sample, spikes skipped", mean(snn, lambda t: training(t)["snn_pj"]), trained))
    rows.append(("training, one sample, dense", mean(snn, lambda t: training(t)["snn_dense_pj"]), trained))
    lines = ["| model | SNN | ANN | ANN / SNN |", "| --- | --- | --- | --- |"]
    lines += [f"| {label} | {energy(s)} | {energy(a)} | {a / s:.2f} |" for label, s, a in rows]
    steps = snn[0]["energy"]["totals"]["T"]
    rate = mean(snn, lambda t: t["mean_input_rate"])
    lines += ["", f"Mean R of the SNN's spike-driven layers: {rate:.2f} over {steps} steps, {rate / steps:.1%} a step."]
    return lines


def heading(setting: str) -> str:
    """``100-10-dirichlet-0.5`` in words."""
    clients, chosen, partition, *alpha = setting.split("-")
    dealt = " ".join(["IID" if partition == "iid" else partition.capitalize(), *alpha])
    return f"{clients} clients, {chosen} a round, {dealt}"


def tables() -> str:
    """Everything between the markers."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in sorted(read(FOLDER), key=lambda r: (side(r) != "SNN", r["name"], r["seed"])):
        groups[record["name"]].append(record)
    settings: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for name in sorted(groups, key=lambda n: (-len(groups[n]), n.partition("-")[2], n)):
        settings[name.partition("-")[2]][name] = groups[name]
    parts = [
        ("### The paper's networks", network_table()),
        ("### Learning rates, on validation data", tuning_table()),
        *((f"### {heading(name)}", [*accuracy_table(own), *difference(own)]) for name, own in settings.items()),
        ("### Energy of the trained networks", energy_table(next(iter(settings.values()), {}))),
    ]
    text = [line for title, lines in parts if lines for line in (title, "", *lines, "")]
    if groups:
        one = next(iter(groups.values()))[0]
        facts = one["provenance"]
        text.append(
            f"{facts['cpu']}, {facts['threads']} thread a run beside other load; spikefed {facts['spikefed']}, torch "
            f"{facts['torch']}. The command of each run is in its JSON, such as `{one['command']}`."
        )
    return "\n".join(text)


def main() -> None:
    """``collect SOURCE TARGET``, ``paper-network TARGET`` or ``tables``."""
    if len(sys.argv) == 4 and sys.argv[1] == "collect":
        collect(Path(sys.argv[2]), Path(sys.argv[3]))
    elif len(sys.argv) == 3 and sys.argv[1] == "paper-network":
        paper_networks(Path(sys.argv[2]))
    elif sys.argv[1:] == ["tables"]:
        write_atomic(PAGE, filled(PAGE.read_text(), BEGIN, END, tables()))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
