"""Weights in cells: rounding, slices, noise, drift, faults, each against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from spikefed.hardware.crossbar import Programmed, load_profile
from spikefed.hardware.crossbar.cells import as_cells
from spikefed.hardware.crossbar.circuit import effective
from spikefed.hardware.crossbar.programming import read_deviation

IDEAL = load_profile("ideal")


def weights(rows: int = 40, columns: int = 30) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


def profile(**changes):
    return IDEAL.changed({key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize("signs", ["pairs", "offset"])
@pytest.mark.parametrize("on_off", [None, 10.0])
def test_exact_cells_hold_the_weights(signs, on_off) -> None:
    cells = as_cells(weights(), profile(weights__signs=signs, cell__on_off=on_off))
    assert torch.allclose(cells.weights(cells.targets), weights(), atol=2e-6)


@pytest.mark.parametrize("signs", ["pairs", "offset"])
@pytest.mark.parametrize(("bits", "cell_bits"), [(2, 1), (4, 1), (8, 3), (8, 4), (8, 8), (8, None), (12, 5)])
def test_slices_add_up_to_the_rounded_weight(signs, bits, cell_bits) -> None:
    given = weights()
    chosen = profile(weights__bits=bits, cell__bits=cell_bits, weights__signs=signs, cell__on_off=20.0)
    cells = as_cells(given, chosen)
    levels = 2 ** (bits - 1) - 1
    step = given.abs().max() / levels
    assert torch.allclose(cells.weights(cells.targets), (given / step).round() * step, atol=2e-5)
    assert float(cells.targets.min()) >= 0.05 - 1e-6 and float(cells.targets.max()) <= 1 + 1e-6
    if cell_bits is not None:
        assert len(cells.targets.unique()) <= 2**cell_bits


def test_all_zero_weights_are_held() -> None:
    found = Programmed(torch.zeros(20, 20), profile(weights__bits=8, cell__bits=4, cell__on_off=10.0), 0, 0).read()
    assert not found.weights.any()


def test_read_noise_is_multiplicative_and_frozen_for_a_chip() -> None:
    chosen = profile(noise__read=0.1)
    given = weights(300, 300)
    one, again, other = (Programmed(given, chosen, seed, 0).read().weights for seed in (5, 5, 6))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert float(((one - given) / given).std()) == pytest.approx(0.1, rel=0.02)


def test_layers_of_a_chip_err_apart() -> None:
    chosen = profile(noise__read=0.1)
    assert not torch.equal(*(Programmed(weights(), chosen, 5, layer).read().weights for layer in (0, 1)))


def test_fresh_read_noise_has_the_variance_of_the_frozen_one() -> None:
    given, sigma = weights(), 0.2
    chosen = profile(noise__read=sigma, noise__read_when="each", cell__on_off=10.0)
    found = Programmed(given, chosen, 0, 0).read()
    assert torch.allclose(found.weights, given, atol=1e-5)
    frozen = chosen.changed({"noise.read_when": "frozen"})
    drawn = torch.stack([Programmed(given, frozen, seed, 0).read().weights for seed in range(400)])
    assert found.variance is not None
    assert float((drawn.var(dim=0) / found.variance).mean()) == pytest.approx(1.0, abs=0.02)


def test_drift_is_a_power_law() -> None:
    given = weights()
    chip = Programmed(given, profile(drift__nu=[0.05], drift__t0_s=20.0), 0, 0)
    assert torch.allclose(chip.read(980.0).weights, given * 50.0**-0.05, atol=1e-5)
    assert torch.allclose(chip.read(0.0).weights, given, atol=1e-5)


def test_drift_exponents_follow_the_conductance() -> None:
    chip = Programmed(weights(), load_profile("pcm").changed({"drift.nu_deviation": [], "noise.programming": []}), 0, 0)
    x = chip.cells.targets
    nu = (-0.0155 * x.log() + 0.0244).clamp(0.049, 0.1)
    aged = chip._aged(3600.0)
    assert torch.allclose(aged, x * torch.exp(-nu * math.log(3620 / 20)), rtol=1e-5)


def test_programming_noise_follows_its_polynomial_and_never_goes_below_zero() -> None:
    given = torch.full((200, 200), 0.5)
    given[0, 0] = 1.0
    chip = Programmed(given, profile(noise__programming=[0.01, 0.1, -0.05]), 0, 0)
    held = chip.conductances[0, 0].flatten()[1:]
    assert float(held.std()) == pytest.approx(0.01 + 0.05 - 0.0125, rel=0.03)
    assert float(chip.conductances.min()) >= 0


def test_stuck_cells() -> None:
    chip = Programmed(
        weights(200, 200), profile(faults__stuck_low=0.1, faults__stuck_high=0.05, cell__on_off=10.0), 0, 0
    )
    held = chip.conductances
    assert float((held == 1.0).float().mean()) == pytest.approx(0.05, abs=0.01)
    moved = (held != chip.cells.targets) & (held == chip.profile.g_min)
    assert float(moved.float().mean()) > 0.03


def test_flicker_noise_by_hand() -> None:
    found = read_deviation(load_profile("pcm").noise, torch.tensor([1.0, 0.1]), 20.0)
    grown = math.sqrt(math.log((20 + 250e-9) / 500e-9))
    assert found is not None
    assert found.tolist() == pytest.approx([0.0088 * grown, 0.0088 / 0.1**0.65 * grown], rel=1e-5)


def test_wires_act_in_every_tile_apart() -> None:
    chosen = profile(tile=16, cell__g_max_us=40.0, wires__row_ohm=5.0, wires__driver_ohm=1000.0)
    chip = Programmed(weights(40, 20), chosen, 0, 0)
    found = chip.cells.by_slice(chip.conductances)
    read = chip.read()
    block = chip.conductances[0, 0, 16:32, 16:20].double() * 40e-6
    solved = effective(block, chosen.wires.wires) / 40e-6
    lost = chip.conductances[1, 0, 16:32, 16:20].double() * 40e-6
    expected = (solved - effective(lost, chosen.wires.wires) / 40e-6) * chip.cells.factors[0]
    assert torch.allclose(read.slices[0, 16:32, 16:20].double(), expected, rtol=1e-4, atol=1e-6)
    assert float(read.slices.abs().sum()) < float(found.abs().sum())
