"""Sizes that are one number for both sides of a map, or a pair ``(rows, columns)``."""

from __future__ import annotations

from torch import Tensor

Sides = int | tuple[int, int]
"""A stride or padding: the same for rows and columns, or one for each."""


def pair(sides: Sides) -> tuple[int, int]:
    """One number for rows, one for columns.

    >>> pair(2), pair((1, 2))
    ((2, 2), (1, 2))
    """
    return (sides, sides) if isinstance(sides, int) else sides


def same_padding(weight: Tensor) -> Sides:
    """Zeros around a map that keep its size at stride 1; ``weight`` is ``[Cout, Cin, Kh, Kw]``, both of odd size."""
    rows, columns = weight.shape[2:]
    return rows // 2 if rows == columns else (rows // 2, columns // 2)
