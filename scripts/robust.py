"""What robust votes are worth: one client of four lies from the start, with and without the vote.

    python scripts/robust.py digits --seeds 0,1,2           # results/robust/digits.json
    python scripts/robust.py fashion-mnist-mini --seeds 0 --methods fsd --rounds 3

Every run is written to the file as soon as it ends; a run that the file already holds, of the same settings, is not
repeated. `scripts/privacy.py tables` makes the tables of docs/privacy.md from these files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import spikefed
from spikefed.experiment import config as configs
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
LIAR = 3
FSD_ATTACKS = {
    "none": [],
    "flip-labels": [f"attack.clients=[{LIAR}]", "attack.kind='flip-labels'", "attack.claim=1.0"],
    "invert-spikes": [f"attack.clients=[{LIAR}]", "attack.kind='invert-spikes'", "attack.claim=1.0"],
}
FEDAVG_ATTACKS = {
    "none": [],
    "flip-labels": FSD_ATTACKS["flip-labels"],
    "scale": [f"attack.clients=[{LIAR}]", "attack.kind='scale'", "attack.factor=-1.0"],
}
SWITCHES = {
    "fsd": ("method.vote", ("weighted", "median", "trimmed", "clipped", "agreement"), FSD_ATTACKS),
    "fedavg": ("method.merge", ("mean", "median", "trimmed", "krum"), FEDAVG_ATTACKS),
}


def one(method: str, dataset: str, seed: int, rule: str, attack: str, rounds: int | None = None) -> dict[str, Any]:
    """One run: what was asked, and what came out."""
    key, _, attacks = SWITCHES[method]
    file = f"experiments/{method}-{dataset}.toml"
    overrides = [f"seed={seed}", "run.threads=1", f"{key}='{rule}'", *attacks[attack]]
    overrides += [f"rounds={rounds}"] if rounds else []
    config = configs.load(ROOT / file, overrides)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = json.loads((spikefed.run(config, out=Path(folder) / "run") / "result.json").read_text())
    return {
        "method": method,
        "rule": rule,
        "attack": attack,
        "seed": seed,
        "rounds": config.rounds,
        "accuracy": result["accuracy"],
        "best_accuracy": result["best_accuracy"],
        "accuracies": [point["accuracy"] for point in result["curve"]],
        "upstream_bytes": result["upstream_bytes"],
        "config_hash": result["config_hash"],
        "seconds": round(time.perf_counter() - started, 1),
        "command": f"spikefed run {file} " + " ".join(f'--set "{text}"' for text in overrides),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="digits, fashion-mnist-mini, ...: experiments/METHOD-DATASET.toml")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default="fsd,fedavg")
    parser.add_argument("--rules", help="only these rules, by comma")
    parser.add_argument("--attacks", help="only these attacks, by comma")
    parser.add_argument("--rounds", type=int, help="fewer rounds than the experiment file says")
    given = parser.parse_args()
    path = ROOT / "results" / "robust" / f"{given.dataset}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(path.read_text()) if path.is_file() else {"runs": []}
    for seed in map(int, given.seeds.split(",")):
        for method in given.methods.split(","):
            _, rules, attacks = SWITCHES[method]
            for rule in rules:
                for attack in attacks:
                    if given.rules and rule not in given.rules.split(","):
                        continue
                    if given.attacks and attack not in given.attacks.split(","):
                        continue
                    known = {(r["method"], r["rule"], r["attack"], r["seed"]) for r in content["runs"]}
                    if (method, rule, attack, seed) in known:
                        continue
                    record = one(method, given.dataset, seed, rule, attack, given.rounds)
                    print(method, rule, attack, seed, record["accuracy"], f"{record['seconds']} s", flush=True)
                    content["runs"].append(record)
                    content["provenance"] = provenance(given.dataset)
                    write_atomic(path, json.dumps(content, indent=1) + "\n")


def provenance(dataset: str) -> dict[str, Any]:
    """Versions and machine of the last run."""
    from spikefed.experiment.provenance import provenance as facts

    found = facts(configs.load(ROOT / "experiments" / f"fsd-{dataset}.toml", ["run.threads=1"]))
    keep = ("spikefed", "commit", "python", "torch", "numpy", "platform", "cpu", "cores", "threads", "kernels")
    return {key: found[key] for key in keep if key in found}


if __name__ == "__main__":
    main()
