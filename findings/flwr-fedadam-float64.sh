#!/usr/bin/env bash
# Flower 1.31.0 with NumPy 2.4.6: one round of its server strategies over four clients whose arrays are float32 weights and an
# int64 counter (as a batch norm has).
# Guess before the run: the server's new arrays have the dtypes of the clients'.
# Seen: FedAdam's weights are float64, so that what goes down to the clients has twice the bytes; those of FedAvg, FedYogi and
# FedAdagrad are float32. The counter is float64 after all of them. With NumPy 1.26.4 FedAdam's weights are float32 too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import logging
import sys

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedYogi

logging.disable(logging.CRITICAL)
start = [np.float32([1, 2]), np.int64(5)]


def answer(client):
    asked = Message(content=RecordDict(), dst_node_id=client, message_type="train")
    arrays = ArrayRecord([np.float32([1, 2.5]), np.asarray(np.int64(6))])
    return Message(content=RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 10})}), reply_to=asked)


expected = {"FedAvg": "float32", "FedYogi": "float32", "FedAdagrad": "float32", "FedAdam": sys.argv[1]}
ok = True
print("flwr", importlib.metadata.version("flwr"), "numpy", np.__version__)
for strategy in (FedAvg(), FedYogi(), FedAdagrad(), FedAdam()):
    strategy.current_arrays = {str(place): array for place, array in enumerate(start)}
    arrays, _ = strategy.aggregate_train(1, [answer(client) for client in (1, 2, 3, 4)])
    weights, counter = arrays.to_numpy_ndarrays()
    name = type(strategy).__name__
    print(f"  {name}: weights {weights.dtype}, {weights.nbytes} bytes; counter {counter.dtype}")
    ok &= weights.dtype == expected[name] and counter.dtype == np.float64
sys.exit(0 if ok else "the behaviour is another by now")
PY
pip flwr==1.31.0 numpy==2.4.6
"$folder/venv/bin/python" "$folder/see.py" float64
pip numpy==1.26.4
"$folder/venv/bin/python" "$folder/see.py" float32
