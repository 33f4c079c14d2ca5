#!/usr/bin/env bash
# fluke 0.8.1 (federated learning), label_dirichlet_skew: 1,000 samples of ten classes for ten clients, with balanced=True beside False.
# Guess before the run: every sample goes to one client in both, with balanced=True to clients of equal size.
# Seen: with False it does. With balanced=True each client has its 100 samples, but 104 samples are held by nobody and 104 twice, by two
# clients or by one, without a word: what a client that is too small is filled up with is only kept apart from the clients before it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps fluke-fl==0.8.1
cat > "$folder/see.py" <<'PY'
import ast
import importlib.metadata
import importlib.util
import sys
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

# One function alone: the package around it wants libraries that dividing labels does not need.
name = "label_dirichlet_skew"
source = Path(importlib.util.find_spec("fluke").origin).parent / "data" / "__init__.py"
function = next(node for node in ast.walk(ast.parse(source.read_text())) if getattr(node, "name", "") == name)
function.decorator_list, function.returns = [], None
for argument in function.args.args:
    argument.annotation = None
fluke = {"np": np, "torch": torch, "dirichlet": np.random.dirichlet, "defaultdict": defaultdict, "warnings": warnings}
exec(compile(ast.Module([function], []), "__init__.py", "exec"), fluke)

labels = torch.tensor(np.random.default_rng(0).permutation(np.repeat(np.arange(10), 100)))
print("fluke-fl", importlib.metadata.version("fluke-fl"), "1,000 samples, ten clients, beta = 1")
seen = {}
for balanced in (False, True):
    np.random.seed(0)
    parts, _ = fluke[name](torch.zeros(1000, 1), labels, None, None, 10, beta=1.0, min_ex_class=0, balanced=balanced)
    holders = np.bincount(np.concatenate(parts), minlength=1000)
    shared = sum(len(set(one) & set(two)) for at, one in enumerate(parts) for two in parts[:at])
    seen[balanced] = int((holders == 0).sum()), int((holders > 1).sum())
    print(f"  balanced={balanced}: sizes {[len(part) for part in parts]}")
    print(f"    held by nobody {seen[balanced][0]}, more than once {seen[balanced][1]}, by two clients {shared}")
sys.exit(0 if seen[False] == (0, 0) and min(seen[True]) > 50 else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
