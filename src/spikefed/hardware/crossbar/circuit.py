"""What the wires of a crossbar do to its cells: one nodal solve a tile, cached as an effective matrix.

A tile of R rows and C columns: the voltage of row i drives a resistance, then a word line with one segment of wire
before every cell; a cell joins it to a bit line with one segment behind every cell; at its end a resistance senses the
current into ground. Everything is linear, so the currents are ``I = V @ E`` with an effective matrix ``E [R, C]``: one
solve with unit excitations holds for all inputs.

The circuit is two families of ladders, and that is how it is solved. A word line is a ladder of its own: eliminating it
leaves a C x C admittance S_i between the bit lines, in closed form (`word_lines`). Down the bit lines these rows follow
one another, so a sweep carries the admittance Y [C, C] that is seen from below, and the short-circuit currents N [R, C]
that the rows above bring:

    the next word line   Y <- Y + S_i,          N_i <- S_i 1
    a segment of wire    Y <- (1 + r Y)^-1 Y,   N <- N (1 + r Y)^-1
    the sensing          the same with its resistance; then E = N

No bit line's resistance is divided by, so wires of 0 ohm are no special case. Cells are linear resistors: no selector
or transistor, no dependence on voltage, no capacitance, no sneak path that a linear solve does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.errors import ConfigError


@dataclass(frozen=True)
class Wires:
    """Resistances of a tile, in ohm.

    Attributes:
        row_ohm: a segment of a word line; one lies before every cell.
        column_ohm: a segment of a bit line; one lies behind every cell.
        driver_ohm: of a row's voltage source.
        sense_ohm: between the end of a bit line and ground.

    Raises:
        ConfigError: a resistance that is negative or no number.
    """

    row_ohm: float = 0.0
    column_ohm: float = 0.0
    driver_ohm: float = 0.0
    sense_ohm: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isfinite(value) or value < 0:
                raise ConfigError(f"wires.{name} = {value} is no resistance; give 0 or more ohm")

    @property
    def ideal(self) -> bool:
        """Whether nothing is lost in them."""
        return not any(vars(self).values())

    @property
    def turned(self) -> Wires:
        """The same tile seen from its columns: by reciprocity its effective matrix is the transposed one."""
        return Wires(self.column_ohm, self.row_ohm, self.sense_ohm, self.driver_ohm)


def effective(cells: Float[Tensor, "*n R C"], wires: Wires) -> Float[Tensor, "*n R C"]:
    """Effective conductances: ``V @ effective(cells, wires)`` are the currents that the columns' ends sense.

    The work is that of ``max(R, C)`` factorisations of the smaller side.

    Args:
        cells: conductances in siemens, 0 or more; leading axes are tiles.
        wires: of every tile.

    Returns:
        siemens, in float64.

    Raises:
        ConfigError: resistances so far beyond the cells' own that numbers of 64 bits cannot tell what passes.
    """
    found = cells.double()
    if wires.ideal or not found.numel():
        return found
    rows, columns = found.shape[-2:]
    if rows < columns:  # the sweep runs along the longer side; drivers and sensing change places, and both ends
        return effective(found.mT.flip(-1, -2), wires.turned).flip(-1, -2).mT
    tiles = found.reshape(-1, rows, columns)
    return torch.stack([_swept(tile, wires) for tile in tiles]).reshape(found.shape)


def word_lines(cells: Float[Tensor, "n C"], wires: Wires) -> tuple[Float[Tensor, "n C"], Float[Tensor, "n C"]]:
    """What word lines with their sources at 0 V bring between the bit lines: ``S_jk = D_j [j = k] - u_j w_k``, j <= k.

    D are the cells. With H_jk the voltage of the word line's node j where a unit current enters its node k,
    ``S = D - D H D``, and for j <= k ``H_jk = H_kk t_j ... t_(k-1)`` with t_l the voltage divider from node l + 1 to l.

    Args:
        cells: conductances of each word line, float64.
        wires: ``row_ohm`` and ``driver_ohm`` are read; one of them is above 0.

    Returns:
        u and w. Their products are finite up to dividers of 1e-300 along a word line, a loss that no tile survives.
    """
    left = torch.empty_like(cells)  # conductance at a node towards the source, its own cell included
    right = torch.zeros_like(cells)  # towards the open end
    last = cells.shape[1] - 1
    left[:, 0] = 1 / (wires.driver_ohm + wires.row_ohm) + cells[:, 0]
    for k in range(1, last + 1):
        left[:, k] = cells[:, k] + left[:, k - 1] / (1 + wires.row_ohm * left[:, k - 1])
        end = right[:, last - k + 1] + cells[:, last - k + 1]
        right[:, last - k] = end / (1 + wires.row_ohm * end)
    passed = (1 / (1 + wires.row_ohm * left)).cumprod(dim=1).roll(1, dims=1)
    passed[:, 0] = 1.0  # t_0 ... t_(k-1)
    passed.clamp_(min=1e-300)
    return cells / passed, cells * passed / (left + right)


def _swept(cells: Float[Tensor, "R C"], wires: Wires) -> Float[Tensor, "R C"]:
    rows, columns = cells.shape
    one = torch.eye(columns, dtype=cells.dtype)
    seen = torch.zeros_like(one)
    currents = torch.zeros_like(cells)
    resistive = wires.row_ohm > 0 or wires.driver_ohm > 0
    u, w = word_lines(cells, wires) if resistive else (cells, cells)
    for row in range(rows):
        own = torch.diag(cells[row])
        if resistive:
            drop = torch.outer(u[row], w[row]).triu_()
            own = own - drop - drop.triu(1).mT
        seen += own
        currents[row] = own.sum(dim=1)
        ohm = wires.column_ohm + (wires.sense_ohm if row == rows - 1 else 0.0)
        if ohm:
            factor, failed = torch.linalg.cholesky_ex(one + ohm * seen)
            if failed:
                raise ConfigError(
                    f"wires of {max(vars(wires).values()):g} ohm pass nothing that can be told beside cells of "
                    f"{float(cells.max()):g} siemens; give smaller resistances or conductances"
                )
            passed = torch.cholesky_inverse(factor)
            seen = passed @ seen
            currents[: row + 1] = currents[: row + 1] @ passed
    return currents
