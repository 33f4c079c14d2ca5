#!/usr/bin/env bash
# expelliarmus 1.1.12, evt3 0.4.1 and faery 0.7.1, three readers of EVT3 (the raw format of Prophesee's cameras): an event every 500 us for
# 30 ms, in a file as a camera writes it, with the upper twelve bits of the clock whenever they change, at every 4,096 us.
# Guess before the run: all three give the times that are in the file.
# Seen: evt3 and faery do. expelliarmus adds 4,096 us at each change of the upper bits, once for the word that says so and once because the
# lower bits began again: recordings last twice as long. Its own files do not show it, as they hold the upper bits once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 expelliarmus==1.1.12 evt3==0.4.1 faery==0.7.1
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys
from pathlib import Path

import evt3
import faery
import numpy as np
from expelliarmus import Wizard

TIMES = [5_000 + 500 * at for at in range(60)]
HEAD = b"% evt 3.0\n% format EVT3;height=720;width=1280\n% geometry 1280x720\n% end\n"
ROW, COLUMN, LOWER, UPPER = (kind << 12 for kind in (0, 2, 6, 8))
words, upper = [], None
for time in TIMES:
    if time >> 12 != upper:
        upper = time >> 12
        words.append(UPPER | upper)
    words += [LOWER | time & 0xFFF, ROW | 7, COLUMN | 1 << 11 | 9]
path = Path(sys.argv[1]) / "camera.raw"
path.write_bytes(HEAD + np.array(words, "<u2").tobytes())
seen = {
    "expelliarmus": Wizard(encoding="evt3").read(path)["t"].tolist(),
    "evt3": evt3.decode_file(str(path)).timestamp.tolist(),
    "faery": faery.events_stream_from_file(path).to_array()["t"].tolist(),
}
print(f"{len(TIMES)} events from {TIMES[0]} to {TIMES[-1]} us in the file")
for name, times in seen.items():
    print(f"  {name} {importlib.metadata.version(name)}: {len(times)} from {times[0]} to {times[-1]}")
changes = [(time >> 12) - (TIMES[0] >> 12) for time in TIMES]
doubled = [time + 4096 * change for time, change in zip(TIMES, changes, strict=True)]
ok = seen["evt3"] == seen["faery"] == TIMES and seen["expelliarmus"] == doubled
sys.exit(0 if ok else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py" "$folder"
