#!/usr/bin/env bash
# Rockpool 3.1.0 (with nir 1.0.8, nirtorch 2.6), NIR's LIF and its own neuron: from_nir of a graph with a LIF, which NIR's table of
# support says it takes, and to_nir, then from_nir, of a LIFTorch with time constants of 2 ms and a time step of 1 ms.
# Guess before the run: the LIF is read, and the neuron that comes back has its time step and its spikes.
# Seen: AttributeError at the LIF ('tau_mem', which only a CubaLIF has). The time step is no part of the file, and what is made
# of the resistance instead is 0.904 ms: 37 spikes where there were 31.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.4.6 scipy==1.17.1 h5py==3.16.0
pip --no-deps nir==1.0.8 nirtorch==2.6 rockpool==3.1.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys

import nir
import numpy as np
import torch
from rockpool.nn.combinators import Sequential
from rockpool.nn.modules import LIFTorch, LinearTorch, from_nir, to_nir

one = np.ones(1, np.float32)
nodes = {
    "input": nir.Input({"input": np.array([1])}),
    "weights": nir.Linear(np.eye(1, dtype=np.float32)),
    "neuron": nir.LIF(tau=one * 2e-3, r=one, v_leak=one * 0, v_threshold=one, v_reset=one * 0),
    "output": nir.Output({"output": np.array([1])}),
}
edges = [("input", "weights"), ("weights", "neuron"), ("neuron", "output")]
print("rockpool", importlib.metadata.version("rockpool"))
try:
    from_nir(nir.NIRGraph(nodes, edges))
    read = "read"
except AttributeError as error:
    read = f"AttributeError: {error}"
print("  a LIF ->", read)


def spikes(net):
    out = net(torch.full((1, 40, 1), 0.6))
    return int((out[0] if isinstance(out, tuple) else out).sum())


neuron = LIFTorch((1, 1), tau_mem=2e-3, tau_syn=2e-3, dt=1e-3, bias=0.0, threshold=1.0)
line = LinearTorch((1, 1), has_bias=False, weight=torch.ones(1, 1))
net = Sequential(line, neuron)
back = from_nir(to_nir(net, torch.ones(1, 5, 1)))
step = next(module.dt for module in back.modules() if isinstance(module, LIFTorch))
seen = spikes(net), spikes(back), round(step, 6)
print(f"  its own neuron: {seen[0]} spikes in 40 steps, {seen[1]} after a round trip, whose time step is {seen[2]} s")
sys.exit(0 if "tau_mem" in read and seen == (31, 37, 0.000904) else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
