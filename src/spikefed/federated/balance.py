"""A vote that names some classes far too often, set right by what is known of the public rows: all classes occur.

Where labels are skewed, look-alikes stand with different clients: one has pullovers and fires for them on coats,
another the reverse, and the class of whoever is believed takes in the rows of both. The server's answer teaches that
to all clients, and no later vote contradicts it. But a public set that holds every class about equally often cannot
be a quarter pullovers. So the vote is taken as how likely each class is on each row, and scaled, class by class and
row by row in turn, until the rows sum to 1 and the classes to what they should (Sinkhorn & Knopp 1967; for labels
that a network gives itself: Asano, Rupprecht & Vedaldi, "Self-labelling via simultaneous clustering and representation
learning", ICLR 2020). Of all distributions with these sums it is the nearest to the vote in relative entropy: rows on
which clients are at odds change sides first. It adds no byte, and label counts stay at home.
"""

from __future__ import annotations

import numpy as np

DOUBT = 0.01
"""Share of a row's vote that is spread over all classes, so that nobody's word is beyond doubt."""
PASSES = 30
"""Of scaling; the shares of ten classes are then within a hundredth of what they should be."""


def balanced(merged: np.ndarray, strength: float) -> np.ndarray:
    """How likely each class is on each row, the classes' shares of all rows moved towards even ones.

    Args:
        merged: how much clients fired for each class on each row, at least 0, float64 ``[P, C]``; a row of zeros says
            nothing.
        strength: 0 leaves the shares of the classes as they are, 1 makes them even, between lies a mean of both.

    Returns:
        float64 ``[P, C]``, each row sums to 1.

    >>> print(balanced(np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 0.0], [0.0, 1.0]]), 1.0).argmax(axis=1))
    [0 1 0 1]
    """
    rows, classes = merged.shape
    total = merged.sum(axis=1, keepdims=True)
    said = np.divide(merged, total, out=np.full(merged.shape, 1.0 / classes), where=total > 0)
    likely = (1.0 - DOUBT) * said + DOUBT / classes
    if not rows:
        return likely
    wanted = (1.0 - strength) * likely.mean(axis=0) + strength / classes
    for _ in range(PASSES):
        likely = likely * (wanted / likely.mean(axis=0))
        likely /= likely.sum(axis=1, keepdims=True)
    return likely
