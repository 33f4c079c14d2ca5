#!/usr/bin/env bash
# Flower Datasets 0.6.0: a data set whose rows are sorted by class, as many are that are read from folders, divided among ten clients.
# Guess before the run: IidPartitioner ("each partition sampled randomly", says its documentation) gives every client all classes.
# Seen: it cuts the rows as they lie into ten pieces, so that every client has one class, the extreme of what is not IID.
# SizePartitioner does the same. Only FederatedDataset shuffles (by default, before it partitions); the partitioners never do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check flwr==1.31.0 flwr-datasets==0.6.0 datasets==4.8.5 numpy==2.4.6
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys

from datasets import Dataset
from flwr_datasets.partitioner import IidPartitioner, SizePartitioner

rows = Dataset.from_dict({"row": list(range(1000)), "label": [row // 100 for row in range(1000)]})


def classes(partitioner, data):
    partitioner.dataset = data
    return [len(set(partitioner.load_partition(client)["label"])) for client in range(10)]


iid = classes(IidPartitioner(num_partitions=10), rows)
sized = classes(SizePartitioner([100] * 10), rows)
shuffled = classes(IidPartitioner(num_partitions=10), rows.shuffle(seed=1))
print("flwr-datasets", importlib.metadata.version("flwr-datasets"), "classes of each of ten clients:")
print("  IidPartitioner, rows sorted by class:", iid)
print("  SizePartitioner, rows sorted by class:", sized)
print("  IidPartitioner, rows shuffled before:", shuffled)
sys.exit(0 if iid == sized == [1] * 10 and min(shuffled) == 10 else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
