"""The random generators that all libraries of a process share: seeded for a while, then put back as they were.

What this project draws itself comes from generators of its own (`spikefed.federated.randomness`). A user's network,
loss or method draws from the shared ones: dropout from torch's, an augmentation perhaps from NumPy's or Python's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the shared generators of torch (CPU, and CUDA once it is in use), NumPy and Python start from ``seed``.

    Args:
        seed: in [0, 2^64).
    """
    python = random.getstate()
    legacy = np.random.get_state()
    host = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])  # noqa: NPY002 - the shared one is what is meant
    torch.default_generator.manual_seed(seed)
    if devices:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(host)
        if devices:
            torch.cuda.set_rng_state_all(devices)
