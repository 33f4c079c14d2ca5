"""Neuron equations: traces computed by hand, gradients against closed forms, module behaviour."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.neurons import (
    IF,
    LIF,
    ATan,
    LIFParameters,
    Rectangle,
    if_,
    lif,
    lif_hard,
    lif_soft,
    norm_lif,
    norm_lif_gradient,
)


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def test_hard_reset_trace_by_hand() -> None:
    # u: 0.6 | 0.3+0.6=0.9 | 0.45+0.6=1.05 fires | 0+0.6 | 0.3+0.9=1.2 fires
    p = LIFParameters(kind="hard", decay=0.5, v_threshold=1.0)
    spikes, v = lif_hard(column([0.6, 0.6, 0.6, 0.6, 0.9]), None, p)
    assert spikes.flatten().tolist() == [0, 0, 1, 0, 1]
    assert v.item() == 0.0
    spikes, v = lif_hard(column([0.75, 0.25]), torch.tensor([0.5], dtype=torch.float64), p)
    assert spikes.flatten().tolist() == [0, 0]  # u: 0.25+0.75 = 1.0, exactly at the threshold | 0.5+0.25
    assert v.item() == 0.75


def test_soft_reset_trace_by_hand() -> None:
    # u: 1.5 fires, v=0.5 | 0.25+1.0=1.25 fires, v=0.25 | 0.125+0.5 | 0.3125
    p = LIFParameters(kind="soft", decay=0.5, v_threshold=1.0)
    spikes, v = lif_soft(column([1.5, 1.0, 0.5, 0.0]), None, p)
    assert spikes.flatten().tolist() == [1, 1, 0, 0]
    assert v.item() == 0.3125


def test_integrate_and_fire_keeps_everything() -> None:
    p = LIFParameters(kind="soft", decay=0.1, v_threshold=1.0)
    spikes, v = if_(column([0.5] * 6), None, p)
    assert spikes.flatten().tolist() == [0, 0, 1, 0, 1, 0]  # 0.5 1.0 1.5| 1.0 1.5| 1.0
    assert v.item() == 1.0


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_strict_or_not_differs_only_at_the_threshold(kind: str) -> None:
    x = column([0.5, 1.0, 0.25])
    strict = LIFParameters(kind=kind, decay=0.0, v_threshold=0.5)
    loose = LIFParameters(kind=kind, decay=0.0, v_threshold=0.5, strict=False)
    assert lif(x, None, strict)[0].flatten().tolist() == [0, 1, 0]
    assert lif(x, None, loose)[0].flatten().tolist() == [1, 1, 0]


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_carrying_the_potential_equals_one_long_call(kind: str) -> None:
    p = LIFParameters(kind=kind, decay=0.7, v_threshold=0.6)
    x = torch.randn(10, 3, 5, generator=torch.Generator().manual_seed(1))
    whole, v_end = lif(x, None, p)
    first, v = lif(x[:4], None, p)
    second, v = lif(x[4:], v, p)
    assert torch.equal(torch.cat([first, second]), whole) and torch.equal(v, v_end)


def test_one_current_repeated_equals_the_copied_current() -> None:
    p = LIFParameters(decay=0.7, v_threshold=0.6, gain=0.5)
    x = torch.rand(1, 3, 5, requires_grad=True)
    spikes, _ = lif(x, None, p, steps=6)
    assert torch.equal(spikes, lif(x.expand(6, 3, 5), None, p)[0])
    assert spikes.shape == (6, 3, 5)
    with pytest.raises(ConfigError, match="time steps"):
        lif(torch.rand(2, 3), None, p, steps=6)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_gradient_against_the_recursion_written_out(kind: str, detach: bool) -> None:
    p = LIFParameters(kind=kind, decay=0.6, v_threshold=0.8, surrogate=ATan(), detach_reset=detach, gain=0.9)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(7, 2, 4, generator=generator, dtype=torch.float64)
    spikes, _ = lif(x, None, p)
    spikes.backward(upstream)
    # forward once more by hand, then d_t = dL/du_t from the last step down
    us, os, v = [], [], torch.zeros(2, 4, dtype=torch.float64)
    for current in x.detach():
        u = 0.6 * v + 0.9 * current
        o = (u > 0.8).double()
        v = u * (1 - o) if kind == "hard" else u - 0.8 * o
        us.append(u)
        os.append(o)
    after, wanted = torch.zeros(2, 4, dtype=torch.float64), torch.zeros_like(upstream)  # after = dL/dv_t
    for t in reversed(range(7)):
        g = p.surrogate.grad(us[t] - 0.8) if kind == "hard" else p.surrogate.grad(us[t] / 0.8 - 1) / 0.8
        by_reset = 0 if detach else (-us[t] if kind == "hard" else -0.8)
        d = g * (upstream[t] + after * by_reset) + after * ((1 - os[t]) if kind == "hard" else 1)
        wanted[t], after = 0.9 * d, 0.6 * d
    torch.testing.assert_close(x.grad, wanted, rtol=1e-12, atol=1e-12)


def test_membranes_of_bf16_currents_are_float32() -> None:
    p = LIFParameters(kind="soft", decay=1.0, v_threshold=100.0)
    x = torch.full((300, 1), 0.0078125, dtype=torch.bfloat16)  # bf16 sums would stall below 2
    spikes, v = lif(x, None, p)
    assert spikes.dtype == torch.bfloat16 and v.dtype == torch.float32
    assert v.item() == pytest.approx(300 * 0.0078125)


def test_modules_keep_nothing() -> None:
    net = nn.Sequential(LIF(tau=2.0, surrogate="atan"), IF(v_threshold=0.5, v_reset=None))
    x = torch.randn(5, 3, 4)
    first = net(x)
    assert torch.equal(net(x), first)  # no hidden state
    assert not net.state_dict()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x), first)
    assert "surrogate='atan:alpha=2.0'" in repr(net)


def test_module_numbers() -> None:
    x = column([0.7, 0.7, 0.7])
    assert torch.equal(LIF(tau=2.0, decay_input=True, v_threshold=0.5)(x), LIF(decay=0.5)(x))
    for bad in (
        {"tau": 2.0, "decay": 0.5},
        {},
        {"tau": 0.5},
        {"decay": 0.5, "v_reset": 0.3},
        {"decay": 1.5},
        {"decay": 0.5, "v_threshold": 0.0},
    ):
        with pytest.raises(ConfigError):
            LIF(**bad)


def test_parameters_are_values() -> None:
    p = LIFParameters(decay=0.5, v_threshold=1.0, surrogate="rectangle:width=2")
    assert p == LIFParameters(decay=0.5, v_threshold=1.0, surrogate=Rectangle(2.0)) and hash(p) == hash(
        pickle.loads(pickle.dumps(p))
    )


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("norm", ["none", "tdbn", "bn-step"])
def test_neurons_begin_charged_in_kernels_as_in_the_equation(
    kind: Literal["hard", "soft"], repeat: bool, norm: str
) -> None:
    draw = torch.Generator().manual_seed(3)
    steps = 4
    x = torch.randn(3 if repeat else 3 * steps, 5, generator=draw).requires_grad_()
    p = LIFParameters(kind=kind, decay=0.9, v_threshold=0.7, gain=0.8, start=0.5)
    options: dict[str, Any] = {"steps": steps, "repeat": repeat}
    if norm != "none":
        state = {"running_mean": torch.full((5,), 0.1), "running_var": torch.full((5,), 0.6), "training": False}
        momentum = [0.1] * steps if norm == "bn-step" else 0.1
        options |= {"norm": norm, **state, "momentum": momentum}
    found = norm_lif(x, p, **options)
    upstream = torch.randn(found.shape, generator=draw)
    (slope,) = torch.autograd.grad(found, x, upstream)

    scale = 0.7 if norm == "tdbn" else 1.0
    y = x if norm == "none" else scale * (x - 0.1) / (0.6 + 1e-5) ** 0.5
    currents = y.expand(steps, *y.shape) if repeat else y.unflatten(0, (steps, -1))
    wanted = lif(currents, torch.full((3, 5), 0.35), replace(p, start=0.0))[0].flatten(0, 1)
    assert torch.equal(found, wanted)
    assert torch.allclose(slope, torch.autograd.grad(wanted, x, upstream)[0], atol=1e-5)
    options.pop("training", None)
    assert torch.allclose(norm_lif_gradient(x.detach(), upstream, p, **options), slope, atol=1e-5)
    assert not torch.equal(found, norm_lif(x, replace(p, start=0.0), **options))


def test_a_start_is_a_share_of_the_threshold() -> None:
    with pytest.raises(ConfigError, match="choose it in \\[0, 1\\]"):
        LIFParameters(decay=1.0, v_threshold=1.0, start=1.5)
