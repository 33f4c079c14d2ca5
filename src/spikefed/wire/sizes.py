"""The paper's own measures of a message, beside the bytes that we send (docs/wire-format.md, section 8)."""

from __future__ import annotations

import numpy as np

from spikefed.wire.packed import PackedSpikes

PICKLE_BYTES_PER_TENSOR = 320  # estimate: the printed FedAvg cells hold 314 to 321 bytes a tensor above its numbers


def _list_bytes(items: int, inside: int) -> int:
    """Length of ``json.dumps`` of a list: brackets, separators of two characters, and what stands inside."""
    return 2 + inside + 2 * max(items - 1, 0)


def text_equivalent_bytes(spikes: np.ndarray | PackedSpikes) -> int:
    """Length of the JSON text by which the paper's authors sent spikes [N, C, T], without building it.

    The text is ``json.dumps`` of a list of N rows of C one-element lists, each holding Algorithm 2's integer: a silent
    row of 10 classes takes 50 characters and a separator of 2; every decimal digit beyond the first adds 1.
    """
    n, c, _ = spikes.shape
    if n == 0:
        return 2
    row = _list_bytes(c, 2 * c)  # brackets of the one-element lists
    blocks = spikes.blocks() if isinstance(spikes, PackedSpikes) else [spikes]
    return _list_bytes(n, n * row + sum(decimal_digits(block) for block in blocks))


def decimal_digits(spikes: np.ndarray) -> int:
    """Total decimal digits of Algorithm 2's integers of spikes [N, C, T]."""
    n, c, t = spikes.shape
    trains = spikes.reshape(n * c, t)
    if t > 64:
        return sum(len(str(int("".join("1" if bit else "0" for bit in train), 2))) for train in trains)
    values = np.zeros(n * c, dtype=np.uint64)
    for step in range(t):
        values = (values << np.uint64(1)) | trains[:, step].astype(np.uint64)
    digits = n * c
    for power in range(1, 20):
        if 10**power >= 2 ** max(t, 1):
            break
        digits += int(np.count_nonzero(values >= np.uint64(10**power)))
    return digits


def pickle_equivalent_bytes(tensor_bytes: int, tensors: int) -> int:
    """Estimated pickle size of a state dict: its numbers plus about 320 bytes for each tensor."""
    return tensor_bytes + PICKLE_BYTES_PER_TENSOR * tensors
