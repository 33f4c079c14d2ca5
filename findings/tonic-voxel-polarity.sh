#!/usr/bin/env bash
# tonic 1.7.0, ToVoxelGrid on four events, two of each polarity, in the dtype that tonic's own readers give (polarity bool) and with
# polarity as a number.
# Guess before the run: one grid, with +1 and -1 for the two polarities, so that it adds up to 0.
# Seen: with bool all events count +1 (it writes -1 over 0 in the column it was given, and a bool makes True of that).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 typing_extensions==4.16.0
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps tonic==1.7.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import sys
import types

import numpy as np

# Parts of the package alone: what is around them wants libraries that they do not need.
found = importlib.util.find_spec("tonic")
shell = types.ModuleType("tonic")
shell.__path__ = list(found.submodule_search_locations)
sys.modules["tonic"] = shell
for name in ("importRosbag", "importRosbag.importRosbag"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["importRosbag.importRosbag"].importRosbag = None
from tonic.functional.to_voxel_grid import to_voxel_grid_numpy
from tonic.io import make_structured_array

columns = [0, 1, 2, 3], [0, 0, 0, 0], [0, 10, 20, 30], [1, 0, 1, 0]
own = make_structured_array(*columns)
numbers = own.astype([(name, np.int64) for name in own.dtype.names])
print("tonic", importlib.metadata.version("tonic"), "polarities", columns[3])
sums = {}
for name, events in (("as its readers give them", own), ("as numbers", numbers)):
    grid = to_voxel_grid_numpy(events.copy(), (4, 1, 2), n_time_bins=4)
    sums[name] = grid.sum(axis=(0, 1, 2)).round(3).tolist()
    print(f"  polarity {events.dtype['p']}, {name}: sum of each pixel {sums[name]}")
seen = [min(pixels[:3]) > 0 for pixels in sums.values()]
sys.exit(0 if seen == [True, False] and own.dtype["p"] == bool else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
