#!/usr/bin/env bash
# Flower 1.31.0, fixedclipping_mod (differential privacy with clipping at the client) at a norm of 1: a client answers weights that
# moved by 0.6 and the int64 counter of a batch norm (num_batches_tracked), which moved by the 100 batches it trained.
# Guess before the run: the norm is that of the weights, 0.6, which is within 1, so that the weights arrive as they were sent.
# Seen: the counter is part of the norm (100.0018), and the weights arrive moved by 0.006. Without the counter they arrive whole.
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
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp.mod import fixedclipping_mod

logging.disable(logging.CRITICAL)


def arrives(*moves):
    asked = {"arrays": ArrayRecord([np.zeros_like(move) for move in moves]), "config": ConfigRecord({"clipping_norm": 1.0})}
    message = Message(content=RecordDict(asked), dst_node_id=1, message_type="train")

    def train(message, context):
        return Message(content=RecordDict({"arrays": ArrayRecord(list(moves))}), reply_to=message)

    answer = fixedclipping_mod(message, None, train)
    return np.round(answer.content["arrays"].to_numpy_ndarrays()[0], 4).tolist()


weights = np.array([0.6, 0.0], np.float32)
alone = arrives(weights)
beside = arrives(weights, np.asarray(np.int64(100)))
print("flwr", importlib.metadata.version("flwr"), "clipping norm 1, weights moved by [0.6, 0.0]")
print("  arrive alone:", alone, "beside a counter that moved by 100:", beside)
sys.exit(0 if np.allclose(alone, [0.6, 0]) and np.allclose(beside, [0.006, 0]) else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
