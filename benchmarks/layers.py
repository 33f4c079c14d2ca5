"""Event lists and windowed input gradients beside oneDNN's dense kernels, layer by layer and density by density.

    python benchmarks/layers.py

One thread, CPU time, minimum of a few calls; each figure is dense time / list time. ``window`` is the input gradient
with the making of its list counted, beside Winograd's dense one. The break-even points in ``spikefed.neurons.paths``
come from here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import provenance
import torch
import torch.nn.functional as F

from spikefed import native
from spikefed.neurons import events, products, winograd

LAYERS = ((64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8))
DENSITIES = (0.04, 0.07, 0.1, 0.14, 0.18, 0.22, 0.25)


def fastest(call: Callable[[], object], repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)


def layer(inputs: int, outputs: int, side: int, maps: int, repeats: int) -> list[dict[str, float]]:
    last = torch.channels_last
    weight = torch.randn(outputs, inputs, 3, 3)
    dense = weight.contiguous(memory_format=last)
    up = torch.randn(maps, outputs, side, side).contiguous(memory_format=last)
    full = torch.rand(maps, inputs, side, side).contiguous(memory_format=last)
    forward = fastest(lambda: F.conv2d(full, dense, padding=1), repeats)
    weights = fastest(lambda: products.weight_gradient(up, full, weight), repeats)
    inputs_ = fastest(lambda: products.input_gradient(up, weight, full.shape), repeats)
    filtered = fastest(lambda: winograd.input_gradient(up, weight), repeats) if winograd.library() else float("nan")
    rows = []
    for density in DENSITIES:
        x = (full < density).float().contiguous(memory_format=last)
        window = (full < density).to(torch.uint8).contiguous(memory_format=last)
        made = events.listed(x)
        banded, inside = events.banded(made, 3), events.banded(events.listed(window), 3)

        def whole(window: torch.Tensor = window) -> object:
            return events.input_gradient_at(events.banded(events.listed(window), 3), up, weight)

        row = {
            "forward": forward / fastest(lambda m=made: events.convolve(m, weight, None, torch.float32), repeats),
            "weight": weights / fastest(lambda m=banded: events.weight_gradient(m, up), repeats),
            "input": inputs_ / fastest(lambda m=inside: events.input_gradient_at(m, up, weight), repeats),
            "window": filtered / fastest(whole, repeats),
        }
        rows.append({"density": density, **{key: round(value, 2) for key, value in row.items()}})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=len(LAYERS), help="only the first so many")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    if events.library() is None:
        sys.exit(native.why_not())
    torch.set_num_threads(1)
    native.keep_memory()
    results = []
    with torch.no_grad():
        for inputs, outputs, side in LAYERS[: given.layers]:
            rows = layer(inputs, outputs, side, given.maps, given.repeats)
            results.append({"in": inputs, "out": outputs, "side": side, "rows": rows})
            print(f"  {inputs} to {outputs} at {side}x{side}")
            for row in rows:
                print(
                    "    density {density:.2f}  forward {forward:.2f}  weight {weight:.2f}  input {input:.2f}  "
                    "window {window:.2f}".format(**row)
                )
    print(f"written: {provenance.write(given.out, 'layers', {'maps': given.maps, 'results': results}, sys.argv)}")


if __name__ == "__main__":
    main()
