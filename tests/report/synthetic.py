"""Run folders made up in the documented format, for tests of the report."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

SPIKE_BYTES = 20_000  # one client's packed upload in the made-up FSD
WEIGHT_BYTES = 825_000  # one client's weights in the made-up FedAvg


def make_run(
    folder: Path,
    *,
    method: str = "fsd",
    seed: int = 0,
    rounds: int = 10,
    preset: str | None = None,
    dataset: str = "digits",
    clients: int = 4,
    top: float = 0.93,
    speed: float = 0.5,
    finished: bool = True,
    upload: int | None = None,
    streams: bool = False,
    drop: bool = False,
    extra: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    network: str = "small",
) -> Path:
    """Write one run folder; accuracy rises to ``top``, every number follows from the arguments.

    ``extra`` are keys of the network's table, ``data`` of the data's. ``local`` and ``central`` send nothing.
    """
    rng = random.Random(f"{method}{preset}{seed}")
    folder.mkdir(parents=True)
    size = upload or (WEIGHT_BYTES if method.startswith("fedavg") else SPIKE_BYTES)
    name = f"{method}-{preset or 'plain'}-{dataset}"
    config = [f'name = "{name}"', f"seed = {seed}", f"rounds = {rounds}", *([f'preset = "{preset}"'] if preset else [])]
    config += ["[method]", f'name = "{method}"', "distil_lr = 0.001", ""]
    config += ["[data]", f'dataset = "{dataset}"', 'partition = "iid"', f"clients = {clients}"]
    config += [f"{k} = {json.dumps(v)}" for k, v in (data or {}).items()]
    config += ["", "[network]", f'name = "{network}"', "steps = 8"]
    config += [f"{k} = {json.dumps(v)}" for k, v in (extra or {}).items()]
    (folder / "config.toml").write_text("\n".join(config) + "\n")
    provenance = {"spikefed": "0.1.0", "commit": "abc1234", "python": "3.11.2", "torch": "2.13.0", "cpu": "2 cores"}
    command = f"spikefed run experiments/{name}.toml --set seed={seed}"
    started = {"seed": seed, "config_hash": "ff00", "command": command, "started": "2026-01-02T10:00:00Z"}
    (folder / "provenance.json").write_text(json.dumps(provenance | started))
    totals = dict.fromkeys(("upstream_bytes", "downstream_bytes", "paper_upstream_bytes", "text_upstream_bytes"), 0)
    lines, ledger, curve = [], [], []
    for number in range(1, rounds + 1):
        accuracy = top * (1 - math.exp(-speed * number)) + rng.uniform(-0.02, 0.02)
        step = {
            "upstream_bytes": clients * (size + 48),
            "downstream_bytes": clients * (size + 48),
            "paper_upstream_bytes": clients * size,
            "text_upstream_bytes": round(clients * size * (1.0 if method.startswith("fedavg") else 5.4)),
        }
        if method in ("local", "central"):
            step = dict.fromkeys(step, 0)
        totals = {k: totals[k] + v for k, v in step.items()}
        parts = [
            {
                "client": c,
                "accuracy": accuracy - 0.03 + rng.uniform(-0.02, 0.02),
                "weight": 1 / clients + rng.uniform(-0.01, 0.01),
                "train_loss": 1.2 / number,
                "distil_loss": 0.2 / number,
                "firing_rate": 0.1 + 0.01 * c,
            }
            for c in range(clients)
        ]
        lost = [{"client": 1, "reason": "packet refused at field 'crc': 1 bit differs"}] if drop and number == 2 else []
        right = round(36 * accuracy)
        entry = {
            "round": number,
            "server_accuracy": accuracy,
            "server_loss": 2.3 / number,
            "clients": parts,
            "participants": [c for c in range(clients) if not (lost and c == 1)],
            "dropped": lost,
            **step,
            **{f"{k}_total": v for k, v in totals.items()},
            "firing_rates": {f"conv{i}.lif": 0.22 - 0.04 * i + 0.005 * number for i in (1, 2)} | {"fc.lif": 0.11},
            "class_spikes": [[0.02 * c + 0.01 * t for t in range(8)] for c in range(10)],
            "seconds": {"round": 6.0, "clients": 4.7, "server": 0.9, "evaluate": 0.3, "wire": 0.1},
        }
        if number == rounds:
            entry["confusion"] = [[right if i == j else (36 - right) // 9 for j in range(10)] for i in range(10)]
        lines.append(json.dumps(entry))
        curve.append({"round": number, "accuracy": accuracy, **totals})
        kind, codec = ("weights", "float32") if method.startswith("fedavg") else ("spikes", "bitpack")
        ledger += [
            {"round": number, "direction": d, "client": c, "kind": kind, "codec": codec, "payload_bits": 8 * size}
            | {"encoded_bytes": size + 48, "header_bytes": 48, "paper_bytes": size, "text_bytes": size}
            for d in ("up", "down")
            for c in range(clients if step["upstream_bytes"] else 0)
        ]
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    (folder / "ledger.jsonl").write_text("".join(json.dumps(m) + "\n" for m in ledger))
    if finished:
        result = {
            "name": name,
            "method": method,
            "preset": preset,
            "dataset": dataset,
            "partition": "iid",
            "seed": seed,
        }
        tail = {"rounds": rounds, "accuracy": curve[-1]["accuracy"], "curve": curve}
        (folder / "result.json").write_text(json.dumps(result | tail))
    if finished:
        layers = [
            {"counts": {"name": f"conv{i}"}, "ann_pj": 4e5 * i, "paper_fp32_pj": 1e5 * i * (1 + 0.01 * seed)}
            for i in (1, 2)
        ]
        even = {"against": "FP32 ANN, arithmetic", "rate": 5.11, "measured": 1.2, "snn_pj": 3e5 * (1 + 0.01 * seed)}
        found = {"totals": {"break_even": [even | {"ann_pj": 1.2e6, "ratio": 4.0}]}, "layers": layers}
        found["client_round"] = {"training_pj": 1e6}
        (folder / "energy.json").write_text(json.dumps(found))
    if streams:
        spikes = np.random.default_rng(seed).random((30, 10, 8)) < 0.12
        packed = {f"up_{c}": np.packbits(spikes ^ (np.arange(8) == c)) for c in range(2)}
        (folder / "streams").mkdir()
        np.savez(folder / "streams" / "round-0001.npz", down=np.packbits(spikes), shape=np.array([30, 10, 8]), **packed)
    return folder


def make_comparison(root: Path) -> list[Path]:
    """Three FSD and three FedAvg seeds, one faithful FSD, one CFD: what `spikefed compare` leaves behind."""
    runs = [make_run(root / f"fsd-{s}", seed=s, streams=True, drop=True, preset="default") for s in range(3)]
    runs += [make_run(root / f"fedavg-{s}", method="fedavg", seed=s, top=0.96, speed=0.9) for s in range(3)]
    runs += [make_run(root / "faithful", preset="faithful", top=0.88, speed=0.35)]
    return runs + [make_run(root / "cfd", method="cfd", top=0.9, speed=0.6, upload=2_600)]
