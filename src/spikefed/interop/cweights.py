"""How the C file holds a layer's weights: in rows, or where pruning left few of them, as lists of those.

Rows hold every weight, the output innermost, so that an input that is not 0 adds one run of them. A list holds the
weights that are left of a row and where in it they stand, 8 or 16 bits each, so that an input adds as many numbers as
weights are left for it. Lists walk the inputs in the order of the rows, and what rows add beside is 0: sums are the
same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from spikefed.interop.flat import FlatNode

MOST_LEFT = {"auto": 0.5, "vectors": 0.02, "never": 0.0}
"""Share of a layer's weights up to which each rule takes lists (measured: ``benchmarks/c_sparse.py``). A number of a
list costs a processor without vectors, as most microcontrollers are, less than two of a row; one with vectors of
sixteen numbers twenty to fifty of them."""
SHORTEST = {"auto": 1, "vectors": 128, "never": 1}
"""Numbers of a row from which each rule takes lists: to find a list costs as much as a few vectors."""


@dataclass(frozen=True, eq=False)
class Held:
    """A layer's weights as they stand in the file.

    Attributes:
        name: of the layer.
        weight: rows ``[list, place]``, or ``[left]`` of lists; float32, or int8.
        scales: float32 ``[Cout]`` that int8 weights are multiplied by, or None.
        first: uint16 or uint32 ``[lists + 1]``, where in ``weight`` each list begins; None of rows.
        at: uint8 or uint16 ``[left]``, places in the row; None of rows.
        whole: weights of the layer.
        left: those that are not 0 in the file.
        most: multiply-adds of a time step in which every input is active, through the weights that are left.
        most_whole: the same through all weights.
    """

    name: str
    weight: np.ndarray
    scales: np.ndarray | None
    first: np.ndarray | None
    at: np.ndarray | None
    whole: int
    left: int
    most: int
    most_whole: int

    @property
    def form(self) -> str:
        """In a word: ``rows``, ``lists`` or ``none`` where nothing is left."""
        return "none" if not self.left else "rows" if self.first is None else "lists"

    @property
    def nbytes(self) -> int:
        """Of the weights and, of lists, of their places."""
        arrays = () if not self.left else (self.weight, self.first, self.at)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def suffix(self) -> str:
        """What the names of C functions that walk lists end in: bits of a place, bits of a beginning."""
        assert self.at is not None and self.first is not None
        return f"{8 * self.at.itemsize}_{8 * self.first.itemsize}"


def held(node: FlatNode, int8: bool = False, lists: str = "auto") -> Held:
    """A layer's weights in the form that the rule chooses.

    Lists are taken where they are smaller than rows, at most `MOST_LEFT` of the layer's weights are left and rows have
    `SHORTEST` numbers or more.

    Args:
        node: a layer with weights.
        int8: symmetric quantisation, a scale for each output channel. What rounds to 0 is not left.
        lists: one of `MOST_LEFT`.
    """
    array, scales = _quantised(_ordered(node), int8)
    rows = array.reshape(-1, array.shape[-1] if _by_column(node) else prod(array.shape[-2:]))
    kept = array != 0
    left = int(kept.sum())
    most, whole = _reached(node, kept), _reached(node, np.ones_like(kept))
    told = {"whole": array.size, "left": left, "most": most, "most_whole": whole}
    dense = Held(node.name, rows, scales if left else None, None, None, **told)
    if not left or left > MOST_LEFT[lists] * array.size or not SHORTEST[lists] <= rows.shape[1] <= 2**16:
        return dense
    there = rows != 0
    first = np.concatenate([[0], there.sum(1).cumsum()])
    places = np.nonzero(there)[1]
    sparse = Held(
        node.name,
        rows[there],
        scales,
        first.astype(np.uint16 if left < 2**16 else np.uint32),
        places.astype(np.uint8 if rows.shape[1] <= 2**8 else np.uint16),
        **told,
    )
    return sparse if sparse.nbytes < dense.nbytes else dense


def _by_column(node: FlatNode) -> bool:
    """Whether a list is of one column of the kernel: columns that a stride leaves out must be skipped whole."""
    return node.kind != "conv" or node.line or node.stride > 1


def _ordered(node: FlatNode) -> np.ndarray:
    """Weights with the output channel innermost and the input as maps are stored, ``[row][column][channel]``."""
    weight = node.weight
    assert weight is not None
    if node.kind == "conv":
        return np.ascontiguousarray(weight[..., ::-1].transpose(2, 1, 3, 0))  # [K, Cin, K, Cout]
    if len(node.in_shape) == 3:
        weight = weight.reshape(-1, *node.in_shape).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    return np.ascontiguousarray(weight.T)  # [Fin, Fout]


def _quantised(array: np.ndarray, int8: bool) -> tuple[np.ndarray, np.ndarray | None]:
    if not int8:
        return array, None
    largest = np.abs(array).reshape(-1, array.shape[-1]).max(0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(array / scales).clip(-127, 127).astype(np.int8), scales


def _reached(node: FlatNode, kept: np.ndarray) -> int:
    """Pairs of an input and a weight that meet where every input is active; the borders leave some out."""
    if node.kind != "conv":
        return int(kept.sum())
    met = [
        np.array([_positions(tap, size, out, stride, pad) for tap in range(taps)])
        for taps, size, out, stride, pad in zip(
            node.kernel_size, node.in_shape[1:], node.map_shape[1:], node.strides, node.padding, strict=True
        )
    ]
    taps = kept.sum((1, 3))[:, ::-1]  # [K rows, K columns], columns first to last
    return int((taps * met[0][:, None] * met[1][None, :]).sum())


def _positions(tap: int, size: int, out: int, stride: int, pad: int) -> int:
    """Outputs along one axis for which the kernel's tap lies on the map."""
    return sum(0 <= o * stride + tap - pad < size for o in range(out))
