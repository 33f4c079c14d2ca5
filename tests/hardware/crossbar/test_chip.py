"""A network on a chip: what it computes, that it leaves the network alone, gradients, converters, compensation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar import OnChip, load_profile, pc2
from spikefed.networks import ann_twin, build, wrap

IDEAL = load_profile("ideal")
SHAPE = (1, 8, 8)


def net(**changes):
    torch.manual_seed(0)
    made = build("6C3-AP2-12C3-16FC", **({"input_shape": SHAPE, "classes": 4, "steps": 3, "norm": "bn"} | changes))
    with torch.no_grad():
        for _ in range(20):
            made(images())
    return made.eval()


def images(count: int = 16) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(2))


def own():
    module = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    return wrap(module, steps=2, classes=4, input_shape=SHAPE, readout="current").eval()


def nets():
    yield "spiking", net(readout="current")
    yield "ann", ann_twin("6C3-AP2-12C3-16FC", input_shape=SHAPE, classes=4).eval()
    yield "own", own()


def test_an_ideal_chip_computes_the_network() -> None:
    for name, made in nets():
        with torch.no_grad():
            plain = made(images())
            with OnChip(made, IDEAL).running():
                assert torch.allclose(made(images()), plain, atol=1e-4), name


def test_outside_nothing_of_the_network_has_changed() -> None:
    made = net()
    before = {k: v.clone() for k, v in made.state_dict().items()}
    plain = made(images())
    chip = OnChip(made, load_profile("rram"), seed=1)
    with chip.running(torch.Generator().manual_seed(0)):
        assert list(made.state_dict()) == list(before)
        made(images())
    assert torch.equal(made(images()), plain)
    assert all(torch.equal(v, before[k]) for k, v in made.state_dict().items())


def test_what_the_chip_computes_is_its_weight_tensor() -> None:
    made = net(readout="current")
    chip = OnChip(made, load_profile("pcm"), seed=1)
    chip.age(3600.0)
    with torch.no_grad():
        with chip.running():
            found = made(images())
        for name, product in chip.products.items():
            made.get_submodule(name).weight.copy_(product.weight)
        assert torch.allclose(made(images()), found, atol=1e-5)


def test_the_same_seed_is_the_same_chip() -> None:
    made, profile = net(), load_profile("pcm")
    one, again, other = (OnChip(made, profile, seed).products["conv2"].weight for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_only_convolutions_where_the_profile_says_so() -> None:
    assert list(OnChip(net(), load_profile("rram")).products) == ["conv1", "conv2"]
    assert list(OnChip(net(), load_profile("pcm")).products) == ["conv1", "conv2", "fc1", "fc2"]
    with pytest.raises(ConfigError, match="finds no convolution to put on a crossbar"):
        OnChip(nn.Linear(3, 3), load_profile("rram"))


@pytest.mark.parametrize("signs", ["pairs", "offset"])
def test_fine_converters_are_no_converters(signs) -> None:
    for name, made in nets():
        given = {"weights.signs": signs, "weights.bits": 8, "cell.bits": 4, "cell.on_off": 10.0, "tile": 16}
        exact, fine = (
            IDEAL.changed(given),
            IDEAL.changed(given | {"converters.adc_bits": 16, "converters.dac_bits": 16}),
        )
        chips = [OnChip(made, profile, seed=1) for profile in (exact, fine)]
        chips[1].calibrate([images()])
        with torch.no_grad():
            for layer, product in chips[1].products.items():
                shape = images().shape if product.port.number == 0 else (5, *_entering(made, layer))
                x = torch.rand(shape, generator=torch.Generator().manual_seed(3))
                product._largest_in = 1.0
                product._largest_out = None
                product.recording = True
                product(x)
                product.recording = False
                assert torch.allclose(product(x), chips[0].products[layer](x), atol=5e-3), (name, layer)


def _entering(made: nn.Module, layer: str) -> tuple[int, ...]:
    module = made.get_submodule(layer)
    return module.plan.in_shape if hasattr(module, "plan") else (module.in_features,)


def test_a_coarse_adc_rounds_to_its_levels() -> None:
    layer = nn.Linear(8, 6, bias=False)
    chip = OnChip(layer, IDEAL.changed({"converters.adc_bits": 3}))
    x = torch.rand(40, 8)
    chip.calibrate([x], run=layer)
    product = chip.products[""]
    with torch.no_grad():
        values = product(x).unique()
    assert len(values) <= 8


def test_converters_ask_for_calibration() -> None:
    chip = OnChip(net(), IDEAL.changed({"converters.adc_bits": 6}))
    with chip.running(), pytest.raises(ConfigError, match="layer conv1 has converters .* calibrate the chip"):
        chip.net(images())


@pytest.mark.parametrize("key", ["dac_bits", "adc_bits"])
def test_a_layer_that_is_silent_in_calibration_stays_silent(key) -> None:
    layer = nn.Linear(8, 6, bias=False)
    chip = OnChip(layer, IDEAL.changed({f"converters.{key}": 6}))
    chip.calibrate([torch.zeros(4, 8)], run=layer)
    with torch.no_grad():
        assert chip.products[""](torch.rand(4, 8)).abs().max() < 1e-20


def test_fresh_noise_differs_from_read_to_read_and_repeats_with_its_generator() -> None:
    made = net(readout="current")
    chip = OnChip(made, IDEAL.changed({"noise.read": 0.2, "noise.read_when": "each"}))
    outs = []
    for seed in (0, 0, 1):
        with torch.no_grad(), chip.running(torch.Generator().manual_seed(seed)):
            outs.append(made(images()))
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])


def test_fresh_noise_has_the_moments_of_cells_drawn_one_by_one() -> None:
    layer, sigma = nn.Linear(12, 5, bias=False), 0.3
    x = torch.rand(1, 12)
    chip = OnChip(layer, IDEAL.changed({"noise.read": sigma, "noise.read_when": "each"}))
    with torch.no_grad(), chip.running(torch.Generator().manual_seed(0)):
        drawn = layer(x.expand(20000, 12))
    exact = (x.square() @ layer.weight.square().T).sqrt() * sigma
    assert torch.allclose(drawn.std(dim=0), exact[0], rtol=0.03)
    assert torch.allclose(drawn.mean(dim=0), (x @ layer.weight.T)[0], atol=0.02)


def test_gradients_go_straight_through() -> None:
    layer = nn.Linear(6, 4)
    chip = OnChip(layer, IDEAL.changed({"noise.read": 0.3, "converters.adc_bits": 8, "converters.dac_bits": 8}))
    x = torch.rand(7, 6, requires_grad=True)
    chip.calibrate([x], run=layer)
    with chip.running():
        layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None  # with an ADC weights do not learn through the chip
    chip = OnChip(layer, IDEAL.changed({"noise.read": 0.3}))
    with chip.running():
        layer(x).sum().backward()
    assert torch.allclose(layer.weight.grad, x.detach().sum(dim=0).expand(4, 6))


def test_global_drift_compensation_undoes_what_is_common() -> None:
    layer = nn.Linear(40, 30, bias=False)
    chip = OnChip(layer, IDEAL.changed({"drift.nu": [0.1], "tile": 16}))
    chip.age(1e6)
    assert not torch.allclose(chip.products[""].weight, layer.weight, rtol=0.1)
    chip.age(1e6, compensate=True)
    assert torch.allclose(chip.products[""].weight, layer.weight, rtol=1e-4)
    with pytest.raises(ConfigError, match="a chip cannot be -1 seconds old"):
        chip.age(-1.0)


def test_pc2_of_a_scale_and_of_noise() -> None:
    w = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    assert pc2(w, 0.37 * w) < 1e-9
    assert pc2(torch.ones(4), torch.ones(4)) == 0.0
    found = [pc2(w, w * (1 + sigma * torch.randn(w.shape))) for sigma in (0.05, 0.1, 0.15)]
    assert found == sorted(found)
    assert found[1] == pytest.approx(0.1**2 / 4, rel=0.1)


def test_crossbars_are_counted() -> None:
    layer = nn.Linear(40, 30)
    assert OnChip(layer, IDEAL.changed({"tile": 16})).crossbars() == {"": 2 * 3 * 2}
    sliced = IDEAL.changed({"tile": 16, "weights.bits": 8, "cell.bits": 4, "weights.signs": "offset"})
    assert OnChip(layer, sliced).crossbars() == {"": 2 * math.ceil(40 / 16) * 2}
