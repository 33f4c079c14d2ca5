#!/usr/bin/env bash
# faery 0.7.1 and expelliarmus 1.1.12, two libraries for event-camera files: the same events, from 5,000 us on, written by
# faery as DAT, EVT2 and EVT3 and read by both.
# Guess before the run: both read the times that were written.
# Seen: faery writes times from 0 on and the first one into a line of the header ("t0") that it alone knows; every other
# reader gets times that begin at 0, and two recordings of one clock no longer fit each other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 expelliarmus==1.1.12 faery==0.7.1
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys
from pathlib import Path

import faery
import numpy as np
from expelliarmus import Wizard

TIMES = [5_000, 5_400, 9_000]
events = np.zeros(3, dtype=faery.EVENTS_DTYPE)
events["t"] = TIMES
events["x"] = events["y"] = [1, 2, 3]
print({name: importlib.metadata.version(name) for name in ("faery", "expelliarmus")}, "times", TIMES)
seen = {}
for encoding, end in (("dat", "dat"), ("evt2", "raw"), ("evt3", "raw")):
    path = Path(sys.argv[1]) / f"{encoding}.{end}"
    version = {} if encoding == "dat" else {"version": encoding}
    faery.events_stream_from_array(events, dimensions=(1280, 720)).to_file(path, **version)
    own = faery.events_stream_from_file(path).to_array()["t"].tolist()
    other = Wizard(encoding=encoding).read(path)["t"].tolist()
    line = next(line for line in path.read_bytes().split(b"\n") if b"t0 " in line.lower()).decode()
    seen[encoding] = (own, other, line)
    print(f"{encoding}: faery {own}, expelliarmus {other}, header line {line!r}")
fell = [time - TIMES[0] for time in TIMES]
sys.exit(0 if all((*row[:2], row[2].lower()) == (TIMES, fell, "% t0 5000") for row in seen.values()) else 1)
PY
"$folder/venv/bin/python" "$folder/see.py" "$folder"
