#!/usr/bin/env bash
# Ten events, one every 10 us, cut into four frames: tonic 1.7.0 beside SpikingJelly 2.0.0, by time and by number of events.
# Guess before the run: both give the same frames, and the frames hold ten events.
# Seen: SpikingJelly's hold ten. tonic's hold nine by time (the last event of every recording is in no frame, as the bins end
# before it) and eight by number (what is left after equal frames belongs to none).
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

# Parts of both packages alone: what is around them wants libraries that cutting frames does not need.
found = importlib.util.find_spec("tonic")
shell = types.ModuleType("tonic")
shell.__path__ = list(found.submodule_search_locations)
sys.modules["tonic"] = shell
from tonic.functional.to_frame import to_frame_numpy

source = Path(importlib.util.find_spec("spikingjelly").origin).parent / "datasets" / "utils.py"
wanted = ("integrate_events_segment_to_frame", "integrate_events_by_fixed_frames_number")
kept = []
for node in ast.parse(source.read_text()).body:
    name = getattr(node, "name", "")
    if name in wanted or name.endswith("segment_index"):
        node.returns = None
        for argument in node.args.args:
            argument.annotation = None
        kept.append(node)
jelly = {"np": np}
exec(compile(ast.Module(kept, []), "utils.py", "exec"), jelly)

events = np.zeros(10, [("x", int), ("y", int), ("t", int), ("p", int)])
events["t"] = 10 * np.arange(10)
columns = {name: events[name] for name in ("t", "x", "y", "p")}
seen = {
    "tonic, time": to_frame_numpy(events, (1, 1, 1), n_time_bins=4),
    "tonic, number": to_frame_numpy(events, (1, 1, 1), n_event_bins=4),
    "SpikingJelly, time": jelly[wanted[1]](columns, "time", 4, 1, 1),
    "SpikingJelly, number": jelly[wanted[1]](columns, "number", 4, 1, 1),
}
for package in ("tonic", "spikingjelly"):
    print(package, importlib.metadata.version(package))
counts = {}
for name, frames in seen.items():
    counts[name] = [int(count) for count in frames.reshape(4, -1).sum(1)]
    print(name, "->", counts[name], "of 10 events:", sum(counts[name]))
sys.exit(0 if [sum(found) for found in counts.values()] == [9, 8, 10, 10] else 1)
PY
"$folder/venv/bin/python" "$folder/see.py"
