"""Networks as users write them, for runs: tied tensors, randomness of every library, state between batches."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

from spikefed.neurons import LIF


class Restless(nn.Module):
    """Draws from torch's, NumPy's and Python's shared generators while it trains, and has a tied layer."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, steps: int) -> None:
        super().__init__()
        self.steps, count = steps, int(np.prod(input_shape))
        self.fit = nn.Linear(count, 16)
        self.mix, self.again = nn.Linear(16, 16), nn.Linear(16, 16)
        self.again.weight = self.mix.weight
        self.norm, self.drop, self.out = nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, classes)
        self.first, self.last = LIF(decay=0.5, v_threshold=0.2), LIF(decay=0.5, v_threshold=0.2)
        with torch.no_grad():
            self.out.weight.mul_(1 + 0.1 * float(np.random.rand()))  # noqa: NPY002 - as users do
            self.out.bias.add_(0.1 * random.random())

    def forward(self, x: Tensor) -> Tensor:
        y = self.again(torch.relu(self.mix(torch.relu(self.fit(x.flatten(1))))))
        y = self.drop(self.norm(y))
        if self.training:
            y = y + 0.05 * float(np.random.randn()) + 0.05 * random.gauss(0, 1)  # noqa: NPY002
        return self.last(self.out(self.first(y.expand(self.steps, -1, -1))))


class Remembering(nn.Module):
    """What it keeps from batch to batch is a mean over the batch, so that batches may have any size."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, steps: int) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(int(np.prod(input_shape)), classes), nn.BatchNorm1d(classes)
        self.last, self.steps = LIF(decay=0.5, v_threshold=0.2), steps
        self.mem: float | Tensor = 0.0

    def forward(self, x: Tensor) -> Tensor:
        current = self.norm(self.fc(x.flatten(1))) + 0.5 * self.mem
        self.mem = current.mean(0)
        return self.last(current.expand(self.steps, -1, -1))
