"""Images rebuilt from one change of weights: a spiking network beside its ANN twin. results/audit/inversion.json.

    python benchmarks/inversion.py [--seeds 0,1,2] [--victims 6]

Untrained `small` (T = 4, threshold 0.25, no normalisation) on Fashion-MNIST images, one image an upload, 150 steps of
the attacker: the first round of a federation, where gradients say most.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from provenance import describe

from spikefed.data import load
from spikefed.networks import ann_twin, build, network_info
from spikefed.probes import Subject, run_probe
from spikefed.training import Preprocess


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--victims", type=int, default=6)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("results/audit"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    part = load(args.dataset, "test")
    subject = Subject(part.images[:500], part.labels[:500], Preprocess(), tuple(map(str, range(part.classes))))
    rows: list[dict[str, Any]] = []
    for seed in map(int, args.seeds.split(",")):
        options: dict[str, Any] = {"input_shape": part.shape, "classes": part.classes, "norm": "none", "seed": seed}
        neuron = replace(network_info("small").neuron, v_threshold=0.25)  # with 1 it is silent before any training
        spiking = build("small", steps=4, neuron=neuron, **options)
        for kind, net in {"SNN": spiking, "ANN": ann_twin("small", **options)}.items():
            found = run_probe(net, subject, "inversion", hyper={"victims": args.victims, "steps": 150}, seed=seed)
            rows += [{"seed": seed, "network": kind, **row} for row in found.records]
            print(rows[-2:])
    args.out.mkdir(parents=True, exist_ok=True)
    told = {"machine": describe(sys.argv), "rows": rows}
    (args.out / "inversion.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
