#!/usr/bin/env bash
# snnTorch 1.0.0 with nir 1.0.8 and nirtorch 2.6: export_to_nir on a network as its own documentation builds it, with beta as a number.
# Guess before the run: a NIR graph.
# Seen: ValueError, type mismatch. A beta that is a number becomes a node without a shape, and nir wants the layer's; a batch axis
# in the sample is refused too, unless ignore_dims=[0] says so. With beta and threshold as tensors of the layer's size it writes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 h5py==3.16.0
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps nir==1.0.8 nirtorch==2.6 snntorch==1.0.0
cat > "$folder/see.py" <<'PY'
import contextlib
import importlib.metadata
import io
import logging
import sys

import snntorch
import torch
from snntorch.export_nir import export_to_nir

logging.disable(logging.WARNING)


def wrote(beta, threshold, sample, **options):
    leaky = snntorch.Leaky(beta=beta, threshold=threshold, init_hidden=True, output=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            graph = export_to_nir(torch.nn.Sequential(torch.nn.Linear(3, 5), leaky), sample, **options)
    except ValueError as error:
        return f"ValueError: {error}"
    return [type(node).__name__ for node in graph.nodes.values()]


number, tensor = (0.9, 1.0), (torch.full((5,), 0.9), torch.ones(5))
seen = {
    "numbers, sample [1, 3]": wrote(*number, torch.ones(1, 3)),
    "numbers, sample [1, 3], ignore_dims=[0]": wrote(*number, torch.ones(1, 3), ignore_dims=[0]),
    "numbers, sample [3]": wrote(*number, torch.ones(3)),
    "tensors, sample [1, 3]": wrote(*tensor, torch.ones(1, 3)),
    "tensors, sample [1, 3], ignore_dims=[0]": wrote(*tensor, torch.ones(1, 3), ignore_dims=[0]),
}
print({name: importlib.metadata.version(name) for name in ("snntorch", "nir", "nirtorch")})
for name, what in seen.items():
    print(f"  {name} -> {what}")
refused = [isinstance(what, str) and "type mismatch" in what for what in seen.values()]
sys.exit(0 if refused == [True, True, True, True, False] else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
