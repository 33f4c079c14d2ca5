#!/usr/bin/env bash
# expelliarmus 1.1.12, reader and writer of event-camera files: three events that lie more than 4,096 us apart, written
# and read back by itself in DAT, EVT2 and EVT3.
# Guess before the run: all three formats give the times back (EVT3 writes the upper twelve bits of the clock whenever
# they change).
# Seen: DAT and EVT2 do. Its EVT3 files hold the upper bits once, at the start: a gap longer than 4,096 us comes back
# shorter by whole periods.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 expelliarmus==1.1.12
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys
from pathlib import Path

import numpy as np
from expelliarmus import Wizard

TIMES = [5_000, 9_000, 20_000]
events = np.zeros(3, dtype=[("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.uint8)])
events["t"] = TIMES
events["x"] = events["y"] = [1, 2, 3]
print("expelliarmus", importlib.metadata.version("expelliarmus"), "writes times", TIMES)
seen = {}
for encoding, end in (("dat", "dat"), ("evt2", "raw"), ("evt3", "raw")):
    path = Path(sys.argv[1]) / f"{encoding}.{end}"
    Wizard(encoding=encoding).save(fpath=path, arr=events)
    back = Wizard(encoding=encoding).read(path)
    seen[encoding] = back["t"].tolist()
    words = []
    if encoding == "evt3":
        data = path.read_bytes()
        while data.startswith(b"%"):
            data = data[data.index(b"\n") + 1 :]
        words = [word & 0xFFF for word in np.frombuffer(data, "<u2") if word >> 12 == 8]
    print(f"{encoding}: read back {seen[encoding]}", f"words of upper bits: {len(words)}" if words else "")
sys.exit(0 if seen == {"dat": TIMES, "evt2": TIMES, "evt3": [5_000, 9_000, 11_808]} else 1)
PY
"$folder/venv/bin/python" "$folder/see.py" "$folder"
