"""Hamming kernels: against the public code's own steps, by hand, and by the laws a score must keep."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from spikefed.search.kernels import FLOOR, Evidence, evidence, log_determinant


def released(codes: Tensor, alpha: float = 0.5) -> Tensor:
    """One call of one spiking layer as the public code counts it: ``[B, N]`` to ``[B, B]``, in float64."""
    x = (codes > 0).double()
    images, neurons = x.shape
    full = torch.ones(images, images, dtype=torch.float64) * neurons
    share = (x.sum(1) / neurons).unsqueeze(1)
    expected = (share @ (1 - share.t()) + (1 - share) @ share.t()) * neurons
    unlike = x @ (1 - x.t()) + (1 - x) @ x.t()
    return full - alpha / (expected + 1e-3) * unlike


def bernoulli(rate: float, steps: int = 3, images: int = 8, neurons: int = 400, seed: int = 0) -> Tensor:
    draws = torch.rand(steps, images, neurons, generator=torch.Generator().manual_seed(seed))
    return draws < rate


def test_equals_the_public_codes_steps() -> None:
    fired = bernoulli(0.2)
    wanted = sum(released(codes) for codes in fired)
    found = evidence(fired)
    torch.testing.assert_close(found.similar, wanted, rtol=0, atol=1e-9)
    sign, value = np.linalg.slogdet((wanted / 3).numpy())
    assert abs(log_determinant(found.similar / found.calls) - value) < 1e-8
    assert found.calls == 3 and found.spikes == fired.sum()


def test_by_hand() -> None:
    # Codes 1100, 1010, 0000: distances 2, 2, 2; expected 4 (1/2 1/2 + 1/2 1/2) = 2 and 4 (1/2) = 2.
    codes = torch.tensor([[[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]])
    found = evidence(codes.bool(), alpha=1.0)
    off = 4 - 2 / 2.001
    assert torch.allclose(found.similar, torch.tensor([[4, off, off], [off, 4, off], [off, off, 4.0]]).double())
    assert found.agree.tolist() == [[4, 2, 2], [2, 4, 2], [2, 2, 4]]
    # K = a I + b J with a = 2, b = 2: eigenvalues 2, 2 and 2 + 3 * 2.
    assert math.isclose(log_determinant(found.agree), math.log(2 * 2 * 8))


def test_independent_codes_are_alpha_apart_whatever_their_rates() -> None:
    for rate in (0.05, 0.3, 0.7):
        fired = bernoulli(rate, steps=1, neurons=40_000)
        apart = 40_000 - evidence(fired, alpha=0.5).similar
        off = apart[~torch.eye(8, dtype=torch.bool)]
        assert abs(off.mean() - 0.5) < 0.01 and off.std() < 0.02
        assert apart.diagonal().abs().max() == 0


def test_any_order_of_images_and_of_neurons_gives_the_same() -> None:
    fired = bernoulli(0.3)
    images, neurons = torch.randperm(8), torch.randperm(400)
    one, other = evidence(fired), evidence(fired[:, images][:, :, neurons])
    assert abs(log_determinant(one.similar) - log_determinant(other.similar)) < 1e-9


def test_images_that_no_neuron_tells_apart_cost_much_and_are_no_infinity() -> None:
    fired = bernoulli(0.3)
    twins = fired.clone()
    twins[:, 1] = twins[:, 0]
    apart, alike = (log_determinant(evidence(each).similar) for each in (fired, twins))
    trace = float(evidence(twins).similar.diagonal().sum())
    assert math.isfinite(alike) and alike < apart - 15
    smallest = torch.linalg.eigvalsh(evidence(twins).similar).abs().sort().values[1:]
    assert math.isclose(alike, float(smallest.log().sum()) + math.log(FLOOR * trace), abs_tol=1e-6)


def test_silence_is_the_lowest_of_all() -> None:
    silent = log_determinant(evidence(torch.zeros(2, 6, 50)).similar)
    assert math.isfinite(silent) and silent < log_determinant(evidence(bernoulli(0.1, 2, 6, 50)).similar)


def test_evidence_adds_up() -> None:
    fired = bernoulli(0.3, steps=4)
    whole, halves = evidence(fired), evidence(fired[:2]) + evidence(fired[2:])
    assert torch.equal(whole.agree, halves.agree) and (whole.calls, whole.spikes) == (halves.calls, halves.spikes)
    torch.testing.assert_close(whole.similar, halves.similar, rtol=1e-15, atol=0)
    twice = evidence(fired).times(2)
    assert torch.equal(twice.agree, 2 * whole.agree) and (twice.calls, twice.spikes) == (8, whole.spikes)
    assert (Evidence.none(8) + whole).agree.equal(whole.agree)
