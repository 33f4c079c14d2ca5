#!/usr/bin/env bash
# Norse 1.1.0: a leaky neuron with a time constant of 10 ms (its default) and a time step of 1 ms, written by its to_nir and read by
# its own from_nir, both with dt=0.001.
# Guess before the run: the file says tau = 0.01 s, as NIR's tau is in seconds, and what is read fires as what was written.
# Seen: to_nir writes the time constant times dt (1e-05 s), from_nir takes tau as it stands: the neuron that is read fires at every
# step. Written with dt=1 the file says 0.01 s and the trains are equal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.4.6 matplotlib==3.11.2 h5py==3.16.0
pip --no-deps nir==1.0.8 nirtorch==2.6 norse==1.1.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import logging
import sys

import norse.torch
import torch

logging.disable(logging.WARNING)


def train(net):
    state, spikes = None, ""
    for _ in range(40):
        out = net(torch.full((1, 1), 1.3), state)
        out, state = out if isinstance(out, tuple) else (out, None)
        out = out[0] if isinstance(out, tuple) else out
        spikes += str(int(out.flatten()[0]))
    return spikes


line = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.ones_(line.weight)
net = norse.torch.SequentialState(line, norse.torch.LIFBoxCell(dt=0.001))
print("norse", importlib.metadata.version("norse"), "fires", train(net))
seen = []
for dt in (0.001, 1):
    graph = norse.torch.to_nir(net, torch.ones(1, 1), dt=dt)
    tau = next(float(node.tau) for node in graph.nodes.values() if hasattr(node, "tau"))
    back = train(norse.torch.from_nir(graph, dt=0.001))
    print(f"  written with dt={dt}: tau {tau:.6f} s, read with dt=0.001 fires {back}")
    seen.append((round(tau, 6), back))
sys.exit(0 if seen == [(1e-05, "1" * 40), (0.01, train(net))] and "1" in train(net) else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
