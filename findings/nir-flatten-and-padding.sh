#!/usr/bin/env bash
# NIR 1.0.8, whose shapes have no batch axis: Flatten(start_dim=0) makes a vector of every image, and SumPool2d has a padding.
# Two valid graphs, read by snnTorch 1.0.0, Norse 1.1.0, sinabs 3.1.3 and SpikingJelly 2.0.0, with a batch of two images.
# Guess before the run: readers add the batch axis they have (two vectors of 18), and a padding of 1 around 4 x 4 gives 3 x 3 sums.
# Seen: snnTorch and Norse take the batch along (one vector of 36); all four leave SumPool2d's padding out (2 x 2 sums).
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
pair = np.array([2, 2])
READERS = {
    "snntorch": snntorch_reader,
    "norse": norse.torch.from_nir,
    "sinabs": lambda graph: sinabs_reader(graph, batch_size=2),
    "spikingjelly": spikingjelly_reader,
}


def shape(read, node, enters, leaves):
    ends = {"input": nir.Input({"input": np.array(enters)}), "output": nir.Output({"output": np.array(leaves)})}
    graph = nir.NIRGraph(ends | {"node": node}, [("input", "node"), ("node", "output")])
    with contextlib.redirect_stdout(io.StringIO()):
        got = read(graph)(torch.ones(2, *enters))
    return list((got[0] if isinstance(got, tuple) else got).shape)


flat, sums = [], []
for name, read in READERS.items():
    flat.append(shape(read, nir.Flatten({"input": np.array([2, 3, 3])}, start_dim=0, end_dim=-1), [2, 3, 3], [18]))
    sums.append(shape(read, nir.SumPool2d(pair, pair, pair // 2), [1, 4, 4], [1, 3, 3]))
    print(f"{name} {importlib.metadata.version(name)}: Flatten gives {flat[-1]}, SumPool2d {sums[-1]}")
sys.exit(0 if flat == [[36], [36], [2, 18], [2, 18]] and sums == [[2, 1, 2, 2]] * 4 else 1)
PY
"$folder/venv/bin/python" "$folder/see.py"
