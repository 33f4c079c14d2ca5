#!/usr/bin/env bash
# FedArtML 0.1.34, which divides data among clients and tells how unlike they are: four classes for four clients by its percent_noniid
# method, from 0 (all alike) to 100 (one class each).
# Guess before the run: all three of its distances grow with the percentage, up to the greatest for clients with no class in common.
# Seen: Jensen-Shannon and Hellinger do (1.0 at 100). The earth mover's distance is 0.16 at 0 and 0.0 at 100: it compares the sorted
# shares of two clients, whatever their classes, so that one class each is one and the same distribution.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 pandas==3.1.1 scipy==1.17.1
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps fedartml==0.1.34
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import sys
import types

import numpy as np

# The part that divides alone: the package around it wants libraries for plots.
shell = types.ModuleType("fedartml")
shell.__path__ = list(importlib.util.find_spec("fedartml").submodule_search_locations)
sys.modules["fedartml"] = shell
from fedartml.fl_split_as_federated_data import SplitAsFederatedData

rng = np.random.default_rng(0)
labels = rng.permutation(np.repeat(np.arange(4), 100))
inputs = rng.normal(size=(400, 3))
print("fedartml", importlib.metadata.version("fedartml"), "four clients, four classes")
rows = []
for percent in (0, 50, 100):
    clients, _, _, distances = SplitAsFederatedData(random_state=0).create_clients(
        image_list=inputs, label_list=labels, num_clients=4, method="percent_noniid", percent_noniid=percent
    )
    case = "without_class_completion"
    counts = [np.bincount([label for _, label in client], minlength=4).tolist() for client in clients[case].values()]
    rows.append({name: round(float(value), 2) for name, value in distances[case].items()})
    print(f"  {percent:3} percent: samples of each class {counts} -> {rows[-1]}")
far, near = rows[-1], rows[0]
ok = far["jensen-shannon"] == far["hellinger"] == 1 and far["earth-movers"] == 0 < near["earth-movers"]
sys.exit(0 if ok else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
