"""The LIF layer alone beside its peers' neurons: [8, 32, 64, 16, 16] float32, forward + backward, interleaved.

python benchmarks/lif.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nets
import provenance
import torch
from steps import table
from torch import Tensor, nn

from spikefed.neurons import LIF, use_kernels

SHAPE = (8, 32, 64, 16, 16)


def timed(layer: Callable[[Tensor], Tensor], mode: str = "auto") -> Callable[[], None]:
    x, up = torch.randn(SHAPE).requires_grad_(), torch.randn(SHAPE)

    def step() -> None:
        x.grad = None
        with use_kernels(mode):  # type: ignore[arg-type]
            layer(x).backward(up)

    return step


def spikingjelly() -> Callable[[Tensor], Tensor]:
    from spikingjelly.activation_based import neuron, surrogate

    node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), step_mode="m")

    def run(x: Tensor) -> Tensor:
        node.reset()
        return node(x)

    return run


def snntorch() -> Callable[[Tensor], Tensor]:
    import snntorch as snn
    from snntorch import surrogate

    cell = snn.Leaky(beta=0.5, spike_grad=surrogate.atan(), reset_mechanism="zero", reset_delay=False)

    def run(x: Tensor) -> Tensor:
        mem, out = cell.init_leaky(), []
        for current in x:
            spikes, mem = cell(current * 0.5, mem)
            out.append(spikes)
        return torch.stack(out)

    return run


def norse() -> Callable[[Tensor], Tensor]:
    from norse.torch import LIFBoxCell

    cell = LIFBoxCell()

    def run(x: Tensor) -> Tensor:
        state, out = None, []
        for current in x:
            spikes, state = cell(current, state)
            out.append(spikes)
        return torch.stack(out)

    return run


def plain() -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        layer: nn.Module = nets.PlainLIF()
        return torch.stack([layer(current) for current in x])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    steps: dict[str, Callable[[], None]] = {}
    for name, make in {"spikingjelly": spikingjelly, "snntorch": snntorch, "norse": norse}.items():
        if nets.have(name):
            steps[name] = timed(make())
        else:
            print(f"  left out: {name} (not installed; pip install --no-deps -r benchmarks/requirements.txt)")
    steps["plain loop"] = timed(plain())
    ours = LIF(tau=2.0, decay_input=True, strict=False, surrogate="atan")
    steps["spikefed reference"], steps["spikefed"] = timed(ours, "reference"), timed(ours)
    for step in [*steps.values()] * 2:
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(given.rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    rows = table(times, next(iter(steps)))
    for row in rows:
        print("  {variant:20} {ms:8.2f} ms   x {ratio:6.2f}  [{ratio_low:.2f}, {ratio_high:.2f}]".format(**row))
    path = provenance.write(
        given.out, "lif", {"shape": SHAPE, "rounds": given.rounds, "threads": 1, "clock": "cpu", "rows": rows}, sys.argv
    )
    print(f"written: {path}")


if __name__ == "__main__":
    main()
