#!/usr/bin/env bash
# torchattacks 3.5.1, its APGD and Square on a network that draws (a rate coder, a smoothed classifier), attacked twice.
# Guess before the run: the two evaluations see different draws, as torch's global generator moves on between them.
# Seen: both reset the global generator to the attack's seed at every call, so what the network draws after one attack is what
# it draws after the next: repeats of an evaluation are no repeats, and everybody else's random numbers start again too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 requests==2.34.2 scipy==1.17.1 tqdm==4.67.1
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps torchattacks==3.5.1
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys

import torch
import torchattacks

torch.manual_seed(1)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
print("torchattacks", importlib.metadata.version("torchattacks"))
alike = []
for attack in (torchattacks.APGD(net, steps=2, n_restarts=1), torchattacks.Square(net, n_queries=3, n_restarts=1)):
    after = []
    for seed in (10, 20):
        torch.manual_seed(seed)
        attack(images, labels)
        after.append(float(torch.rand(())))
    alike.append(after[0] == after[1])
    print(type(attack).__name__, "-> the next random number after it, from two states:", *after)
sys.exit(0 if all(alike) else 1)
PY
"$folder/venv/bin/python" "$folder/see.py"
