#!/usr/bin/env bash
# Flower 1.31.0: FedTrimmedAvg at its default beta = 0.2 over four clients (as many as the FSD paper has) that answer 1, 2, 3 and 10.
# Guess before the run: the least and the greatest are left out, so 2.5.
# Seen: 4.0, the plain mean. A fifth of four is rounded down to nobody, without a word; from five clients on somebody is left out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check flwr==1.31.0 numpy==2.4.6
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import logging
import sys

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedTrimmedAvg

logging.disable(logging.CRITICAL)


def mean_of(*values, **options):
    replies = []
    for client, value in enumerate(values, 1):
        asked = Message(content=RecordDict(), dst_node_id=client, message_type="train")
        content = {"arrays": ArrayRecord([np.float32([value])]), "metrics": MetricRecord({"num-examples": 10})}
        replies.append(Message(content=RecordDict(content), reply_to=asked))
    arrays, _ = FedTrimmedAvg(**options).aggregate_train(1, replies)
    return float(arrays.to_numpy_ndarrays()[0][0])


seen = {
    "four clients, default beta": mean_of(1, 2, 3, 10),
    "four clients, beta 0.25": mean_of(1, 2, 3, 10, beta=0.25),
    "five clients, default beta": mean_of(1, 2, 3, 4, 10),
}
print("flwr", importlib.metadata.version("flwr"), seen)
sys.exit(0 if list(seen.values()) == [4.0, 2.5, 3.0] else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
