#!/usr/bin/env bash
# FedLab 1.3.0, client_inner_dirichlet_partition (which its CIFAR10Partitioner takes for "dirichlet" with balanced clients): ten classes
# of 600 samples each in random order, ten clients of 60, alpha = 0.3 beside 100.
# Guess before the run: at 0.3 a client's largest class holds about half of its samples, at 100 about a sixth.
# Seen: about a sixth at both, as in a random deal. The function shuffles the targets and gives places in the shuffled row as if they
# were places in the caller's. Taken through that same shuffle (its draws repeated from the seed) the clients are as skewed as guessed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 pandas==3.1.1
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps fedlab==1.3.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import numpy as np

# The file with the partitions alone: the package around it wants libraries that they do not need.
path = Path(importlib.util.find_spec("fedlab").submodule_search_locations[0]) / "utils" / "dataset" / "functional.py"
spec = importlib.util.spec_from_file_location("functional", path)
functional = importlib.util.module_from_spec(spec)
spec.loader.exec_module(functional)

labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 600))


def largest(parts, row):
    """Mean share of each client's largest class."""
    counts = [np.bincount(row[np.asarray(part, int)], minlength=10) for part in parts.values()]
    return round(float(np.mean([count.max() / count.sum() for count in counts])), 2)


print("fedlab", importlib.metadata.version("fedlab"), "share of a client's largest class, mean of ten clients")
inner, through = {}, {}
for alpha in (0.3, 100.0):
    np.random.seed(0)
    parts = functional.client_inner_dirichlet_partition(labels, 10, 10, alpha, np.full(10, 60), verbose=False)
    np.random.seed(0)
    shuffle = np.random.permutation(len(labels))
    inner[alpha], through[alpha] = largest(parts, labels), largest(parts, labels[shuffle])
    print(f"  alpha {alpha}: as given {inner[alpha]}, through the shuffle {through[alpha]}")
same = max(inner.values()) < 0.25 and through[100.0] < 0.25 and through[0.3] > 0.4
sys.exit(0 if same else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
