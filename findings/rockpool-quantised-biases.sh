#!/usr/bin/env bash
# Rockpool 3.1.0, quantisation of a network for Xylo: hidden and output neurons with a threshold of 1 and a bias of 0.4, output weights half
# as large as hidden ones, by global_quantize and by channel_quantize.
# Guess before the run: both keep each neuron's bias : threshold within rounding, and what they were given stays as it was.
# Seen: channel_quantize scales a hidden neuron's weights and threshold but only rounds its bias: 0.4 becomes 0, without a word (with two
# synapses it scales it), and it writes into the caller's output biases. global_quantize scales output biases with the hidden neurons'
# factor, while weights and threshold there have their own: 0.4 becomes 0.19.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps rockpool==3.1.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import numpy as np

# The file alone: the package around it wants libraries that rounding does not need.
path = Path(importlib.util.find_spec("rockpool").submodule_search_locations[0]) / "transform" / "quantize_methods.py"
spec = importlib.util.spec_from_file_location("quantize_methods", path)
methods = importlib.util.module_from_spec(spec)
spec.loader.exec_module(methods)

BIAS, HIDDEN, OUT = 0.4, 6, 3


def network(synapses):
    rng = np.random.default_rng(0)
    return {
        "weights_in": rng.uniform(-2, 2, (4, HIDDEN, synapses)),
        "weights_rec": rng.uniform(-1, 1, (HIDDEN, HIDDEN, synapses)),
        "weights_out": rng.uniform(-1, 1, (HIDDEN, OUT)),
        "threshold": np.ones(HIDDEN),
        "threshold_out": np.ones(OUT),
        **{name: np.full(HIDDEN, 3) for name in ("dash_mem", "dash_syn", "dash_syn_2")},
        **{name: np.full(OUT, 3) for name in ("dash_mem_out", "dash_syn_out")},
        "bias": np.full(HIDDEN, BIAS),
        "bias_out": np.full(OUT, BIAS),
    }


print("rockpool", importlib.metadata.version("rockpool"), f"bias {BIAS} of each threshold")
seen = {}
for name in ("global_quantize", "channel_quantize"):
    for synapses in (1, 2):
        given = network(synapses)
        found = getattr(methods, name)(**given)
        hidden, outer = (np.round(found["bias" + end] / found["threshold" + end], 2) for end in ("", "_out"))
        same = np.all(given["bias_out"] == BIAS)
        seen[name, synapses] = (hidden, outer, same)
        print(f"  {name}, {synapses} synapses: bias / threshold, hidden {hidden.tolist()}, output {outer.tolist()}")
        print(f"    the caller's output biases afterwards: {given['bias_out'].tolist()}")
lost, kept = seen["channel_quantize", 1], seen["channel_quantize", 2]
ok = not lost[0].any() and not lost[2] and np.allclose([*lost[1], *kept[0], *kept[1]], BIAS, atol=0.02)
for hidden, outer, same in (seen["global_quantize", synapses] for synapses in (1, 2)):
    ok &= np.allclose(hidden, BIAS, atol=0.02) and outer.max() < 0.3 and bool(same)
sys.exit(0 if ok else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
