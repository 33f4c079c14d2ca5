"""A limited test set has the classes of the whole, and is the first rows wherever these have them already."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed import data
from spikefed.data.limit import stratified


def of_labels(labels: np.ndarray) -> data.ImageSet:
    images = torch.arange(len(labels)).to(torch.uint8).view(-1, 1, 1, 1)
    return data.ImageSet("m", "test", images, torch.from_numpy(labels), 10)


def test_rows_sorted_by_class_give_every_class() -> None:
    whole = of_labels(np.repeat(np.arange(10), 100))
    small = data.limited(whole, 100)
    assert small.labels.bincount(minlength=10).tolist() == [10] * 10
    assert torch.equal(small.images, data.limited(whole, 100).images)


def test_rows_in_random_order_stay_the_first() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 100))
    for limit in (10, 60, 100, 999, 1000, 5000):
        assert torch.equal(data.limited(of_labels(labels), limit).images, of_labels(labels).images[:limit])


@pytest.mark.parametrize("limit", [20, 30, 40, 50, 60, 100])
def test_the_digits_of_the_shipped_experiments_keep_their_rows(limit: int) -> None:
    test = data.load("digits", "test")
    assert torch.equal(data.limited(test, limit).images, test.images[:limit])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=200), st.data())
def test_a_stratified_sample_conserves_shares(labels: list[int], draw: st.DataObject) -> None:
    array = np.array(labels)
    count = draw.draw(st.integers(1, len(array) - 1))
    rows = stratified(array, count)
    assert len(rows) == count == len(set(rows.tolist())) and (np.diff(rows) > 0).all()
    whole = np.bincount(array)
    taken = np.bincount(array[rows], minlength=len(whole))
    assert (taken <= whole).all()
    if count >= np.count_nonzero(whole):
        assert (taken[whole > 0] > 0).all()
