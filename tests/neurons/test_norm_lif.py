"""norm_lif's reference: statistics as torch's BatchNorm, the folding of time, the repeated current, the pool."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikefed.errors import ConfigError
from spikefed.neurons import ATan, LIFParameters, lif, norm_lif, use_kernels
from spikefed.neurons.kernels import kernels

STEPS, BATCH, CHANNELS = 4, 3, 5
P = LIFParameters(decay=0.5, v_threshold=0.6, surrogate=ATan())


@pytest.fixture(autouse=True)
def reference():
    with use_kernels("reference"):
        yield


def current(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.4


def affine(*shape: int) -> dict[str, torch.Tensor]:
    return {
        "weight": current(*shape, seed=7).abs() + 0.2,
        "bias": current(*shape, seed=8) * 0.3,
        "running_mean": current(*shape, seed=9),
        "running_var": current(*shape, seed=10).abs() + 0.1,
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rest", [(), (4, 6)], ids=["linear", "map"])
def test_bn_is_torchs_batchnorm_then_lif(rest, training) -> None:
    x = current(STEPS * BATCH, CHANNELS, *rest)
    state = affine(CHANNELS)
    layer = (nn.BatchNorm2d if rest else nn.BatchNorm1d)(CHANNELS, eps=1e-3, momentum=0.2).train(training)
    layer.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
    with torch.no_grad():
        wanted = lif(layer(x).reshape(STEPS, BATCH, CHANNELS, *rest), None, P)[0].flatten(0, 1)
    got = norm_lif(x, P, steps=STEPS, norm="bn", **state, training=training, momentum=0.2, eps=1e-3)
    assert torch.equal(got, wanted)
    torch.testing.assert_close(state["running_mean"], layer.running_mean)
    torch.testing.assert_close(state["running_var"], layer.running_var)


@pytest.mark.parametrize("training", [True, False])
def test_bntt_is_one_batchnorm_per_step(training) -> None:
    x = current(STEPS * BATCH, CHANNELS, 4, 4)
    state = affine(STEPS, CHANNELS)
    currents = []
    before = {k: v.clone() for k, v in state.items()}
    with torch.no_grad():
        for t, part in enumerate(x.reshape(STEPS, BATCH, CHANNELS, 4, 4)):
            layer = nn.BatchNorm2d(CHANNELS, eps=1e-4).train(training)
            layer.load_state_dict({**{k: v[t] for k, v in before.items()}, "num_batches_tracked": torch.tensor(0)})
            currents.append(layer(part))
            before["running_mean"][t], before["running_var"][t] = layer.running_mean, layer.running_var
    got = norm_lif(x, P, steps=STEPS, norm="bntt", **state, training=training, eps=1e-4)
    assert torch.equal(got, lif(torch.stack(currents), None, P)[0].flatten(0, 1))
    torch.testing.assert_close(state["running_mean"], before["running_mean"])
    torch.testing.assert_close(state["running_var"], before["running_var"])


def test_tdbn_normalises_to_alpha_theta() -> None:
    x = current(STEPS * BATCH, CHANNELS, 4, 4)
    scaled = norm_lif(x, P, steps=STEPS, norm="tdbn", alpha=0.7)
    plain = norm_lif(x, P, steps=STEPS, norm="bn", weight=torch.full((CHANNELS,), 0.7 * P.v_threshold))
    assert torch.equal(scaled, plain) and 0 < scaled.mean() < 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_repeated_current_equals_the_copied_one(norm, training) -> None:
    x = current(BATCH, CHANNELS, 4, 4).requires_grad_()
    shape = (STEPS, CHANNELS) if norm == "bntt" else (CHANNELS,)
    one, many = affine(*shape), affine(*shape)
    options = {"steps": STEPS, "norm": norm, "training": training, "pool": True}
    short = norm_lif(x, P, **options, **one, repeat=True)
    long = norm_lif(x.repeat(STEPS, 1, 1, 1), P, **options, **many)
    assert torch.equal(short, long) and short.shape == (STEPS * BATCH, CHANNELS, 2, 2)
    for key in one:
        torch.testing.assert_close(one[key], many[key])
    upstream = current(*short.shape, seed=3)
    got = torch.autograd.grad(short, x, upstream)[0]
    wanted = torch.autograd.grad(long, x, upstream)[0]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_pool_is_the_mean_of_four_and_drops_the_odd_edge() -> None:
    x = current(STEPS * BATCH, CHANNELS, 5, 4)
    spikes = norm_lif(x, P, steps=STEPS, norm="bn")
    pooled = norm_lif(x, P, steps=STEPS, norm="bn", pool=True)
    assert torch.equal(pooled, F.avg_pool2d(spikes, 2)) and pooled.shape[2:] == (2, 2)


def test_bf16_keeps_float32_statistics() -> None:
    x = current(STEPS * BATCH, CHANNELS, 4, 4).bfloat16()
    state = affine(CHANNELS)
    out = norm_lif(x, P, steps=STEPS, norm="bn", **state)
    twin = affine(CHANNELS)
    wanted = norm_lif(x.float(), P, steps=STEPS, norm="bn", **twin)
    assert out.dtype == torch.bfloat16 and torch.equal(out.float(), wanted)
    assert torch.equal(state["running_var"], twin["running_var"])


def test_refusals_say_what_to_do() -> None:
    x = current(6, CHANNELS, 4, 4)
    for told, arguments in [
        ("multiple of steps", {"steps": 4}),
        ("unknown norm", {"steps": 3, "norm": "layer"}),
        ("needs", {"steps": 3, "norm": "bntt", "weight": torch.ones(CHANNELS)}),
        ("only one of", {"steps": 3, "norm": "bn", "running_mean": torch.zeros(CHANNELS)}),
    ]:
        with pytest.raises(ConfigError, match=told):
            norm_lif(x, P, **arguments)
    with pytest.raises(ConfigError, match="pool"):
        norm_lif(x[:, :, 0, 0], P, steps=3, pool=True)
    with pytest.raises(ConfigError, match=r"\[T\*B"):
        norm_lif(x[0], P, steps=1)


def test_mode_switch(monkeypatch) -> None:
    assert kernels() == "reference"
    with use_kernels("auto"):
        assert kernels() == "auto"
    assert kernels() == "reference"
    with pytest.raises(ConfigError, match="auto"):
        use_kernels("fast")


@pytest.mark.parametrize("repeat", [True, False])
@pytest.mark.parametrize("norm", ["bn", "tdbn", "bntt", "bn-step"])
@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_an_empty_batch_moves_nothing(mode, norm, repeat) -> None:
    own = (3, 5) if norm == "bntt" else (5,)
    mean, var = torch.zeros(own), torch.ones(own)
    weight, bias = torch.ones(own, requires_grad=True), torch.zeros(own, requires_grad=True)
    options = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    with use_kernels(mode):
        p = LIFParameters(decay=0.5, v_threshold=1.0)
        out = norm_lif(torch.empty(0, 5, 4, 4), p, steps=3, norm=norm, repeat=repeat, pool=True, **options)
    assert out.shape == (0, 5, 2, 2)
    out.sum().backward()
    assert torch.equal(mean, torch.zeros(own)) and torch.equal(var, torch.ones(own))
    assert torch.equal(weight.grad, torch.zeros(own)) and torch.equal(bias.grad, torch.zeros(own))
