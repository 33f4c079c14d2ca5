#!/usr/bin/env bash
# NIR 1.0.8, whose IF integrates without a leak and resets to v_reset: read by snnTorch 1.0.0.
# Guess before the run: the neuron adds up its input, fires at every second step at 0.7 a step and a threshold of 1, and starts
# again from 0.
# Seen: a Leaky with a leak of 0.9 whose reset subtracts the threshold, without a word: other spikes, and an input of 0.09 a
# step, which any integrator adds up to 1 in twelve steps, never fires.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.4.6 h5py==3.16.0
pip --no-deps nir==1.0.8 nirtorch==2.6 snntorch==1.0.0
cat > "$folder/see.py" <<'PY'
import contextlib
import importlib.metadata
import io
import sys

import nir
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

one = np.ones(1, np.float32)
nodes = {
    "input": nir.Input({"input": np.array([1])}),
    "weights": nir.Affine(np.eye(1, dtype=np.float32), one * 0),
    "neuron": nir.IF(r=one, v_threshold=one, v_reset=one * 0),
    "output": nir.Output({"output": np.array([1])}),
}
graph = nir.NIRGraph(nodes=nodes, edges=[("input", "weights"), ("weights", "neuron"), ("neuron", "output")])


def train(value, steps):
    with contextlib.redirect_stdout(io.StringIO()):
        net = import_from_nir(graph)
    state, spikes = None, ""
    for _ in range(steps):
        out = net(torch.full((1, 1), value)) if state is None else net(torch.full((1, 1), value), state)
        out, state = out if isinstance(out, tuple) else (out, None)
        out = out[0] if isinstance(out, tuple) else out
        spikes += str(int(out.flatten()[0]))
    return spikes


print("snntorch", importlib.metadata.version("snntorch"))
strong, weak = train(0.7, 12), train(0.09, 40)
print("0.7 a step: integrator 010101010101, seen", strong)
print("0.09 a step, 40 steps: an integrator fires 3 times, seen", weak.count("1"))
sys.exit(0 if strong == "010110110110" and weak.count("1") == 0 else 1)
PY
"$folder/venv/bin/python" "$folder/see.py"
