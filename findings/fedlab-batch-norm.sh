#!/usr/bin/env bash
# FedLab 1.3.0: one round of its federated averaging (SerializationTool, Aggregators) over four clients whose network has a batch norm,
# and what the server's network then computes in eval mode. All four hold inputs around 10.
# Guess before the run: the running statistics travel with the weights, as a state dict has both, so the server's norm knows the 10.
# Seen: parameters alone travel. The server's running mean is still 0 and its variance 1, and its outputs are around 10, not 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps fedlab==1.3.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import sys
import types
from pathlib import Path

import torch

# Two files alone: the package around them wants libraries (torchvision among them) that they do not need.
top = Path(importlib.util.find_spec("fedlab").submodule_search_locations[0])
for name in ("fedlab", "fedlab.utils"):
    shell = types.ModuleType(name)
    shell.__path__ = [str(top.joinpath(*name.split(".")[1:]))]
    sys.modules[name] = shell
from fedlab.utils.aggregator import Aggregators
from fedlab.utils.serialization import SerializationTool


def make():
    return torch.nn.Sequential(torch.nn.BatchNorm1d(2))


torch.manual_seed(0)
server, sent = make(), []
inputs = torch.randn(400, 2) + 10
for client in range(4):
    net = make()
    SerializationTool.deserialize_model(net, SerializationTool.serialize_model(server))
    for _ in range(100):
        net(inputs[client::4])
    sent.append(SerializationTool.serialize_model(net))
SerializationTool.deserialize_model(server, Aggregators.fedavg_aggregate(sent))
told, held = sent[0].numel(), sum(tensor.numel() for tensor in server.state_dict().values())
means = {"server": server.eval()(inputs).mean().item(), "a client": net.eval()(inputs).mean().item()}
print("fedlab", importlib.metadata.version("fedlab"), "numbers sent", told, "of", held, "in the state dict")
print("  running mean: server", server[0].running_mean.tolist(), "a client", net[0].running_mean.tolist())
print("  mean output in eval mode:", means)
still = server[0].running_mean.tolist() == [0, 0] and means["server"] > 9 and abs(means["a client"]) < 0.2
sys.exit(0 if still and told == 4 else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
