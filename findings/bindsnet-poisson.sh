#!/usr/bin/env bash
# BindsNET 0.3.4, its Poisson encoder: 500 inputs of 64 Hz for 2 s at time steps of 1 and 0.1 ms, and approx=True ("faster, less accurate"),
# which also gets an input of 0 Hz; Norse 1.1.0 beside it.
# Guess before the run: counts vary as Poisson's do (variance / mean about 1) at any step; approx=True keeps the rate roughly and 0 silent.
# Seen: Norse's do. BindsNET's trains are nearly regular, the more so the finer the step (0.07 and 0.01): it draws the intervals from a
# Poisson law, not the counts. approx=True gives 95 Hz for 64, ten times that at the finer step, and 4.8 Hz for 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps bindsnet==0.3.4 norse==1.1.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys
import sysconfig
import types
import warnings
from pathlib import Path

import torch

warnings.simplefilter("ignore")

# Two files alone: the packages around them want libraries that encoding does not need.
for name in ("bindsnet", "bindsnet.encoding", "norse", "norse.torch", "norse.torch.functional"):
    shell = types.ModuleType(name)
    top, *inner = name.split(".")
    shell.__path__ = [str(Path(sysconfig.get_path("purelib")).joinpath(top, *inner))]
    sys.modules[name] = shell
from bindsnet.encoding import encodings as bindsnet
from norse.torch.functional import encode as norse

RATE, SECONDS, INPUTS = 64.0, 2, 500
print({name: importlib.metadata.version(name) for name in ("bindsnet", "norse")}, f"asked for {RATE} Hz")


def told(trains):
    counts = trains.float().sum(0)
    return round(float(counts.mean()) / SECONDS, 1), round(float(counts.var() / counts.mean()), 2)


seen = {}
for step in (1.0, 0.1):
    torch.manual_seed(0)
    inputs, silent = torch.full((INPUTS,), RATE), torch.zeros(INPUTS)
    steps = round(1000 * SECONDS / step)
    seen["norse", step] = told(norse.poisson_encode(torch.ones(INPUTS), seq_length=steps, f_max=RATE, dt=step / 1000))
    seen["bindsnet", step] = told(bindsnet.poisson(inputs, time=1000 * SECONDS, dt=step))
    seen["approx", step] = told(bindsnet.poisson(inputs, time=1000 * SECONDS, dt=step, approx=True))
    seen["approx of 0 Hz", step] = told(bindsnet.poisson(silent, time=1000 * SECONDS, dt=step, approx=True))
for (name, step), (rate, fano) in seen.items():
    print(f"  {step} ms, {name}: {rate} Hz, variance / mean of the counts {fano}")
ok = seen["norse", 1.0][1] > 0.8 and seen["norse", 0.1][1] > 0.8
ok &= seen["bindsnet", 1.0][1] < 0.1 and seen["bindsnet", 0.1][1] < 0.03 and abs(seen["bindsnet", 1.0][0] - RATE) < 1
ok &= seen["approx", 1.0][0] > 90 and seen["approx", 0.1][0] > 900 and seen["approx of 0 Hz", 1.0][0] > 4
sys.exit(0 if ok else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
