"""Output currents beside badcrossbar 1.1.0, which is no dependency of this project.

pip install --no-deps --target FOLDER badcrossbar==1.1.0 pathvalidate
PYTHONPATH=FOLDER python benchmarks/badcrossbar_currents.py
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import badcrossbar
import numpy as np
import provenance
import torch

from spikefed.hardware.crossbar import Wires, effective


def main() -> None:
    logging.disable(logging.INFO)
    draws = np.random.default_rng(0)
    rows = []
    for shape in ((5, 7), (32, 32), (64, 48)):
        for word, bit in ((5.0, 10.0), (0.5, 0.5)):
            cells = draws.random(shape) * 1e-4 + 1e-6
            volts = draws.random((shape[0], 10))
            theirs = badcrossbar.compute(volts, 1 / cells, r_i_word_line=word, r_i_bit_line=bit).currents.output
            ours = torch.from_numpy(volts.T) @ effective(torch.from_numpy(cells), Wires(word, bit))
            gap = float(np.abs(theirs / ours.numpy() - 1).max())
            rows.append({"shape": list(shape), "row_ohm": word, "column_ohm": bit, "largest_relative_gap": gap})
            print(rows[-1])
    print(provenance.write(Path("results/bench"), "badcrossbar", {"currents": rows}, sys.argv))


if __name__ == "__main__":
    main()
