"""State tensors of a network as the wire carries them: NumPy arrays by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def to_wire(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors to arrays of the same dtype and shape (no copy on the CPU)."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def from_wire(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays to tensors of the same dtype and shape; copies, so a message stays as it was received."""
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
