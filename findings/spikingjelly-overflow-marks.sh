#!/usr/bin/env bash
# The 40-bit event format of N-MNIST and N-Caltech101 (x 8, y 8, polarity 1, time 23 bits): an entry of row 240 is no
# event but says that the clock ran over by 2^13 us more. SpikingJelly 2.0.0 beside tonic 1.7.0 on one valid file.
# Guess before the run: both give two events, at 5 us and at 5 us + 2^13 us.
# Seen: tonic does; SpikingJelly gives three, the mark among them as an event of row 240, and the last one again at 5 us.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps tonic==1.7.0 spikingjelly==2.0.0
cat > "$folder/see.py" <<'PY'
import ast
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import numpy as np


def function(package, file, name, **names):
    """One function of a package's file, without what its file and package import and reading does not need."""
    text = (Path(importlib.util.find_spec(package).origin).parent / file).read_text()
    wanted = [node for node in ast.parse(text).body if getattr(node, "name", None) in (name, "make_structured_array")]
    for node in wanted:
        node.returns = None
        for argument in node.args.args:
            argument.annotation = None
    space = {"np": np, **names}
    exec(compile(ast.Module(wanted, []), file, "exec"), space)
    return space[name]


path = Path(sys.argv[1]) / "events.bin"
path.write_bytes(bytes([7, 9, 128, 0, 5]) + bytes([0, 240, 0, 0, 0]) + bytes([7, 9, 128, 0, 5]))
kind = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
tonic = function("tonic", "io.py", "read_mnist_file", events_struct=kind)(str(path), dtype=kind)
jelly = function("spikingjelly", "datasets/utils.py", "load_ATIS_bin")(path)
seen = {
    "tonic": [(int(e["y"]), int(e["t"])) for e in tonic],
    "spikingjelly": list(zip(jelly["y"].tolist(), jelly["t"].tolist())),
}
for name, events in seen.items():
    print(name, importlib.metadata.version(name), "-> (row, us)", events)
sys.exit(seen != {"tonic": [(9, 5), (9, 5 + 2**13)], "spikingjelly": [(9, 5), (240, 0), (9, 5)]})
PY
"$folder/venv/bin/python" "$folder/see.py" "$folder"
