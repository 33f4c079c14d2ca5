"""How differently a network's neurons answer different images: Hamming kernels of binary codes.

Kim, Li, Park, Venkatesha, Panda, "Neural architecture search for spiking neural networks", ECCV 2022; what the paper
leaves open is taken from its public code. At every call of every spiking layer, one layer l and step t, an image i has
the code c_i of N neurons' spikes. With HD_ij the Hamming distance of two codes and r_i the share of spikes in c_i, two
independent codes of these shares differ in E_ij = N (r_i (1 - r_j) + (1 - r_i) r_j) places on average.

    K = mean over (l, t) of N - SAHD,  SAHD_ij = alpha HD_ij / (E_ij + 1e-3),  score = log |det K|

HD is the kernel without the division. Everything after the counting is float64: with a quarter of a million neurons,
float32 has steps of 0.02 where the kernel's entries differ by halves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spikefed.neurons import fire_both

ALPHA = 0.5
"""Factor on the normalised distance in the public code; the paper's is not known."""
SMALL = 1e-3
"""Added to the expected distance in the public code: two silent codes have distance 0."""
FLOOR = 1e-12
"""Smallest eigenvalue that counts, as a share of the largest possible: two images that no neuron tells apart make the
determinant 0; the score then is very low, and not minus infinity."""


@dataclass(frozen=True)
class Evidence:
    """Sums over calls of spiking layers, on B images.

    Attributes:
        similar: sum of N - SAHD, float64 ``[B, B]``.
        agree: sum of N - HD, float64 ``[B, B]``.
        calls: how many (layer, step) are in the sums.
        spikes: of all neurons, images and steps.
    """

    similar: Tensor
    agree: Tensor
    calls: int
    spikes: float

    @classmethod
    def none(cls, images: int) -> Evidence:
        """Of no call."""
        return cls(torch.zeros(images, images, dtype=torch.float64), torch.zeros(images, images).double(), 0, 0.0)

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            self.similar + other.similar,
            self.agree + other.agree,
            self.calls + other.calls,
            self.spikes + other.spikes,
        )

    def times(self, number: int) -> Evidence:
        """As if the layer stood there so many times; its spikes are counted once."""
        return Evidence(number * self.similar, number * self.agree, number * self.calls, self.spikes)


def evidence(fired: Bool[Tensor, "T B N"] | Float[Tensor, "T B N"], alpha: float = ALPHA) -> Evidence:
    """What one layer's spikes tell, over all steps.

    Args:
        fired: 0 and 1; below 2^24 neurons the counts are exact.
        alpha: of SAHD.
    """
    neurons = fired.shape[2]
    both = fire_both(fired).double()
    ones = torch.diagonal(both, dim1=1, dim2=2)
    distance = ones[:, :, None] + ones[:, None, :] - 2 * both
    share = ones / neurons
    left, right = share[:, :, None], share[:, None, :]
    expected = neurons * (left * (1 - right) + (1 - left) * right)
    normalised = alpha * distance / (expected + SMALL)
    return Evidence(
        similar=(neurons - normalised).sum(0),
        agree=(neurons - distance).sum(0),
        calls=len(fired),
        spikes=float(ones.sum()),
    )


def log_determinant(kernel: Float[Tensor, "B B"]) -> float:
    """log |det K| in nats, from eigenvalues no smaller than `FLOOR` times the trace.

    Where none is that small it is the logarithm of the determinant. Every image that equals another costs about
    -27.6 + log(trace); images in another order give the same.
    """
    values = torch.linalg.eigvalsh(kernel).abs()
    return float(values.clamp_min(FLOOR * float(kernel.diagonal().sum())).log().sum())
