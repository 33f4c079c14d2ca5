#!/usr/bin/env bash
# sinabs 3.1.3: three LIF layers with a time constant of 20 steps, written by its to_nir and read by its own from_nir.
# Guess before the run: each fires as before, or is refused.
# Seen: one file for all three. norm_input (on by default, a factor of 1 - exp(-1/tau)) and tau_syn (a synapse's own time constant)
# are left out without a word, as is the reset by subtraction, and tau = 20 steps stands where NIR has seconds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.4.6 matplotlib==3.11.2 h5py==3.16.0 pbr==7.1.3
pip --no-deps nir==1.0.8 nirtorch==2.6 sinabs==3.1.3
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys

import sinabs.layers
import torch
from sinabs.nir import from_nir, to_nir

line = torch.nn.Linear(1, 1)
torch.nn.init.ones_(line.weight)
torch.nn.init.zeros_(line.bias)
print("sinabs", importlib.metadata.version("sinabs"), "spikes of 30 steps at an input of 2")
rows = {}
for name, options in (("default", {}), ("norm_input=False", {"norm_input": False}), ("tau_syn=10", {"tau_syn": 10.0})):
    net = torch.nn.Sequential(line, sinabs.layers.LIF(tau_mem=20.0, **options))
    before = int(net(torch.full((1, 30, 1), 2.0)).sum())
    net[1].reset_states()
    graph = to_nir(net, torch.ones(1, 30, 1))
    node = next(node for node in graph.nodes.values() if hasattr(node, "v_threshold"))
    out = from_nir(graph, batch_size=1)(torch.full((30, 1), 2.0))
    after = int((out[0] if isinstance(out, tuple) else out).sum())
    told = (type(node).__name__, float(node.tau), float(node.r), float(node.v_reset), node.metadata)
    rows[name] = before, after, told
    print(f"  {name}: {before} before, {after} after; the file says (kind, tau, r, v_reset, metadata) {told}")
files = [row[2] for row in rows.values()]
counts = {name: row[:2] for name, row in rows.items()}
want = {"default": (2, 60), "norm_input=False": (60, 60), "tau_syn=10": (18, 60)}
sys.exit(0 if counts == want and files == [("LIF", 20.0, 1.0, 0.0, {})] * 3 else "the behaviour is another by now")
PY
"$folder/venv/bin/python" -W ignore "$folder/see.py"
