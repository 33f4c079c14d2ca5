#!/usr/bin/env bash
# tonic 1.7.0 and a valid AEDAT 3.1 recording (the format of DVS128 Gesture).
# Guess before the run: `tonic.io.read_dvs_ibm` gives the three events that were written.
# Seen: ValueError, too many values to unpack (expected 2); its header reader gives three values, its readers take two.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps tonic==1.7.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import struct
import sys
import types
from pathlib import Path

import numpy as np

# The file tonic/io.py alone: the package around it wants libraries that reading a file does not need.
found = importlib.util.find_spec("tonic")
shell = types.ModuleType("tonic")
shell.__path__ = list(found.submodule_search_locations)
sys.modules["tonic"] = shell
for name in ("importRosbag", "importRosbag.importRosbag"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["importRosbag.importRosbag"].importRosbag = None
from tonic import io

path = Path(sys.argv[1]) / "recording.aedat"
head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2026-01-01 00:00:00 (TZ+0000)\r\n#!END-HEADER\r\n"
columns, rows, signs, stamps = (np.array(v, np.uint32) for v in ([1, 2, 3], [4, 5, 6], [0, 1, 1], [10, 20, 30]))
words = np.stack([columns << 17 | rows << 2 | signs << 1 | 1, stamps], axis=1).astype("<u4")
packet = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 3, 3, 3) + words.tobytes()
path.write_bytes(head + packet)
try:
    seen = f"{len(io.read_dvs_ibm(str(path))[1])} events"
except ValueError as error:
    seen = f"ValueError: {error}"
print("tonic", importlib.metadata.version("tonic"), "->", seen)
sys.exit(0 if seen == "ValueError: too many values to unpack (expected 2)" else 1)
PY
"$folder/venv/bin/python" "$folder/see.py" "$folder"
