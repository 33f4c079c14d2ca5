#!/usr/bin/env bash
# Spyx 1.0.0 (JAX), its from_nir on valid NIR graphs at dt = 0.1 ms: a LIF (tau 0.2 ms, r 2, threshold 1, reset to 0) and an IF
# (r 1e4) under a constant input of 0.75, and a convolution (two channels of 4 x 4), Flatten, Affine.
# Guess before the run: the trains of Euler's rule (01 again and again from both neurons), and the numbers of the convolution.
# Seen: r is left out (r 1 fires as r 2); the threshold is subtracted, a step after it was reached: the trains of v = 0.5 v + 0.75
# and v = v + 0.75 with such a reset. Images are channels-last, and Flatten takes them so: the Affine's weights meet other pixels
# than in the file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check numpy==2.4.6 nir==1.0.8 jax==0.10.2 flax==0.12.8 spyx==1.0.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import sys

import jax.numpy as jnp
import nir
import numpy as np
from spyx.nir import from_nir

DT = 1e-4
one = np.ones(1, np.float32)


def chain(enters, leaves, *between):
    nodes = {"input": nir.Input({"input": np.array(enters)})}
    nodes |= {f"node{place}": node for place, node in enumerate(between)}
    nodes |= {"output": nir.Output({"output": np.array(leaves)})}
    names = list(nodes)
    return nir.NIRGraph(nodes, list(zip(names, names[1:])))


def train(neuron):
    _, out = from_nir(chain([1], [1], neuron), jnp.full((12, 1, 1), 0.75), dt=DT)
    return "".join(str(int(spike)) for spike in np.ravel(out))


def late_subtraction(decay):
    v, spikes = 0.0, ""
    for _ in range(12):
        fired = v > 1
        v = decay * v + 0.75 - fired
        spikes += str(int(fired))
    return spikes


print("spyx", importlib.metadata.version("spyx"), "jax", importlib.metadata.version("jax"))
lif, weaker = (
    train(nir.LIF(tau=one * 2 * DT, r=one * r, v_leak=one * 0, v_threshold=one, v_reset=one * 0)) for r in (2, 1)
)
integrator = train(nir.IF(r=one / DT, v_threshold=one, v_reset=one * 0))
print("  LIF: Euler's rule", "01" * 6, "seen", lif, "late subtraction", late_subtraction(0.5))
print("  LIF, r 1: Euler's rule", "0" * 12, "seen", weaker)
print("  IF:  Euler's rule", "01" * 6, "seen", integrator, "late subtraction", late_subtraction(1.0))

rng = np.random.default_rng(0)
weights, image = rng.normal(size=(2, 1, 1, 1)).astype(np.float32), rng.normal(size=(1, 4, 4)).astype(np.float32)
affine = rng.normal(size=(3, 32)).astype(np.float32)
flat = nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1)
conv = nir.Conv2d((4, 4), weights, 1, 0, 1, 1, np.zeros(2, np.float32))
graph = chain([1, 4, 4], [3], conv, flat, nir.Affine(affine, np.zeros(3, np.float32)))
_, out = from_nir(graph, jnp.asarray(image.transpose(1, 2, 0))[None, None], dt=DT)
channels = weights[:, 0] * image  # a 1 x 1 convolution, [2, 4, 4]
first, last = affine @ channels.ravel(), affine @ channels.transpose(1, 2, 0).ravel()
seen = np.asarray(out)[0, 0]
print("  numbers of the file", first.round(3), "seen", seen.round(3), "channels last", last.round(3))
ok = lif == weaker == late_subtraction(0.5) and integrator == late_subtraction(1.0)
ok &= np.allclose(seen, last, atol=1e-4) and not np.allclose(seen, first, atol=1e-1)
sys.exit(0 if ok else "the behaviour is another by now")
PY
"$folder/venv/bin/python" "$folder/see.py"
