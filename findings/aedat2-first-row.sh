#!/usr/bin/env bash
# evutils 0.3.18, tonic 1.7.0 and aermanager 0.3.0, three readers of AEDAT 2.0 (jAER's format: lines that begin with "#", of which the last
# says "#End Of ASCII Header", then eight bytes an event): 1,000 events of a DAVIS240, the first in row 139 or in row 140 of 180.
# (tonic by the two functions that its readers are made of: they themselves end with an error, as tonic-aedat31.sh says.)
# Guess before the run: 1,000 events of each file.
# Seen: from row 140 on (to 143) the first event's first byte is a "#". All three take it for a line of the header, whatever that last line
# says, and go on behind the next byte that looks like the end of a line: 131 events less here, and anything at all elsewhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip numpy==2.4.6 numba==0.68.1
pip --no-deps evutils==0.3.18 tonic==1.7.0 aermanager==0.3.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import struct
import sys
import types
from pathlib import Path

# Parts of two of the packages alone: what is around them wants libraries that reading a file does not need.
for name in ("tonic", "aermanager"):
    shell = types.ModuleType(name)
    shell.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = shell
for name in ("importRosbag", "importRosbag.importRosbag", "dv"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["importRosbag.importRosbag"].importRosbag = sys.modules["dv"].AedatFile = None
from aermanager import parsers
from evutils.io import EventReader
from tonic import io

HEAD = b"#!AER-DAT2.0\r\n# created Thu Jan 01 00:00:00 UTC 2026\r\n#End Of ASCII Header\r\n"
COUNT = 1000


def read(path):
    version, start, *_ = io.read_aedat_header_from_file(path)
    return {
        "evutils": len(EventReader(path).read_all()),
        "tonic": len(io.get_aer_events_from_file(path, version, start)),
        "aermanager": len(parsers.parse_dvs_346mini(path)[1]),
    }


seen = {}
for row in (139, 140, 143, 144):
    path = Path(sys.argv[1]) / f"{row}.aedat"
    events = [(row if at == 0 else 7, 1, 1, 5000 + at) for at in range(COUNT)]
    data = b"".join(struct.pack(">II", y << 22 | x << 12 | p << 11, t) for y, x, p, t in events)
    path.write_bytes(HEAD + data)
    seen[row] = read(str(path))
    print(f"  first event in row {row}: of {COUNT} events", seen[row])
print({name: importlib.metadata.version(name) for name in seen[139]})
ok = all(set(seen[row].values()) == {COUNT} for row in (139, 144))
ok &= all(set(seen[row].values()) == {COUNT - 131} for row in (140, 143))
sys.exit(0 if ok else "the behaviour is another by now")
PY
"$folder/venv/bin/python" -W ignore "$folder/see.py" "$folder"
