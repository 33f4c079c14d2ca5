"""Rows of numbers as text: a line an image, as tables and other programs give them."""

from __future__ import annotations

import csv
import io
from math import prod

import numpy as np

from spikefed.errors import DataError

LABELS = ("label", "class", "y", "target")
"""Headings of a column that holds classes."""


def rows_of(text: str, where: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray | None]:
    """Images of a table, and the classes of a column that is headed so.

    Args:
        text: lines of numbers, channel by channel and row by row as in ``[C, H, W]``; a heading may stand above.
        where: what errors call it.
        shape: of one image, with its time steps where it has any.

    Returns:
        ``[N, *shape]``, whole numbers where all are, and labels ``[N]`` or None.

    Raises:
        DataError: no rows, another number of columns, or something that is no number.
    """
    lines = [line for line in csv.reader(io.StringIO(text)) if line]
    if not lines:
        raise DataError(f"{where} holds no rows; give a line of {prod(shape):,} numbers for each image")
    heading = [cell.strip().lower() for cell in lines[0]] if any(not _is_number(cell) for cell in lines[0]) else []
    body = lines[1:] if heading else lines
    column = next((heading.index(name) for name in LABELS if name in heading), None)
    labels = None if column is None else np.array([line[column].strip() for line in body if len(line) > column])
    numbers = [[cell for i, cell in enumerate(line) if i != column] for line in body]
    for number, line in enumerate(numbers, 1 + bool(heading)):
        if len(line) != prod(shape):
            raise DataError(
                f"{where}: line {number} has {len(line):,} numbers, an image {'x'.join(map(str, shape))} has "
                f"{prod(shape):,}; give one image a line, and head a column of classes 'label'"
            )
        strange = next((cell for cell in line if not _is_number(cell)), None)
        if strange is not None:
            raise DataError(f"{where}: line {number} holds '{strange}', which is no number; mend or drop the line")
    if not numbers:
        raise DataError(f"{where} holds a heading and no rows; give a line for each image")
    array = np.array(numbers, dtype=np.float64)
    whole = array.astype(np.int64)
    array = whole if (whole == array).all() and not any("." in cell for line in numbers for cell in line) else array
    if labels is not None and all(label.lstrip("-").isdecimal() for label in labels):
        labels = labels.astype(np.int64)
    return array.reshape(-1, *shape), labels


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
