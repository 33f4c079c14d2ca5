#!/usr/bin/env bash
# tonic 1.7.0 beside SpikingJelly 2.0.0: 40,000 events of one pixel (a flickering lamp's, a hot pixel's) in one frame.
# Guess before the run: the pixel holds 40,000 in both.
# Seen: SpikingJelly's does. tonic's frames and images are int16, and theirs holds -25,536 (frames -25,537, as the last event is in none).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 typing_extensions==4.16.0
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps tonic==1.7.0 spikingjelly==2.0.0
cat > "$folder/see.py" <<'PY'
import ast
import importlib.metadata
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np

# Parts of both packages alone: what is around them wants libraries that adding events up does not need.
found = importlib.util.find_spec("tonic")
shell = types.ModuleType("tonic")
shell.__path__ = list(found.submodule_search_locations)
sys.modules["tonic"] = shell
from tonic.functional.to_frame import to_frame_numpy

source = Path(importlib.util.find_spec("spikingjelly").origin).parent / "datasets" / "utils.py"
name = "integrate_events_segment_to_frame"
function = next(node for node in ast.parse(source.read_text()).body if getattr(node, "name", "") == name)
function.returns = None
for argument in function.args.args:
    argument.annotation = None
jelly = {"np": np}
exec(compile(ast.Module([function], []), "utils.py", "exec"), jelly)

COUNT = 40_000
events = np.zeros(COUNT, [("x", int), ("y", int), ("t", int), ("p", int)])
events["t"] = np.arange(COUNT)
column = [events[key] for key in "xyp"]
frame = to_frame_numpy(events, (1, 1, 1), n_time_bins=1)
seen = {
    "tonic": (str(frame.dtype), int(frame.ravel()[0])),
    "spikingjelly": (str(jelly[name](*column, 1, 1, 0, COUNT).dtype), int(jelly[name](*column, 1, 1, 0, COUNT).ravel()[0])),
}
for package, what in seen.items():
    print(package, importlib.metadata.version(package), "->", *what, "of", COUNT, "events")
same = seen["tonic"] == ("int16", COUNT - 1 - 65_536) and seen["spikingjelly"][1] == COUNT
sys.exit(0 if same else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
