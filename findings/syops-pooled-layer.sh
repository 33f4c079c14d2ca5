#!/usr/bin/env bash
# syops 0.0.5, counter of additions (ACs) and multiplications (MACs) of spiking networks, with SpikingJelly 0.0.0.0.12: convolution, IF
# neuron, pool of 2 x 2, second convolution; four time steps; an average pool beside a maximum pool.
# Guess before the run: the second convolution is ACs in proportion to its input's share of events behind both.
# Seen: behind the average pool it is MACs, all of them (9,216), as if no input were 0: a layer is ACs only while its input holds two
# values, and 0.25 is a third. It does not import beside SpikingJelly 2.0.0, which its requirements allow.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.4.6 progress==1.6.1 tqdm==4.67.1
pip --no-deps spikingjelly==0.0.0.0.12 syops==0.0.5
cat > "$folder/see.py" <<'PY'
import contextlib
import importlib.metadata
import io
import sys

import torch
from spikingjelly.clock_driven import functional, neuron
from syops import get_model_complexity_info
from torch.utils.data import DataLoader, TensorDataset

STEPS, SIDE = 4, 8
FIRST, SECOND = STEPS * 9 * 4 * SIDE**2, STEPS * 9 * 4 * 4 * (SIDE // 2) ** 2


class Net(torch.nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.fires = neuron.IFNode(v_threshold=0.3)
        self.pool = pool
        self.second = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def forward(self, x):
        functional.reset_net(self)
        self.events, total = 0.0, 0.0
        for _ in range(STEPS):
            spikes = self.pool(self.fires(self.first(x)))
            self.events += float((spikes != 0).float().mean()) / STEPS
            total = total + self.second(spikes)
        return total


print({name: importlib.metadata.version(name) for name in ("syops", "spikingjelly")})
seen = {}
for pool in (torch.nn.MaxPool2d(2), torch.nn.AvgPool2d(2)):
    torch.manual_seed(1)
    net = Net(pool)
    images = torch.rand(8, 1, SIDE, SIDE)
    loader = DataLoader(TensorDataset(images, torch.zeros(8)), 8)
    with contextlib.redirect_stdout(io.StringIO()):
        told, _ = get_model_complexity_info(
            net, (1, SIDE, SIDE), loader, as_strings=False, print_per_layer_stat=False, verbose=False
        )
    name = type(pool).__name__
    seen[name] = float(told[2])
    print(f"  {name}: {net.events:.3f} of what leaves the pool is events; ACs {told[1]:.0f}, MACs {told[2]:.0f}")
print(f"  multiplications of the first convolution, whose input is real: {FIRST}; of the second, if it were dense: {SECOND}")
same = seen == {"MaxPool2d": FIRST, "AvgPool2d": FIRST + SECOND}
sys.exit(0 if same else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
