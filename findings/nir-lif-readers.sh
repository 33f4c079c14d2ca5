#!/usr/bin/env bash
# NIR 1.0.8, whose LIF is tau dv/dt = v_leak - v + r i with a reset to v_reset: one file, four readers. tau = 2 steps of
# 0.1 ms, r = 2, threshold 1, reset to 0, a constant input of 0.7: Euler's rule fires at every second step.
# Guess before the run: all four give that train, once their time step is set to that of the file.
# Seen: snnTorch and SpikingJelly do. Norse leaves r out (it logs a warning) and never fires. sinabs leaves r out, takes tau
# in seconds for a number of steps (its layer asks for steps, and its reader for no time step), and subtracts at a spike
# where the file says to reset: no spike here, and at half the threshold with r = 1 it fires at every step, Norse at every second.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.4.6 matplotlib==3.11.2 h5py==3.16.0 pbr==7.1.3 tqdm==4.67.1 loguru==0.7.3
pip --no-deps nir==1.0.8 nirtorch==2.6 norse==1.1.0 sinabs==3.1.3 snntorch==1.0.0 spikingjelly==2.0.0
cat > "$folder/see.py" <<'PY'
import contextlib
import importlib.metadata
import io
import logging
import sys

import nir
import numpy as np
import torch

logging.disable(logging.WARNING)
STEP, TAU, STEPS, INPUT = 1e-4, 2e-4, 12, 0.7
one = np.ones(1, np.float32)


def graph(r, threshold):
    neuron = nir.LIF(tau=one * TAU, r=one * r, v_leak=one * 0, v_threshold=one * threshold, v_reset=one * 0)
    nodes = {
        "input": nir.Input({"input": np.array([1])}),
        "weights": nir.Affine(np.eye(1, dtype=np.float32), one * 0),
        "neuron": neuron,
        "output": nir.Output({"output": np.array([1])}),
    }
    return nir.NIRGraph(nodes=nodes, edges=[("input", "weights"), ("weights", "neuron"), ("neuron", "output")])


def by_step(net):
    state, train = None, ""
    for _ in range(STEPS):
        out = net(torch.full((1, 1), INPUT)) if state is None else net(torch.full((1, 1), INPUT), state)
        spikes, state = out if isinstance(out, tuple) else (out, None)
        spikes = spikes[0] if isinstance(spikes, tuple) else spikes
        train += str(int(spikes.flatten()[0]))
    return train


def euler(r, threshold):
    v, train = 0.0, ""
    for _ in range(STEPS):
        v += STEP / TAU * (r * INPUT - v)
        train += str(int(v > threshold))
        v = 0.0 if v > threshold else v
    return train


def spikingjelly(r, threshold):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return by_step(import_from_nir(graph(r, threshold), dt=STEP))


def snntorch(r, threshold):
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):
        net = import_from_nir(graph(r, threshold))
    return by_step(net)


def norse(r, threshold):
    import norse.torch

    return by_step(norse.torch.from_nir(graph(r, threshold), dt=STEP))


def sinabs(r, threshold):
    from sinabs.nir import from_nir

    out = from_nir(graph(r, threshold), batch_size=1)(torch.full((STEPS, 1), INPUT))
    out = out[0] if isinstance(out, tuple) else out
    return "".join(str(int(spike)) for spike in out.flatten())


rows = {}
for r, threshold in ((2.0, 1.0), (1.0, 0.5)):
    print(f"r {r}, threshold {threshold}: Euler gives {euler(r, threshold)}")
    for reader in (spikingjelly, snntorch, norse, sinabs):
        rows[reader.__name__, r] = reader(r, threshold)
        print(f"  {reader.__name__} {importlib.metadata.version(reader.__name__)} -> {rows[reader.__name__, r]}")
second, never, always = "01" * 6, "0" * 12, "1" * 12
seen = {
    ("spikingjelly", 2.0): second,
    ("snntorch", 2.0): second,
    ("norse", 2.0): never,
    ("sinabs", 2.0): never,
    ("norse", 1.0): second,
    ("sinabs", 1.0): always,
}
sys.exit(0 if all(rows[key] == train for key, train in seen.items()) else 1)
PY
"$folder/venv/bin/python" "$folder/see.py"
