#!/usr/bin/env bash
# NIR 1.0.8: a chain of an Affine that changes nothing and one node more, read by sinabs 3.1.3, Norse 1.1.0, snnTorch 1.0.0 and
# SpikingJelly 2.0.0.
# Guess before the run: a reader computes a node as NIR defines it, or refuses the file.
# Seen: sinabs and Norse leave a node that they do not know out of the network without a word: Scale and Threshold both of
# them, AvgPool2d both, Linear (a layer without bias) sinabs. snnTorch and SpikingJelly refuse Scale and Threshold.
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
import norse.torch
import numpy as np
import torch
from sinabs.nir import from_nir as sinabs_reader
from snntorch.import_nir import import_from_nir as snntorch_reader
from spikingjelly.activation_based.nir_exchange import import_from_nir as spikingjelly_reader

logging.disable(logging.WARNING)
two = np.full(3, 2, np.float32)
pair = np.array([2, 2])
same = nir.Affine(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
point = nir.Conv2d((4, 4), np.ones((1, 1, 1, 1), np.float32), 1, 0, 1, 1, np.zeros(1, np.float32))
CASES = {
    "Linear": (same, nir.Linear(np.diag(two)), [3], [3]),
    "Scale": (same, nir.Scale(two), [3], [3]),
    "Threshold": (same, nir.Threshold(two), [3], [3]),
    "AvgPool2d": (point, nir.AvgPool2d(pair, pair, pair * 0), [1, 4, 4], [1, 2, 2]),
}
READERS = {
    "sinabs": lambda graph: sinabs_reader(graph, batch_size=1),
    "norse": norse.torch.from_nir,
    "snntorch": snntorch_reader,
    "spikingjelly": spikingjelly_reader,
}


def chain(first, second, shape, out):
    ends = {"input": nir.Input({"input": np.array(shape)}), "output": nir.Output({"output": np.array(out)})}
    return nir.NIRGraph(ends | {"a": first, "b": second}, [("input", "a"), ("a", "b"), ("b", "output")])


def outcome(read, first, second, shape, out):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            got = read(chain(first, second, shape, out))(torch.ones(1, *shape))
    except Exception as error:  # the readers' kinds of refusal differ
        return f"refused ({type(error).__name__})"
    got = got[0] if isinstance(got, tuple) else got
    return "left out" if got.numel() == np.prod(shape) and bool((got == 1).all()) else "computed"


rows = {}
for name, case in CASES.items():
    rows[name] = [outcome(read, *case) for read in READERS.values()]
    print(f"{name:10}", *(f"{reader} {importlib.metadata.version(reader)}: {row}." for reader, row in zip(READERS, rows[name])))
refused = "refused (ValueError)"
want = {
    "Linear": ["left out", "computed", "computed", "computed"],
    "Scale": ["left out", "left out", refused, refused],
    "Threshold": ["left out", "left out", refused, refused],
    "AvgPool2d": ["left out", "left out", "computed", "computed"],
}
sys.exit(0 if rows == want else 1)
PY
"$folder/venv/bin/python" "$folder/see.py"
