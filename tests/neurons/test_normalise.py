"""Norms without neurons: the native kernels against plain torch, both ways."""

from __future__ import annotations

from inspect import unwrap

import pytest
import torch
from torch import Tensor

from spikefed.neurons import Norm, normalise, normalise_each, normalise_pooled, steps, use_kernels

pytestmark = pytest.mark.skipif(not steps.available(), reason="the native library was not built")
STEPS = 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def outcome(mode: str, norm: Norm, shape: tuple[int, ...], training: bool, affine: bool, dtype: torch.dtype) -> list:
    """Output, gradients, and what the running statistics became."""
    own = (STEPS, shape[1]) if norm == "bntt" else (shape[1],)
    x = (draw(*shape) * 2 + 1).to(dtype).requires_grad_()
    weight = (draw(*own, seed=1).abs() + 0.5).requires_grad_() if affine else None
    bias = draw(*own, seed=2).requires_grad_() if affine else None
    running = [draw(*own, seed=3), draw(*own, seed=4).abs() + 0.5]
    with use_kernels(mode):  # type: ignore[arg-type]
        out = normalise(
            x, steps=STEPS, norm=norm, weight=weight, bias=bias, running_mean=running[0], running_var=running[1],
            training=training, momentum=[0.5, 0.25, 0.125] if norm == "bn-step" else 0.3, scale=0.7,
        )  # fmt: skip
    leaves = [t for t in (x, weight, bias) if t is not None]
    mix = draw(*shape, seed=5).to(dtype)
    return [out.detach(), *torch.autograd.grad((out * mix).sum(), leaves), *running]


@pytest.mark.parametrize("norm", ["bn", "tdbn", "bntt", "bn-step"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (12, 32, 6, 6), (30, 19)], ids=str)
def test_every_norm_is_the_plain_one(norm, training, affine, shape):
    found = outcome("auto", norm, shape, training, affine, torch.float32)
    wanted = outcome("reference", norm, shape, training, affine, torch.float32)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, float(theirs.abs().max())))


def test_bfloat16_is_rounded_once():
    shape = (12, 32, 6, 6)
    found = outcome("auto", "bn", shape, True, True, torch.bfloat16)
    wanted = outcome("reference", "bn", shape, True, True, torch.bfloat16)
    assert found[0].dtype == torch.bfloat16
    for ours, theirs in zip(found, wanted, strict=True):
        bound = 0.02 * max(1.0, float(theirs.float().abs().max()))
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=0.02, atol=bound)


@pytest.mark.parametrize("norm", ["none", "bn", "bn-step"])
@pytest.mark.parametrize("grad", [False, True])
def test_a_mean_pool_goes_before_the_norm_or_behind_it(norm, grad):
    x = draw(6, 5, 8, 6)
    told = []
    for way in (normalise_pooled, lambda x, pool, **options: pool(normalise(x, **options))):
        running = [draw(5, seed=3), draw(5, seed=4).abs() + 0.5]
        options = {"weight": draw(5, seed=1), "bias": draw(5, seed=2), "training": True, "momentum": 0.3}
        with torch.set_grad_enabled(grad):
            given = way(
                x, lambda y: torch.nn.functional.avg_pool2d(y, 2), steps=STEPS, norm=norm, scale=0.7,
                running_mean=running[0], running_var=running[1], **options,
            )  # fmt: skip
        told.append([given, *running])
    for ours, theirs in zip(*told, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["bn", "bn-step"])
@pytest.mark.parametrize("pool", [None, lambda y: torch.nn.functional.avg_pool2d(y, 2)], ids=["whole", "pooled"])
def test_one_step_after_another_is_all_steps_at_once(norm, pool):
    x = draw(6, 5, 8, 6)
    told = []
    for each in (True, False):
        running = [draw(5, seed=3), draw(5, seed=4).abs() + 0.5]
        options = {"weight": draw(5, seed=1), "bias": draw(5, seed=2), "training": True, "momentum": 0.3}
        options |= {"running_mean": running[0], "running_var": running[1], "norm": norm, "steps": STEPS}
        with torch.no_grad():
            if each:
                given = normalise_each(lambda part: 2 * part, x, pool, **options)
            else:
                given = normalise(2 * x, **options)
                given = given if pool is None else pool(given)
        told.append([given, *running])
    for ours, theirs in zip(*told, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["bn", "bn-step", "bntt"])
@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_a_batch_of_one_value_leaves_running_statistics_that_are_numbers(norm, mode):
    steps = 1 if norm == "bn" else STEPS
    own = (steps, 5) if norm == "bntt" else (5,)
    running = [torch.zeros(own), torch.ones(own)]
    x = draw(steps, 5)
    with use_kernels(mode):
        out = normalise(x, steps=steps, norm=norm, running_mean=running[0], running_var=running[1], momentum=0.5)
    torch.testing.assert_close(out, torch.zeros_like(x), rtol=0, atol=1e-4)  # 1 / sqrt(eps) times rounding
    times = steps if norm == "bn-step" else 1
    torch.testing.assert_close(running[1], torch.full(own, 0.5**times))
    if norm != "bn-step":
        torch.testing.assert_close(running[0], 0.5 * x.view(own))


@pytest.mark.parametrize("mode", ["auto", "reference"])
@pytest.mark.parametrize(("norm", "own"), [("bn", (3,)), ("bntt", (STEPS, 3)), ("bntt", (5,))])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_tensors_of_other_sizes_are_refused(mode, norm, own, name):
    with use_kernels(mode), pytest.raises((RuntimeError, IndexError)):
        unwrap(normalise)(draw(6, 5, 4, 4), steps=STEPS, norm=norm, **{name: draw(*own)})  # without tests' type check
