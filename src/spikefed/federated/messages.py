"""State tensors of a network as the wire carries them: NumPy arrays by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def to_wire(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors to arrays of the same dtype and shape (no copy on the CPU).

    NumPy has no bfloat16: such a tensor travels, and is averaged, as float32, which holds its numbers exactly.
    """
    return {name: _widened(tensor.detach().cpu()).numpy() for name, tensor in tensors.items()}


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def from_wire(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays to tensors of the same dtype and shape; copies, so a message stays as it was received."""
    return {name: torch.as_tensor(np.array(array)) for name, array in arrays.items()}
