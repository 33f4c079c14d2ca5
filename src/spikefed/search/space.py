"""The cells that a search may choose from, and what it may not: limits of a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch

from spikefed.errors import ConfigError
from spikefed.networks.cells import NODES, NONE, Cell, all_cells, cell_ops, draw_cell

PAIRS = tuple(combinations(range(NODES), 2))
"""Of nodes, ``(i, j)`` with i < j."""
STRAIGHT = (0, NODES - 1)
"""The pair that every cell of the space joins, forward."""


@dataclass(frozen=True)
class Space:
    """Cells by what may stand between two nodes.

    Attributes:
        backward: whether a pair may be joined backward in time instead.
        codes: of the operations that a search uses, none included; SNASNet's are ``01234``, LightSNN's ``013``.

    Raises:
        ConfigError: a code that stands for no operation, or none but ``0``.
    """

    backward: bool = False
    codes: str = "01234"

    def __post_init__(self) -> None:
        known = {NONE, *(op.code for op in cell_ops())}
        strange = [code for code in self.codes if code not in known]
        if strange:
            told = ", ".join(sorted(known))
            raise ConfigError(f"'{strange[0]}' in search.ops = '{self.codes}' stands for no operation; use {told}")
        if not set(self.codes) - {NONE}:
            raise ConfigError(f"search.ops = '{self.codes}' has no operation; add one, such as 3 (a convolution 3x3)")

    def choices(self, pair: tuple[int, int]) -> tuple[str, ...]:
        """What may stand between two nodes: a code, behind ``<`` if it goes backward in time."""
        some = tuple(code for code in dict.fromkeys(self.codes) if code != NONE)
        if pair == STRAIGHT:
            return some
        none = (NONE,) if NONE in self.codes else ()
        return (*none, *some, *(f"<{code}" for code in some)) if self.backward else (*none, *some)

    def cell(self, chosen: dict[tuple[int, int], str]) -> Cell:
        """The cell of one choice for each pair."""
        edges = []
        for (i, j), text in chosen.items():
            code = text[-1]
            if code != NONE:
                edges.append((j, i, code) if text[0] == "<" else (i, j, code))
        return Cell.of(edges)

    def chosen(self, cell: Cell) -> dict[tuple[int, int], str]:
        """The choices that give a cell."""
        found = {}
        for i, j in PAIRS:
            forward = cell.rows[i][j]
            back = cell.rows[j][i]
            found[i, j] = forward if back == NONE else f"<{back}"
        return found

    def draw(self, generator: torch.Generator) -> Cell:
        """A random cell, as SNASNet draws it."""
        return draw_cell(generator, self.backward, self.codes)

    def mutated(self, cell: Cell, generator: torch.Generator) -> Cell:
        """The cell with another choice for one pair; the cell itself where a space leaves no choice."""
        chosen = self.chosen(cell)
        free = [pair for pair in PAIRS if len(self.choices(pair)) > 1]
        if not free:
            return cell
        pair = free[int(torch.randint(len(free), (), generator=generator))]
        others = [text for text in self.choices(pair) if text != chosen[pair]]
        chosen[pair] = others[int(torch.randint(len(others), (), generator=generator))]
        return self.cell(chosen)

    def every(self) -> Iterator[Cell]:
        """All different cells, each once, in its canonical form."""
        seen: set[Cell] = set()
        for cell in all_cells(self.backward, self.codes):
            if cell.in_space and (form := cell.canonical) not in seen:
                seen.add(form)
                yield form


@dataclass(frozen=True)
class Limits:
    """What a device has; None where it does not matter.

    Attributes:
        parameters, macs, flash_bytes, ram_bytes: of `Size`.
        sops: weights that spikes touch, an image.
    """

    parameters: float | None = None
    macs: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None
    sops: float | None = None

    def exceeded(self, figures: dict[str, float]) -> str | None:
        """Name of the first limit that these figures break, or None."""
        for name, limit in vars(self).items():
            if limit is not None and name in figures and figures[name] > limit:
                return name
        return None
