#!/usr/bin/env bash
# snnTorch 1.0.0, Leaky with reset_mechanism="subtract": reset_delay decides whether the threshold goes at the spike's own step
# or at the next one, after the leak.
# Guess before the run: a state dict holds what the neuron computes with (it has beta, threshold and the kind of reset), so
# two neurons with equal state dicts fire alike.
# Seen: equal state dicts, other trains; which of the two a saved network is must be known from elsewhere. With "zero" both agree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 h5py==3.16.0
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps nir==1.0.8 nirtorch==2.6 snntorch==1.0.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys

import snntorch
import torch


def train(neuron):
    spikes, v = "", torch.zeros(1)
    for _ in range(16):
        spike, v = neuron(torch.full((1,), 0.35), v)
        spikes += str(int(spike))
    return spikes


print("snntorch", importlib.metadata.version("snntorch"))
alike = {}
for reset in ("subtract", "zero"):
    late, now = (snntorch.Leaky(beta=0.9, reset_mechanism=reset, reset_delay=delay) for delay in (True, False))
    told = {name: float(value) for name, value in late.state_dict().items()}
    same = told == {name: float(value) for name, value in now.state_dict().items()}
    trains = train(late), train(now)
    alike[reset] = same, trains[0] == trains[1]
    print(reset, "-> state dicts equal:", same, "| late", *trains[:1], "| at once", *trains[1:])
sys.exit(0 if alike == {"subtract": (True, False), "zero": (True, True)} else 1)
PY
"$folder/venv/bin/python" "$folder/see.py"
