"""Whether networks that leave predict as they did at home: every test image through the C, ONNX and torch files.

    python scripts/export_study.py             # trains, then writes results/export/fashion-mnist.json
    python scripts/export_study.py --model RUN # of a run that is there

Needs a C compiler and ``pip install 'spikefed[onnx]'``. The C file's time is processor time of its own process, in
turns with the network's own single-image inference on one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

import spikefed
from spikefed import data
from spikefed.experiment import config as configs
from spikefed.experiment.provenance import commit, cpu_model
from spikefed.files import write_atomic
from spikefed.models import Model, export
from spikefed.neurons import use_kernels

ROOT = Path(__file__).parents[1]
RUN = ("experiments/fedavg-fashion-mnist-mini.toml", ["rounds=3", "run.threads=1"])
BLOCK = 250
"""Images of one turn of the clock."""


def compiled(model: Model, folder: Path, weights: str) -> tuple[Path, dict[str, Any]]:
    """The C program of a model, and what its file says of itself."""
    made = export(model, "c", folder / f"{weights}.c", weights=weights)
    program = folder / weights
    words = [
        "cc",
        "-std=c99",
        "-O3",
        "-march=native",
        "-Wall",
        "-Werror",
        "-DNETWORK_MAIN",
        str(made.path),
        "-o",
        str(program),
    ]
    subprocess.run(words, check=True)
    return program, made.facts


def said(program: Path, images: torch.Tensor) -> torch.Tensor:
    """Classes that a C program gives."""
    out = subprocess.run([program], input=images.numpy().tobytes(), capture_output=True, check=True).stdout
    return torch.tensor([int(line) for line in out.split()])


def script_labels(model: Model, folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Classes that the torch script gives."""
    made = types.ModuleType("exported")
    exec(export(model, "torch", folder / "model.py").path.read_text(), made.__dict__)
    net = made.load()
    return torch.cat([made.predict(part, net)[0] for part in images.split(250)])


def onnx_labels(model: Model, folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Classes that onnxruntime gives."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(export(model, "onnx", folder / "model.onnx").path), options)
    parts = [session.run(["scores"], {"input": model.preprocess(part).numpy()})[0] for part in images.split(250)]
    return torch.from_numpy(np.concatenate(parts)).argmax(1)


def times(model: Model, programs: dict[str, Path], images: torch.Tensor, turns: int) -> dict[str, Any]:
    """Processor time an image: ours one at a time, and the programs', in turns."""
    found: dict[str, list[float]] = {"network": [], **{name: [] for name in programs}}
    for turn in range(turns + 1):
        part = images[turn * BLOCK : (turn + 1) * BLOCK]
        started = time.process_time()
        with torch.no_grad():
            for image in part:
                model.network(model.preprocess(image[None]))
        spent = {"network": time.process_time() - started}
        for name, program in programs.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            said(program, part)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent[name] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        for name, seconds in spent.items() if turn else ():  # the first turn warms up
            found[name].append(seconds / BLOCK * 1e3)
    return {
        "images_a_turn": BLOCK,
        "turns": turns,
        "ms_an_image": {name: round(statistics.median(values), 4) for name, values in found.items()},
        "times_faster": {
            name: [round(a / b, 2) for a, b in zip(found["network"], found[name], strict=True)] for name in programs
        },
    }


def study(model: Model, turns: int) -> dict[str, Any]:
    """Everything, of one model."""
    test = data.load("fashion-mnist", "test")
    images, truth = test.images, test.labels
    own = model.predict(images).labels
    with use_kernels("reference"):
        reference = model.predict(images).labels
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs, facts = {}, {}
        for weights in ("float32", "int8"):
            programs[f"c-{weights}"], facts[f"c-{weights}"] = compiled(model, folder, weights)
        labels = {name: said(program, images) for name, program in programs.items()}
        labels |= {"torch": script_labels(model, folder, images), "onnx": onnx_labels(model, folder, images)}
        labels["network, reference kernels"] = reference
        timed = times(model, programs, images, turns)
    return {
        "network": repr(model),
        "images": len(images),
        "accuracy": round(float((own == truth).double().mean()), 4),
        "files": {
            name: {
                "accuracy": round(float((found == truth).double().mean()), 4),
                "other_class_than_network": int((found != own).sum()),
                **facts.get(name, {}),
            }
            for name, found in labels.items()
        },
        "time": timed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="run folder or model file [trains one]")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "results/export/fashion-mnist.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        source = asked.model or spikefed.run(configs.load(ROOT / RUN[0], RUN[1]), out=Path(name) / "run")
        found = study(spikefed.load_model(source), asked.turns)
    found["provenance"] = {"command": "scripts/export_study.py", "run": [RUN[0], *RUN[1]], "seeds": 1}
    found["provenance"] |= {"commit": commit(), "cpu": cpu_model(), "torch": torch.__version__}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(asked.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["files"], indent=1), json.dumps(found["time"], indent=1))


if __name__ == "__main__":
    main()
