"""Neurons behind a sum of branches: what the separate operations give, both ways."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikefed.neurons import (
    ATan,
    Branch,
    LIFParameters,
    Triangle,
    join_lif,
    joins,
    norm_lif,
    normalise,
    steps,
    use_kernels,
)

pytestmark = pytest.mark.skipif(not steps.available(), reason="the native library was not built")
COUNT = 4
HARD = LIFParameters(decay=0.25, v_threshold=1.0, gain=0.75, strict=False, surrogate=ATan(2.0), detach_reset=True)
SOFT = LIFParameters(kind="soft", decay=0.9, v_threshold=0.8, surrogate=Triangle())


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def branches(kinds: str, norm: str, shape: tuple[int, ...], training: bool) -> tuple[list[Branch], list[Tensor]]:
    """``n``: normalised, ``s``: spikes, ``r``: real numbers; and all leaves."""
    made, leaves = [], []
    for k, kind in enumerate(kinds):
        x = draw(*shape, seed=k)
        x = ((x > 1).float() if kind == "s" else x).contiguous(memory_format=torch.channels_last).requires_grad_()
        leaves.append(x)
        if kind != "n":
            made.append(Branch(x))
            continue
        own = (COUNT, shape[1]) if norm == "bntt" else (shape[1],)
        weight, bias = (draw(*own, seed=k + 10).abs() + 0.5).requires_grad_(), draw(*own, seed=20).requires_grad_()
        leaves += [weight, bias]
        running = {"running_mean": draw(*own, seed=30), "running_var": draw(*own, seed=40).abs() + 0.5}
        momentum = [0.1] * COUNT if norm == "bn-step" else 0.1
        made.append(
            Branch(
                x,
                {"norm": norm, "weight": weight, "bias": bias, **running, "training": training, "momentum": momentum}
                | {"eps": 1e-5, "scale": 0.8},
            )
        )
    return made, leaves


@pytest.mark.parametrize("p", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("kinds", ["ns", "nn", "nr", "nsn"])
@pytest.mark.parametrize(("norm", "training"), [("bn", True), ("bn", False), ("bntt", True), ("bn-step", True)])
@pytest.mark.parametrize("shape", [(COUNT * 3, 5, 4, 3), (COUNT * 2, 32, 6, 6)], ids=str)
def test_a_join_is_norms_sum_and_neurons(p, kinds, norm, training, shape):
    ours, leaves = branches(kinds, norm, shape, training)
    theirs, others = branches(kinds, norm, shape, training)
    assert joins(ours)
    spikes = join_lif(ours, p, count=COUNT)
    with use_kernels("reference"):
        plain = [b.x if b.norm is None else normalise(b.x, steps=COUNT, **b.norm) for b in theirs]
        told = norm_lif(sum(plain[1:], plain[0]), p, steps=COUNT)
    assert 0.02 < told.mean() < 0.98 and torch.equal(spikes, told)
    assert spikes._spikefed_nonzero == int(told.sum())
    mix = draw(*shape, seed=5)
    found, wanted = torch.autograd.grad((spikes * mix).sum(), leaves), torch.autograd.grad((told * mix).sum(), others)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * max(1.0, float(b.abs().max())))
    for a, b in zip(ours, theirs, strict=True):
        for key in ("running_mean", "running_var") if a.norm and b.norm else ():
            torch.testing.assert_close(a.norm[key], b.norm[key], rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_together_is_not_taken():
    x = draw(8, 5, 4, 4)
    assert joins([Branch(x), Branch(x)])
    for other in ([Branch(x)], [Branch(x), Branch(x[:4])], [Branch(x), Branch(x.bfloat16())], [Branch(x.double())] * 2):
        assert not joins(other)
    norm = {"norm": "bn", "weight": None, "bias": draw(4), "running_mean": None, "running_var": None}
    assert not joins([Branch(x, norm), Branch(x)])
    assert joins([Branch(x, norm | {"bias": draw(5)}), Branch(x)])
    with use_kernels("reference"):
        assert not joins([Branch(x), Branch(x)])
