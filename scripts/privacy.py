"""What privacy on the wire costs: FSD with secure aggregation and with randomised response, on digits.

    python scripts/privacy.py run --seeds 0,1,2    # results/robust/digits-privacy.json
    python scripts/privacy.py tables               # the tables of docs/privacy.md, from results/robust and results/bench

No number in docs/privacy.md is typed in by hand: each table stands between two markers and is replaced whole.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from pages import filled

import spikefed
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.progress import size
from spikefed.experiment.provenance import provenance
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "privacy.md"
FILE = "experiments/fsd-digits.toml"
NOISE = ["privacy.response_source='seeded'"]
SETTINGS: dict[str, list[str]] = {
    "plain": [],
    "secure": ["privacy.secure=true"],
    "response, eps 4": ["privacy.response_epsilon=4.0", *NOISE],
    "response, eps 2": ["privacy.response_epsilon=2.0", *NOISE],
    "response, eps 1": ["privacy.response_epsilon=1.0", *NOISE],
    "secure, response, eps 2": ["privacy.secure=true", "privacy.response_epsilon=2.0", *NOISE],
    "secure, 15 levels": ["privacy.secure=true", "privacy.vote_levels=15"],
}


def one(setting: str, seed: int) -> dict[str, Any]:
    """One run: accuracy, bytes, and the promise after the last round."""
    overrides = [f"seed={seed}", "run.threads=1", *SETTINGS[setting]]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        folder = RunFolder(spikefed.run(configs.load(ROOT / FILE, overrides), out=Path(out) / "run"))
        result, lines = json.loads(folder.result.read_text()), folder.read_lines(folder.metrics)
    promise = {key: value for key, value in lines[-1]["diagnostics"].items() if "epsilon" in key or "response" in key}
    return {
        "setting": setting,
        "seed": seed,
        "accuracy": result["accuracy"],
        "accuracies": [point["accuracy"] for point in result["curve"]],
        "upstream_bytes": result["upstream_bytes"],
        "downstream_bytes": result["downstream_bytes"],
        "promise": promise,
        "seconds": round(time.perf_counter() - started, 1),
        "command": f"spikefed run {FILE} " + " ".join(f'--set "{text}"' for text in overrides),
    }


def run(seeds: list[int]) -> None:
    """Every setting and seed that the file does not hold yet."""
    path = ROOT / "results" / "robust" / "digits-privacy.json"
    content = json.loads(path.read_text()) if path.is_file() else {"runs": []}
    for setting in SETTINGS:
        for seed in seeds:
            if any((r["setting"], r["seed"]) == (setting, seed) for r in content["runs"]):
                continue
            content["runs"].append(one(setting, seed))
            print(setting, seed, content["runs"][-1]["accuracy"], flush=True)
            facts = provenance(configs.load(ROOT / FILE, ["run.threads=1"]))
            keep = ("spikefed", "commit", "python", "torch", "numpy", "platform", "cpu", "cores", "threads", "kernels")
            content["provenance"] = {key: facts[key] for key in keep if key in facts}
            write_atomic(path, json.dumps(content, indent=1) + "\n")


def percent(values: list[float]) -> str:
    """Mean and sample standard deviation, in percent."""
    scaled = [100 * value for value in values]
    text = f"{statistics.mean(scaled):.2f}"
    return f"{text} ± {statistics.stdev(scaled):.2f}" if len(scaled) > 1 else text


def robust_table(dataset: str) -> list[str]:
    """Accuracy by rule and attack, and the distance from the plain rule without a liar."""
    path = ROOT / "results" / "robust" / f"{dataset}.json"
    if not path.is_file():
        return ["Not measured."]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in json.loads(path.read_text())["runs"]:
        groups[record["method"], record["rule"], record["attack"]].append(record)
    lines = [
        "| method | rule | liar | seeds | rounds | accuracy, last round (%) | points from the plain rule without a liar |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (method, rule, attack), records in groups.items():
        base = {r["seed"]: r["accuracy"] for r in groups.get((method, PLAIN[method], "none"), [])}
        gaps = [100 * (r["accuracy"] - base[r["seed"]]) for r in records if r["seed"] in base]
        gap = f"{statistics.mean(gaps):+.2f}" if len(gaps) == len(records) else ""
        lines.append(
            f"| {method} | {rule} | {attack} | {len(records)} | {len(records[0]['accuracies'])} | "
            f"{percent([r['accuracy'] for r in records])} | {gap} |"
        )
    return lines


PLAIN = {"fsd": "weighted", "fedavg": "mean"}


def cost_table() -> list[str]:
    """Bytes and time of secure aggregation, from the newest benchmark file."""
    paths = sorted((ROOT / "results" / "bench").glob("secure-*.json"))
    if not paths:
        return ["Not measured."]
    content = json.loads(paths[-1].read_text())
    lines = [
        "| public set | clients | dropped out | bits a position | uplink a client | of it masked votes | downlink a client | "
        "plain uplink (bitpack) | client | server |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in content["rows"]:
        lines.append(
            f"| {row['public_set']} | {row['clients']} | {row['dropouts']} | {row['bits']} | {size(row['up_bytes_total'])} | "
            f"{size(row['up_bytes']['votes'])} | {size(row['down_bytes_total'])} | {size(row['plain_bitpack_bytes'])} | "
            f"{row['client_ms']:.3g} ms | {row['server_ms']:.3g} ms |"
        )
    facts = content["provenance"]
    load = f"load {facts['load'][0]} on {facts['cores']} cores" if facts.get("load") else ""
    return [
        *lines,
        "",
        f"{facts['cpu']}, processor time of one thread, {load}; `python benchmarks/secure.py`, commit {facts['commit']}.",
    ]


def privacy_table() -> list[str]:
    """Accuracy and bytes of secure aggregation and randomised response."""
    path = ROOT / "results" / "robust" / "digits-privacy.json"
    if not path.is_file():
        return ["Not measured."]
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in json.loads(path.read_text())["runs"]:
        groups[record["setting"]].append(record)
    lines = [
        "| setting | seeds | accuracy, last round (%) | upstream | downstream | eps of a spike, all rounds | of a row, one round | "
        "of a row, all rounds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for setting, records in groups.items():
        promise = records[0]["promise"]
        keys = ("epsilon_spike_all_rounds", "epsilon_row_one_round", "epsilon_row_all_rounds")
        told = " | ".join(f"{promise[key]:g}" if key in promise else "" for key in keys)
        up, down = (statistics.mean(r[key] for r in records) for key in ("upstream_bytes", "downstream_bytes"))
        lines.append(
            f"| {setting} | {len(records)} | {percent([r['accuracy'] for r in records])} | {size(up)} | {size(down)} | {told} |"
        )
    return lines


def tables() -> None:
    """Replace every table of the page."""
    page = PAGE.read_text()
    made = {
        "robust digits": robust_table("digits"),
        "robust fashion-mnist-mini": robust_table("fashion-mnist-mini"),
        "secure": cost_table(),
        "privacy": privacy_table(),
    }
    for name, lines in made.items():
        begin, end = f"<!-- {name}: made by scripts/privacy.py -->", f"<!-- end of {name} -->"
        page = filled(page, begin, end, "\n".join(lines))
    write_atomic(PAGE, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "tables"))
    parser.add_argument("--seeds", default="0,1,2")
    given = parser.parse_args()
    tables() if given.what == "tables" else run([int(seed) for seed in given.seeds.split(",")])


if __name__ == "__main__":
    main()
