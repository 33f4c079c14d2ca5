"""Learnt thresholds: the gain on the currents is the LIF equation with a threshold a channel, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.interop.nets import ABOUT, lived_in, module_of
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.interop import flat, script
from spikefed.networks import (
    SpikingNetwork,
    ann_twin,
    build,
    describe,
    learn_thresholds,
    load_tensors,
    per_sample,
    roles,
    state_tensors,
)
from spikefed.networks.thresholds import Thresholds
from spikefed.neurons import ATan, LIFParameters, Rectangle, Triangle, norm_lif, use_kernels
from spikefed.neurons.functional import spike

STEPS, BATCH, CHANNELS = 4, 3, 5
SURROGATES = [Rectangle(1.0), Triangle(1.0, 0.8), ATan(2.0)]
SHAPE = (1, 8, 8)
KERNELS: tuple[Any, ...] = ("auto", "reference")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def defined(current: Tensor, theta: Tensor, p: LIFParameters) -> Tensor:
    """The LIF with a threshold a channel, ``[T, B, C, ...]``, written down step by step.

    The surrogate's width is in units of the threshold.
    """
    theta = theta.reshape(-1, *[1] * (current.dim() - 3))
    v = torch.zeros_like(current[0]) + p.start * theta
    out = []
    for x in current:
        u = p.decay * v + p.gain * x
        far = u / theta - 1
        o = spike(far * p.v_threshold if p.kind == "hard" else far, p)
        back = o.detach() if p.detach_reset else o
        v = u * (1 - back) if p.kind == "hard" else u - theta * back
        out.append(o)
    return torch.stack(out)


def neuron(kind: str, shape: Rectangle | Triangle | ATan) -> LIFParameters:
    reset: Any = kind
    return LIFParameters(kind=reset, decay=0.7, v_threshold=0.6, surrogate=shape, gain=0.9)


@pytest.mark.parametrize("path", KERNELS)
@pytest.mark.parametrize("shape", SURROGATES, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("norm", ["none", "bn", "bntt"])
def test_a_gain_on_the_affine_map_is_a_threshold_a_channel(norm: str, kind: str, shape, path: Any) -> None:
    p = neuron(kind, shape)
    thresholds = Thresholds(CHANNELS)
    with torch.no_grad():  # powers of two: scaling by them rounds nothing, so spikes are equal to the bit
        thresholds.log_threshold.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25]).log())
    x = drawn(STEPS * BATCH, CHANNELS, 4, 4)
    size = (STEPS, CHANNELS) if norm == "bntt" else (CHANNELS,)
    affine = {"weight": drawn(*size, seed=1).abs() + 0.5, "bias": drawn(*size, seed=2) * 0.2}
    grad = drawn(STEPS * BATCH, CHANNELS, 4, 4, seed=3)
    with use_kernels(path):
        told = {"norm": norm, **affine} if norm != "none" else {}
        currents, options = thresholds.applied(x, told)
        out = norm_lif(currents, p, steps=STEPS, **options)
        (got,) = torch.autograd.grad(out, thresholds.log_threshold, grad)
    free = thresholds.log_threshold.detach().requires_grad_()
    with use_kernels("reference"):
        wanted = defined(normed(x, norm, affine).unflatten(0, (STEPS, -1)), p.v_threshold * free.exp(), p)
    (by_definition,) = torch.autograd.grad(wanted.flatten(0, 1), free, grad)
    assert 0.05 < out.mean() < 0.95
    assert torch.equal(out, wanted.flatten(0, 1))
    torch.testing.assert_close(got, by_definition, rtol=1e-3, atol=1e-3)


def normed(x: Tensor, norm: str, affine: dict[str, Tensor]) -> Tensor:
    if norm == "none":
        return x
    over = (1, 3, 4) if norm == "bntt" else (0, 1, 3, 4)
    y = x.unflatten(0, (STEPS, -1))
    var, mean = torch.var_mean(y, dim=over, correction=0, keepdim=True)
    wide = {k: t.reshape(-1, 1, CHANNELS, 1, 1) for k, t in affine.items()}
    return ((y - mean) * torch.rsqrt(var + 1e-5) * wide["weight"] + wide["bias"]).flatten(0, 1)


@pytest.mark.parametrize("shape", SURROGATES, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_the_gradient_is_that_of_finite_differences_of_the_smoothed_step(kind: str, shape) -> None:
    p = neuron(kind, shape)
    s = torch.tensor([-0.4, 0.0, 0.3, 0.7, -0.1])
    thresholds = Thresholds(CHANNELS)
    with torch.no_grad():
        thresholds.log_threshold.copy_(s)
    x = drawn(64, CHANNELS)
    readout = drawn(64, CHANNELS, seed=1)
    currents, _ = thresholds.applied(x, {})
    (got,) = torch.autograd.grad(norm_lif(currents, p, steps=1), thresholds.log_threshold, readout)

    def smoothed(at: Tensor) -> Tensor:
        far = p.gain * x.double() / (p.v_threshold * at.exp()) - 1
        return (p.surrogate.smooth(far * p.v_threshold if kind == "hard" else far) * readout).sum(0)

    step = 1e-6
    finite = (smoothed(s.double() + step) - smoothed(s.double() - step)) / (2 * step)
    torch.testing.assert_close(got.double(), finite, rtol=1e-3, atol=1e-3)


def made(name: str, sharing: str | None = None, **options) -> SpikingNetwork:
    net = build(name, input_shape=SHAPE, classes=10, steps=3, **options)
    return net if sharing is None else learn_thresholds(net, sharing)


def grad_of(net: SpikingNetwork, name: str) -> Tensor:
    grad = net.get_parameter(name).grad
    assert grad is not None
    return grad


EAGER = LIFParameters(decay=0.5, v_threshold=0.1)
NETS: list[tuple[str, dict[str, Any]]] = [
    ("small", {}),
    ("small", {"norm": "none", "readout": "current", "neuron": EAGER}),
    ("small", {"norm": "bntt", "readout": "current"}),
    ("8C3-AP2-16FC", {"norm": "bn-step"}),
    ("vgg5", {"norm": "bn"}),
    ("resnet-small", {"norm": "tdbn"}),
    ("cell:0303-0030-2002-0200:width=4", {}),
]


@pytest.mark.parametrize("sharing", ["layer", "channel"])
@pytest.mark.parametrize("name, options", NETS, ids=[f"{n}-{o.get('norm', '')}" for n, o in NETS])
def test_untrained_thresholds_change_nothing_and_trained_ones_are_the_same_by_every_way(
    name: str, options: dict[str, Any], sharing: str
) -> None:
    plain = made(name, **options)
    net = made(name, sharing, **options)
    x = drawn(4, *SHAPE).abs()
    own = state_tensors(plain)
    assert list(own) == [key for key in state_tensors(net) if "thresholds" not in key]
    added = {key: role for key, role in roles(net).items() if key not in own}
    assert added and set(added.values()) == {"neuron"}
    before = net(x, torch.Generator().manual_seed(0))
    assert torch.equal(plain(x, torch.Generator().manual_seed(0)), before)
    with torch.no_grad():
        for i, key in enumerate(added):
            tensor = net.get_parameter(key)
            tensor.copy_(drawn(*tensor.shape, seed=i).clamp(-1, 1))
    outs = {}
    grads = {}
    for path in KERNELS:
        twin = made(name, sharing, **options)
        load_tensors(twin, state_tensors(net))
        with use_kernels(path):
            outs[path] = twin(x, torch.Generator().manual_seed(0))
            (outs[path] * drawn(*outs[path].shape, seed=5)).sum().backward()
        grads[path] = torch.cat([grad_of(twin, key).flatten() for key in added])
    assert not torch.equal(outs["auto"], before)
    other = (outs["auto"] - outs["reference"]).abs() > 1e-4
    assert other.float().mean() < 0.1  # a spike that rounding moves moves others in the layers behind
    if not other.any() and "cell" not in name:  # whose untrained gradients are of the order of 1e10
        torch.testing.assert_close(grads["auto"], grads["reference"], rtol=1e-2, atol=1e-2)


def taught(net: SpikingNetwork) -> SpikingNetwork:
    with torch.no_grad():
        for i, module in enumerate(m for m in net.modules() if isinstance(m, Thresholds)):
            module.log_threshold.copy_(drawn(*module.log_threshold.shape, seed=i).clamp(-1, 0.3))
    return net


@pytest.mark.parametrize("name, options", [NETS[0], NETS[1], ("resnet-small", {}), ("small", {"norm": "bntt"})])
def test_an_export_has_the_thresholds_in_it(name: str, options: dict[str, Any]) -> None:
    net = lived_in(taught(made(name, "channel", **options)))
    x = drawn(5, *SHAPE).abs()
    with torch.no_grad():
        ours = net(x, generator=torch.Generator().manual_seed(1))
        theirs = module_of(script(flat(net), ABOUT)).load()(x, torch.Generator().manual_seed(1))
    assert ours.any() and (ours - theirs).abs().max() < 1e-5


def test_gradients_of_single_samples_know_frozen_thresholds() -> None:
    net = taught(made("small", "layer"))
    for key, parameter in net.named_parameters():
        parameter.requires_grad_("thresholds" not in key)
    x = drawn(3, *SHAPE).abs()
    with per_sample(net) as ways:
        out = ways.outputs(x)
    assert torch.equal(out, net.eval()(x).detach())


def test_a_description_says_how_many_a_layer_learns() -> None:
    plain, net = (describe(made("small", sharing)) for sharing in (None, "channel"))
    assert "LIF hard, thresholds: 16" in net.rows[0].kind and "thresholds" not in str(plain)
    assert net.state_bytes - plain.state_bytes == 4 * (16 + 32 + 64 + 10)


def test_frozen_thresholds_have_the_role_frozen() -> None:
    net = taught(made("small", "channel"))
    first = next(m for m in net.modules() if isinstance(m, Thresholds))
    torch.testing.assert_close(first.values(2.0) * first.gain(), torch.full_like(first.gain(), 2.0))
    first.log_threshold.requires_grad_(False)
    assert "frozen" in roles(net).values()


def test_what_has_no_threshold_to_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match="'neuron' is not known; use 'layer' or 'channel'"):
        made("small", "neuron")
    with pytest.raises(ConfigError, match="has none"):
        learn_thresholds(ann_twin("small", input_shape=SHAPE, classes=10), "layer")
