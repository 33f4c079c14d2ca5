#!/usr/bin/env bash
# evlib 0.13.2 beside evutils 0.3.18: AEDAT 2.0 and AEDAT 3.1 files of 1,000 events, both of which evlib has a description of.
# Guess before the run: both give 1,000 events, or evlib refuses in a sentence what it does not read.
# Seen: evutils gives them. evlib takes AEDAT 2.0 for 3.1 (it calls itself 90 % sure) and gives an empty table, and an empty table for
# AEDAT 3.1 too, without a word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip numpy==2.4.6 numba==0.68.1 polars==1.40.0 pyarrow==26.0.1 'pandera[polars]==0.35.0' h5py==3.16.0 hdf5plugin==7.1.0
pip --no-deps evlib==0.13.2 evutils==0.3.18
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import struct
import sys
from pathlib import Path

import evlib
from evutils.io import EventReader

EVENTS = [(5000 + at, at % 128, at % 126, at % 2) for at in range(1000)]
first = b"#!AER-DAT2.0\r\n# created Thu Jan 01 00:00:00 UTC 2026\r\n#End Of ASCII Header\r\n"
first += b"".join(struct.pack(">II", y << 22 | x << 12 | p << 11, t) for t, x, y, p in EVENTS)
second = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2026-01-01 00:00:00 (TZ+0000)\r\n#!END-HEADER\r\n"
second += struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, *[len(EVENTS)] * 3)
second += b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in EVENTS)
print({name: importlib.metadata.version(name) for name in ("evlib", "evutils")})
seen = {}
for name, data in (("AEDAT 2.0", first), ("AEDAT 3.1", second)):
    path = Path(sys.argv[1]) / f"{name[-3]}.aedat"
    path.write_bytes(data)
    taken, sure, _ = evlib.detect_format(str(path))
    seen[name] = taken, evlib.load_events(str(path)).collect().height, len(EventReader(str(path)).read_all())
    print(f"  {name}: evlib takes it for {taken} (sure: {sure}), events {seen[name][1]}; evutils {seen[name][2]}")
same = set(seen.values()) == {("AEDAT 3.1", 0, len(EVENTS))}
sys.exit(0 if same else "the behaviour is another by now")
PY
"$folder/venv/bin/python" -W ignore "$folder/see.py" "$folder"
