"""Norms of every sample's gradient: closed forms against a loop of batch-1 gradients and against torch.func."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from spikefed.networks import SpikingNetwork, build, per_sample, unknown_parameters, wrap
from spikefed.networks.persample import SampleLoop, SampleTaps
from spikefed.neurons import LIF, ATan, LIFParameters, use_kernels

SAMPLES, CLASSES = 5, 4
LIVELY = LIFParameters(kind="soft", decay=0.8, v_threshold=0.1, surrogate=ATan(2.0))
ROW = "4C3-AP2-6C3-12FC"
CASES: dict[str, dict[str, Any]] = {
    "row": {},
    "current readout": {"readout": "current"},
    "bntt": {"norm": "bntt", "neuron": LIVELY},
    "tdbn": {"norm": "tdbn"},
    "bn-step": {"norm": "bn-step"},
    "no norm, biases": {"norm": "none", "biases": True, "neuron": LIVELY},
    "max pool": {"pooling": "max"},
    "stride": {"pooling": "stride"},
    "stride, 5x5, odd sides": {"name": "4C5-AP2-6C3-AP2-9FC", "pooling": "stride", "input_shape": (2, 7, 9)},
    "one pixel": {"name": "small-1d", "input_shape": (6, 1, 1)},
    "series": {"name": "conv-1d", "input_shape": (2, 1, 12)},
    "series, residual, strides": {"name": "resnet-1d", "input_shape": (2, 1, 12), "pooling": "stride"},
    "wide maps, few inputs": {"name": "3C1-2FC"},
    "residual": {"name": "resnet-small"},
    "residual, tdbn": {"name": "resnet-small", "norm": "tdbn"},
    "backward edges": {"name": "snasnet-small"},
    "backward edges, bntt": {"name": "snasnet-small", "norm": "bntt", "neuron": LIVELY},
}


def lively(dtype: torch.dtype = torch.float64, **changes: Any) -> SpikingNetwork:
    """A network whose neurons fire and whose norms have seen images."""
    given = {"input_shape": (1, 8, 8), "classes": CLASSES, "steps": 3, "seed": 1} | changes
    biases = given.pop("biases", False)
    net = build(given.pop("name", ROW), **given).to(dtype)
    for layer in net.layers if biases else ():
        layer.bias = nn.Parameter(torch.linspace(-0.1, 0.1, len(layer.weight), dtype=dtype))
    with torch.no_grad():
        for step in range(20):
            net(images(net, 16, seed=step))
    return net.eval()


def images(net: SpikingNetwork, count: int = SAMPLES, seed: int = 9) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    dtype = next(net.parameters()).dtype
    return torch.rand(count, *net.input_shape, generator=draws, dtype=dtype)


def measured(net: nn.Module, x: Tensor, loop: bool) -> tuple[Tensor, list[dict[str, Tensor]]]:
    with per_sample(net, loop=loop) as way:
        assert isinstance(way, SampleLoop if loop else SampleTaps)
        outputs = way.outputs(x)
        assert not outputs.requires_grad
        found = []
        for t in range(1, len(outputs) + 1):
            upstream = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(t), dtype=outputs.dtype)
            upstream[t:] = 0
            found.append(way.squared_norms(upstream, t))
    return outputs, found


def apart(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]], tolerance: float) -> list[str]:
    """Parameters whose norms differ by more, are of another kind, that one side lacks, or that no gradient reaches."""
    names = {name for each in (*a, *b) for name in each}
    none = torch.zeros(0)
    found = []
    for name in sorted(names):
        pairs = [(mine.get(name, none), other.get(name, none)) for mine, other in zip(a, b, strict=True)]
        fits = all(m.shape == o.shape == (SAMPLES,) and m.dtype == torch.float64 for m, o in pairs)
        fits = fits and all(torch.allclose(m, o, rtol=tolerance, atol=tolerance * float(o.max())) for m, o in pairs)
        if not fits or not any(bool(o.max() > 0) for _, o in pairs):
            found.append(name)
    return found


@pytest.mark.parametrize("case", CASES)
def test_closed_forms_are_the_loop_of_single_samples(case: str) -> None:
    net = lively(**CASES[case])
    x = images(net)
    outputs, found = measured(net, x, loop=False)
    expected_outputs, expected = measured(net, x, loop=True)
    assert torch.allclose(outputs, expected_outputs)
    assert apart(found, expected, 1e-9) == []


@pytest.mark.parametrize("case", ["row", "bntt", "no norm, biases"])
def test_the_kernels_of_float32_agree_up_to_the_order_of_sums(case: str) -> None:
    net = lively(torch.float32, **CASES[case])
    x = images(net)
    outputs, found = measured(net, x, loop=False)
    assert (outputs != net(x)).float().mean() < 0.01
    _, expected = measured(net, x, loop=True)
    total, wanted = (sum(float(v.sum()) for v in rows[-1].values()) for rows in (found, expected))
    assert total == pytest.approx(wanted, rel=1e-5)
    assert apart(found, expected, 1e-4) == []


@pytest.mark.parametrize("case", ["row", "stride", "stride, 5x5, odd sides"])
def test_torch_func_is_an_oracle(case: str) -> None:
    net = lively(**CASES[case])
    x = images(net)
    outputs, found = measured(net, x, loop=False)
    upstream = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(len(outputs)), dtype=outputs.dtype)

    def scalar(parameters: dict[str, Tensor], image: Tensor, come: Tensor) -> Tensor:
        return (functional_call(net, parameters, image.unsqueeze(0))[:, 0] * come).sum()

    parameters = {name: p.detach() for name, p in net.named_parameters()}
    each = vmap(grad(scalar), in_dims=(None, 0, 1))(parameters, x, upstream)
    for name, norms in found[-1].items():
        assert torch.allclose(each[name].flatten(1).square().sum(1), norms, rtol=1e-9), name


def test_a_scale_of_zero_keeps_its_gradient() -> None:
    net = lively()
    with torch.no_grad():
        net.conv1.norm.weight[0] = 0.0  # type: ignore[union-attr, index]
        net.conv1.norm.bias[0] = 0.8  # type: ignore[union-attr, index]
    x = images(net)
    assert apart(measured(net, x, loop=False)[1], measured(net, x, loop=True)[1], 1e-9) == []


def test_a_frozen_parameter_is_left_out() -> None:
    net = lively()
    net.conv1.weight.requires_grad_(False)  # type: ignore[union-attr]
    _, found = measured(net, images(net), loop=False)
    assert "conv1.weight" not in found[0] and "conv2.weight" in found[0]


def test_the_network_is_as_it_was_afterwards() -> None:
    net = lively(torch.float32)
    net.train()
    net.precision = "bfloat16"
    with pytest.raises(ZeroDivisionError), per_sample(net):
        assert net.precision == "float32" and not net.training
        raise ZeroDivisionError
    assert net.training and net.precision == "bfloat16"
    assert all("tap" not in vars(module) for module in net.modules())


def test_other_networks_and_parameters_take_the_loop() -> None:
    module = nn.Sequential(nn.Flatten(2), nn.Linear(16, 6), LIF(decay=0.5, v_threshold=0.1), nn.Linear(6, CLASSES))
    wrapped = wrap(module, steps=3, classes=CLASSES, readout="current", mode="sequence")
    with per_sample(wrapped) as way:
        assert isinstance(way, SampleLoop)
        outputs = way.outputs(torch.rand(2, 1, 4, 4))
        assert all(float(norms.min()) >= 0 for norms in way.squared_norms(torch.ones_like(outputs), 3).values())
    net = lively()
    net.register_parameter("extra", nn.Parameter(torch.ones(1)))
    assert unknown_parameters(net) == ["extra"]
    tied = lively()
    tied.conv2.norm.bias = tied.conv2.norm.weight  # type: ignore[union-attr]
    assert unknown_parameters(tied) == ["conv2.norm.weight"]


def test_grouped_convolutions_of_a_module_of_ones_own_are_those_of_torch_func() -> None:
    """No layer of this package has groups; such a module takes the loop."""

    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
            self.neuron = LIF(decay=0.5, v_threshold=0.1)
            self.out = nn.Linear(8 * 9, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            steps, count = x.shape[:2]
            current = self.conv(x.flatten(0, 1)).view(steps, count, 8, 3, 3)
            return self.out(self.neuron(current).flatten(2))

    torch.manual_seed(0)
    net = wrap(Grouped(), steps=3, classes=CLASSES, readout="current", mode="sequence").double()
    x = torch.rand(SAMPLES, 4, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with per_sample(net) as way:
        assert isinstance(way, SampleLoop)
        outputs = way.outputs(x)
        upstream = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2), dtype=outputs.dtype)
        found = way.squared_norms(upstream, len(outputs))

    def scalar(parameters: dict[str, Tensor], image: Tensor, come: Tensor) -> Tensor:
        return (functional_call(net, parameters, image.unsqueeze(0))[:, 0] * come).sum()

    each = vmap(grad(scalar), in_dims=(None, 0, 1))({n: p.detach() for n, p in net.named_parameters()}, x, upstream)
    assert set(each) == set(found) and min(float(norms.max()) for norms in found.values()) > 0
    for name, norms in found.items():
        assert torch.allclose(each[name].flatten(1).square().sum(1), norms, rtol=1e-9), name


def test_the_eager_kernels_agree() -> None:
    net = lively(torch.float32)
    x = images(net)
    _, fused = measured(net, x, loop=False)
    with use_kernels("reference"):
        _, eager = measured(net, x, loop=False)
    assert apart(fused, eager, 1e-4) == []
