"""Phase-change cells and forward time beside aihwkit's pure-torch tile (1.1.0, which is no dependency of this project).

    pip install --no-deps --target FOLDER aihwkit==1.1.0
    PYTHONPATH=FOLDER python benchmarks/aihwkit_chip.py [--rounds 5] [--devices 100000]

``cells``: programming noise, drift and read noise of profile pcm against its PCMLikeNoiseModel, for five targets at
four ages: differences of means and of deviations in standard errors of the difference. ``forward``: a network of two
convolutions and a linear layer on Fashion-MNIST's shape, batch 256, tiles of 64, one thread, processor time, in turns:
with converters (7 and 9 bits, aihwkit's defaults) and with exact ones.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import provenance
import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import nn

from spikefed.hardware.crossbar import OnChip, Programmed, load_profile

AGES = {"25 s": 25.0, "1 h": 3600.0, "1 day": 86400.0, "1 year": 31536000.0}
TARGETS = (0.05, 0.2, 0.5, 0.8, 1.0)
SINGLE = {"cell.bits": None, "weights.bits": None, "cell.on_off": None}


def cells(devices: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    model = PCMLikeNoiseModel(g_max=25.0)
    profile = load_profile("pcm").changed(SINGLE)
    rows: list[dict[str, object]] = []
    for number, target in enumerate(TARGETS):
        matrix = torch.full((devices, 1), target)
        matrix[0] = 1.0
        ours = Programmed(matrix, profile, 0, number)
        meant = torch.full((devices,), 25.0 * target)
        theirs = model.apply_programming_noise_to_conductance(meant)
        nu = model.generate_drift_coefficients(meant)
        for name, age in AGES.items():
            other = model.apply_drift_noise_to_conductance(theirs, nu, age).double()
            own = 25.0 * ours.held(age)[0, 0, 1:, 0].double()
            rows.append({"target_us": 25.0 * target, "age": name, **compared(own, other)})
    worst = max(max(abs(r["mean_errors"]), abs(r["deviation_errors"])) for r in rows)  # type: ignore[arg-type]
    print(f"cells: {len(rows)} settings, largest difference {worst:.2f} standard errors")
    return rows


def compared(own: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    """Means and deviations, and their differences in standard errors (of a deviation by the fourth moment)."""
    means = [float(own.mean()), float(other.mean())]
    deviations = [float(own.std()), float(other.std())]
    error = math.sqrt(sum(float(x.var()) / len(x) for x in (own, other)))
    fourth = [float(((x - x.mean()) ** 4).mean()) for x in (own, other)]
    spread = math.sqrt(sum((m / d**2 - d**2) / (4 * len(own)) for m, d in zip(fourth, deviations, strict=True)))
    return {
        "mean_us": means[0],
        "mean_aihwkit_us": means[1],
        "mean_errors": (means[0] - means[1]) / error,
        "deviation_us": deviations[0],
        "deviation_aihwkit_us": deviations[1],
        "deviation_errors": (deviations[0] - deviations[1]) / spread,
    }


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 10),
    ).eval()


def analog(exact: bool) -> nn.Module:
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = config.mapping.max_output_size = 64
    config.noise_model = PCMLikeNoiseModel(g_max=25.0)
    config.forward.out_noise = 0.0
    config.forward.is_perfect = exact
    made = convert_to_analog(network(), config, inplace=False)
    made.eval()
    made.drift_analog_weights(3600.0)  # type: ignore[operator]
    return made


def forward(rounds: int) -> dict[str, object]:
    x = torch.rand(256, 1, 28, 28)
    found: dict[str, object] = {}
    for name, exact in (("converters", False), ("exact", True)):
        theirs = analog(exact)
        net = network()
        given = SINGLE | {"tile": 64}
        given |= {} if exact else {"converters.dac_bits": 7, "converters.adc_bits": 9}
        chip = OnChip(net, load_profile("pcm").changed(given))
        chip.age(3600.0)
        chip.calibrate([x], run=net)
        ratios = []
        with torch.no_grad(), chip.running():
            for _ in range(rounds + 1):
                ratios.append(seconds(lambda theirs=theirs: theirs(x)) / seconds(lambda net=net: net(x)))
        ordered = sorted(ratios[1:])
        quarter = len(ordered) // 4
        found[name] = {"median": statistics.median(ordered), "quartiles": [ordered[quarter], ordered[-1 - quarter]]}
    print(f"forward, aihwkit's time over ours: {found}")
    return found


def seconds(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {"setting": {"rounds": given.rounds, "devices": given.devices, "threads": 1, "aihwkit": "1.1.0"}}
    found |= {"cells": cells(given.devices), "forward": forward(given.rounds)}  # type: ignore[dict-item]
    print(provenance.write(given.out, "aihwkit-chip", found, sys.argv))


if __name__ == "__main__":
    main()
