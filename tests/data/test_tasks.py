"""Tasks: transforms, class splits, joined sets and the orders of clients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikefed import data
from spikefed.errors import DataError


def pictures(name: str = "toy", count: int = 12, shape: tuple[int, int, int] = (1, 6, 6), classes: int = 4):
    draws = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, *shape), generator=draws, dtype=torch.uint8)
    return data.ImageSet(name, "train", images, torch.arange(count) % classes, classes)


def dealt(train: data.ImageSet, clients: int = 2, public: int = 0) -> data.TaskData:
    return data.TaskData(train, train, data.split_federation(train, clients=clients, public=public))


def test_four_quarters_are_a_whole_turn_and_other_angles_lie_between() -> None:
    images = pictures().images
    turned = images
    for _ in range(4):
        turned = data.rotated(turned, 90)
    assert torch.equal(turned, images)
    assert torch.equal(data.rotated(images, 180), images.flip(-1).flip(-2))
    smooth = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6) * 7
    near = data.rotated(smooth, 89.999).float()
    assert (near - data.rotated(smooth, 90).float())[..., 1:-1, 1:-1].abs().max() <= 1  # the same sense of turning


def test_permutations_move_places_and_nothing_else() -> None:
    images = pictures().images
    once = data.permuted(images, 3)
    assert torch.equal(once, data.permuted(images, 3)) and not torch.equal(once, data.permuted(images, 4))
    assert torch.equal(once.flatten(1).sort(dim=1).values, images.flatten(1).sort(dim=1).values)


def test_ranges_are_linear_and_the_negative_is_its_own_inverse() -> None:
    images = pictures().images
    assert torch.equal(data.ranged(images, 0, 255), images)
    assert torch.equal(data.ranged(images, 255, 0), 255 - images)
    half = data.ranged(images, 0, 128)
    assert int(half.max()) <= 128 and torch.equal(half.float(), (images.float() * 128 / 255).round())


def test_classes_become_tasks_and_keep_their_labels() -> None:
    images = pictures()
    found = data.by_class(images, [[3, 0], [1]])
    assert set(found.labels.tolist()) == {0, 1, 3}
    expected = [0 if label in (0, 3) else 1 for label in found.labels.tolist()]
    assert found.columns[data.TASK].tolist() == expected
    assert data.class_groups(10, 3) == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    with pytest.raises(DataError, match="4 classes cannot be split into 5 tasks"):
        data.class_groups(4, 5)


@pytest.mark.parametrize("heads", ["one", "task"])
def test_joined_tasks_keep_every_client_its_own_rows(heads: data.Heads) -> None:
    looks = [pictures(), pictures()]
    looks[1] = data.ImageSet("toy", "train", 255 - looks[1].images, looks[1].labels, 4)
    parts = [dealt(look, public=3) for look in looks]
    whole = data.joined(parts, heads)
    assert whole.train.classes == (8 if heads == "task" else 4)
    for client, held in enumerate(whole.split.clients):
        for task, part in enumerate(parts):
            rows = held.train[torch.from_numpy(whole.train.columns[data.TASK])[held.train] == task]
            own = part.split.clients[client].train
            assert torch.equal(whole.train.images[rows], part.train.images[own])
            shift = 4 * task if heads == "task" else 0
            assert torch.equal(whole.train.labels[rows], part.train.labels[own] + shift)
    shown = [part.split.public_images for part in parts]
    assert torch.equal(whole.split.public_images, torch.stack([shown[0][0], shown[1][1], shown[0][2]]))


def test_another_set_is_brought_to_the_first_ones_shape() -> None:
    like = pictures()
    other = data.brought_to(pictures("colour", shape=(3, 8, 8)), like)
    assert other.shape == like.shape
    assert data.brought_to(like, like) is like
    with pytest.raises(DataError, match="no rule turns 2 channels into 1"):
        data.brought_to(pictures("two", shape=(2, 6, 6)), like)


def test_what_has_no_pictures_is_refused() -> None:
    series = data.ImageSet(
        "sensor", "train", torch.zeros(4, 3, 1, 1), torch.zeros(4, dtype=torch.int64), 2, (), "reals"
    )
    with pytest.raises(DataError, match=r"sensor has no pictures in memory .* stages\.classes"):
        data.check_pictures(series)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_orders_name_every_task_once(tasks: int, clients: int, seed: int) -> None:
    for kind in ("same", "random", "latin"):
        found = data.orders(kind, tasks, clients, np.random.default_rng(seed))
        assert len(found) == clients and all(sorted(order) == list(range(tasks)) for order in found)
    latin = np.array(data.orders("latin", tasks, tasks, np.random.default_rng(seed)))
    assert all(sorted(latin[:, stage]) == list(range(tasks)) for stage in range(tasks))  # a Latin square
