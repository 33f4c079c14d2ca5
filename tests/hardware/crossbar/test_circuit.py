"""Effective matrices against a nodal solve written out node by node, and the laws of the circuit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar import Wires, effective

PAPER = Wires(row_ohm=5.0, column_ohm=10.0, driver_ohm=1000.0, sense_ohm=1000.0)


def cells(rows: int, columns: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(rows, columns, generator=draws, dtype=torch.float64) * 1e-4


def nodal(conductances: Tensor, wires: Wires) -> Tensor:
    """The whole nodal matrix, dense; needs resistances above 0 along the wires."""
    rows, columns = conductances.shape
    count = rows * columns
    system = torch.zeros(2 * count, 2 * count, dtype=torch.float64)
    driven = torch.zeros(2 * count, rows, dtype=torch.float64)

    def join(a: int, b: int, siemens: float) -> None:
        for one, other in ((a, b), (b, a)):
            system[one, one] += siemens
            system[one, other] -= siemens

    source, sense = 1 / (wires.driver_ohm + wires.row_ohm), 1 / (wires.sense_ohm + wires.column_ohm)
    for i in range(rows):
        system[i * columns, i * columns] += source
        driven[i * columns, i] = source
        for j in range(columns):
            word, bit = i * columns + j, count + i * columns + j
            join(word, bit, float(conductances[i, j]))
            if j:
                join(word - 1, word, 1 / wires.row_ohm)
            if i:
                join(bit - columns, bit, 1 / wires.column_ohm)
    ends = range(2 * count - columns, 2 * count)
    for end in ends:
        system[end, end] += sense
    return (torch.linalg.solve(system, driven)[list(ends)] * sense).T


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (9, 7), (7, 12), (20, 20)])
@pytest.mark.parametrize("wires", [PAPER, Wires(5, 5, 0, 0), Wires(300, 2, 1e4, 10), Wires(1e-6, 1e-6, 0, 0)])
def test_equals_a_dense_nodal_solve(shape, wires) -> None:
    given = cells(*shape)
    expected = nodal(given, wires)
    assert torch.allclose(effective(given, wires), expected, rtol=1e-9, atol=0)


def test_an_open_cell_and_a_dead_row_are_solved_too() -> None:
    given = cells(6, 5)
    given[2] = 0.0
    given[4, 3] = 0.0
    found = effective(given, PAPER)
    assert torch.allclose(found, nodal(given, PAPER), rtol=1e-9, atol=1e-18)
    assert not found[2].any()


def test_without_resistance_it_is_the_cells_themselves() -> None:
    given = cells(8, 8)
    assert torch.equal(effective(given, Wires()), given)


def test_the_ideal_limit() -> None:
    given = cells(12, 10)
    gaps = [float((effective(given, Wires(r, r, r, r)) - given).abs().max()) for r in (1.0, 1e-2, 1e-4)]
    assert gaps[0] > 50 * gaps[1] > 2500 * gaps[2]
    assert torch.allclose(effective(given, Wires(1e-9, 1e-9, 1e-9, 1e-9)), given, rtol=1e-9)


@pytest.mark.parametrize(
    "wires", [Wires(driver_ohm=1000), Wires(sense_ohm=1000), Wires(row_ohm=5), Wires(column_ohm=5)]
)
def test_one_kind_of_resistance_alone(wires) -> None:
    given, tiny = cells(7, 5), 1e-7
    close = Wires(*(value or tiny for value in vars(wires).values()))
    assert torch.allclose(effective(given, wires), nodal(given, close), rtol=1e-7)


def test_resistance_at_the_ends_alone_does_not_know_the_order_of_rows_or_columns() -> None:
    wires = Wires(driver_ohm=1000.0, sense_ohm=500.0)
    given = cells(9, 6)
    rows, columns = torch.randperm(9), torch.randperm(6)
    found = effective(given, wires)
    assert torch.allclose(effective(given[rows][:, columns], wires), found[rows][:, columns], rtol=1e-10)


def test_reciprocity_turns_the_tile_round() -> None:
    given = cells(9, 6)
    turned = effective(given.T.flip(0, 1), PAPER.turned).flip(0, 1).T
    assert torch.allclose(effective(given, PAPER), turned, rtol=1e-10)


def test_tiles_are_solved_one_by_one() -> None:
    given = torch.stack([cells(6, 5, seed) for seed in range(6)]).view(2, 3, 6, 5)
    found = effective(given, PAPER)
    assert found.shape == given.shape
    assert torch.equal(found[1, 2], effective(given[1, 2], PAPER))


def test_resistances_beyond_all_measure_are_refused() -> None:
    cells = torch.rand(40, 30, generator=torch.Generator().manual_seed(0)) * 1e3
    with pytest.raises(ConfigError, match=r"wires of 1e\+12 ohm pass nothing that can be told beside cells of"):
        effective(cells, Wires(row_ohm=1e12, column_ohm=1e12))


def test_currents_only_get_lost() -> None:
    given = cells(30, 30)
    found = effective(given, PAPER)
    assert (found > 0).all() and (found.sum(dim=0) < given.sum(dim=0)).all()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_resistance_that_is_none(value) -> None:
    with pytest.raises(ConfigError, match="wires.sense_ohm = .* is no resistance; give 0 or more ohm"):
        Wires(sense_ohm=value)
