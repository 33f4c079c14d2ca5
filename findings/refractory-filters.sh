#!/usr/bin/env bash
# tonic 1.7.0 (RefractoryPeriod) beside evutils 0.3.18 (refractory_period), both for a refractory period of each pixel: one that fires every
# 70 us, as a flickering lamp's or a hot one does, 20 times, with a period of 100 us.
# Guess before the run: both keep every second event, the first that comes 100 us after one that was kept, as a pixel with that dead time.
# Seen: both keep the first one alone. An event that is dropped begins the period anew, so that a pixel that never rests is silent for good
# (tonic's formula says so, once one sees that its t(n-1) is any event). tonic keeps none at all if the first event is at time 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip numpy==2.4.6 numba==0.68.1 typing_extensions==4.16.0
pip --no-deps evutils==0.3.18 tonic==1.7.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import sys
import types

import numpy as np

# A part of tonic alone: what is around it wants libraries that leaving events out does not need.
shell = types.ModuleType("tonic")
shell.__path__ = list(importlib.util.find_spec("tonic").submodule_search_locations)
sys.modules["tonic"] = shell
from evutils.transforms.functional import refractory_period
from evutils.types import EventArray
from tonic.functional.refractory_period import refractory_period_numpy

PERIOD = 100
print({name: importlib.metadata.version(name) for name in ("tonic", "evutils")}, "period", PERIOD)


def dead_time(times):
    kept = []
    for time in times:
        if not kept or time - kept[-1] > PERIOD:
            kept.append(time)
    return len(kept)


seen = {}
for every, start in ((70, 1000), (70, 0), (110, 1000)):
    times = start + every * np.arange(20)
    events = np.zeros(20, [("x", int), ("y", int), ("t", int), ("p", int)])
    events["t"] = times
    column = np.zeros(20, np.uint16)
    other = EventArray(t=times, x=column, y=column, p=column.astype(np.uint8))
    seen[every, start] = (
        dead_time(times),
        len(refractory_period_numpy(events, PERIOD)),
        len(refractory_period(other, PERIOD)),
    )
    told = dict(zip(("a dead time", "tonic", "evutils"), seen[every, start], strict=True))
    print(f"  20 events, one every {every} us from {start} on: kept by", told)
same = seen == {(70, 1000): (10, 1, 1), (70, 0): (10, 0, 1), (110, 1000): (20, 20, 20)}
sys.exit(0 if same else "the behaviour is another by now")
PY
"$folder/venv/bin/python" -W ignore "$folder/see.py"
