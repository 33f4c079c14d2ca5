"""Clients as they are: by a column, by a function, of unequal sizes, with people left out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikefed import data
from spikefed.data.groups import together
from spikefed.data.lazy import LazyImages, joined_rows
from spikefed.data.partition import dirichlet_partition, drawn_sizes
from spikefed.errors import DataError

PEOPLE = np.array([3, 10, 1] * 40)
LABELS = np.arange(120) % 4
IMAGES = np.arange(120, dtype=np.uint8)[:, None, None] + np.zeros((1, 3, 3), np.uint8)


def whole(**columns: Any) -> data.ImageSet:
    kept = {"person": PEOPLE, **columns}
    return data.ImageSet("m", "train", torch.from_numpy(IMAGES)[:, None], torch.from_numpy(LABELS), 4, columns=kept)


def held(split: data.FederatedSplit) -> list[set[int]]:
    return [set(torch.cat([c.train, c.validation, c.test]).tolist()) for c in split.clients]


def test_each_person_is_a_client_with_all_of_its_items() -> None:
    split = data.split_federation(whole(), clients=3, partition="column", by="person", own_test=0.2, seed=5)
    assert split.names == ("1", "3", "10")  # numbers in their order
    assert held(split) == [set(np.flatnonzero(p == PEOPLE).tolist()) for p in (1, 3, 10)]
    for client in split.clients:
        parts = [client.train, client.validation, client.test]
        assert sum(map(len, parts)) == 40 and [len(p) for p in parts] == [29, 3, 8]
        for label in range(4):  # later items test earlier ones
            of = lambda rows, label=label: rows[torch.from_numpy(LABELS)[rows] == label]  # noqa: E731
            assert of(client.test).min() > max(of(client.train).max(), *[0, *of(client.validation).tolist()])


def test_public_rows_leave_the_people_they_came_from() -> None:
    split = data.split_federation(whole(), clients=3, partition="column", by="person", public=30)
    public = set(split.public_indices.tolist())
    assert len(public) == 30 and set().union(*held(split)) == set(range(120)) - public


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clients": 4}, r"column 'person' of m has 3 values \(1, 3, 10\), data.clients is 4; set data.clients = 3"),
        ({"by": "user"}, r"m has no column 'user'; set data.by to one of 'person'"),
        ({"private_per_client": 5}, "leave data.private_per_client out"),
        ({"sizes": [1, 2, 3]}, "data.sizes sets sizes, and partition 'column' has its own"),
        ({"partition": "iid", "sizes": [50, 50]}, "data.sizes has 2 numbers for 3 clients; .* data.clients = 2"),
        ({"partition": "iid", "sizes": [50, 50, 50]}, "ask for 150 items, m .train. has 120 left"),
        ({"partition": "iid", "sizes": [5, 0, 5]}, "give every client at least 1 item"),
        ({"partition": "iid", "sizes": [5, 5, 5], "size_alpha": 1.0}, "both set sizes"),
        ({"partition": "iid", "sizes": [5, 5, 5], "private_per_client": 4}, "both set sizes"),
        ({"partition": "nowhere:deal"}, "names module 'nowhere', which Python does not find"),
    ],
)
def test_what_does_not_fit_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        data.split_federation(whole(), **{"clients": 3, "partition": "column", "by": "person", **changes})


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_four_clients_of_unequal_size(partition: str) -> None:
    train = data.load("digits", "train")
    sizes = [200, 100, 50, 20]
    split = data.split_federation(train, clients=4, sizes=sizes, partition=partition, alpha=1.0, public=100, seed=2)
    got = [len(part) for part in held(split)]
    assert sum(got) == 370 and len(set().union(*held(split))) == 370
    if partition == "iid":
        assert got == sizes
    else:
        assert max(abs(np.array(got) - sizes) / np.array(sizes)) < 0.5 and np.argsort(got).tolist() == [3, 2, 1, 0]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2000), st.sampled_from([1e-4, 1e-3, 0.1, 1.0, 100.0]), st.integers(0, 99))
def test_drawn_sizes_hold_every_item_at_any_alpha(clients: int, spare: int, alpha: float, seed: int) -> None:
    items = 2 * clients + spare
    sizes = drawn_sizes(items, clients, alpha, np.random.default_rng(seed))
    assert len(sizes) == clients and sum(sizes) == items and min(sizes) >= 2


def test_tiny_alphas_give_one_large_client_and_labels_no_nan() -> None:
    tops = [max(drawn_sizes(1000, 5, 1e-4, np.random.default_rng(seed))) for seed in range(50)]
    assert min(tops) > 900
    even = drawn_sizes(1000, 5, 1e6, np.random.default_rng(0))
    assert max(even) - min(even) < 10
    for seed in range(20):
        draw = np.random.default_rng(seed).dirichlet(np.full(10, 1e-4))
        assert np.isfinite(draw).all() and abs(draw.sum() - 1) < 1e-9
    shares = dirichlet_partition(np.arange(2000) % 10, 5, 1e-4, np.random.default_rng(0), min_items=1)
    assert sorted(np.concatenate(shares).tolist()) == list(range(2000))


def test_a_function_of_ones_own_deals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dealer.py").write_text(
        "import numpy as np\n"
        "def odd(labels, clients, generator):\n"
        "    return [np.flatnonzero(labels % clients == c) for c in range(clients)]\n"
        "def people(labels, columns):\n    return [np.flatnonzero(columns['person'] == p) for p in (1, 3)]\n"
        "def twice(labels):\n    return [[0, 1], [1, 2]]\n"
        "def far(labels):\n    return [[0], [len(labels)]]\n"
        "def one(labels):\n    return [[0]]\n"
        "def floats(labels):\n    return [[0.5], [1]]\n"
        "def asks(labels, rng):\n    return []\n"
        "def spare(labels, rng=None):\n    return [[0], [1]]\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    deal = lambda name: data.split_federation(whole(), clients=2, partition=f"dealer:{name}", validation=0)  # noqa: E731
    assert held(deal("odd")) == [set(range(0, 120, 2)), set(range(1, 120, 2))]
    assert held(deal("people")) == [set(np.flatnonzero(p == PEOPLE).tolist()) for p in (1, 3)]
    for name, sentence in {
        "twice": "gave item 1 to two clients",
        "far": "gave client 1 indices from 120 to 120; give each some of 0 to 119",
        "one": "gave 1 shares for 2 clients",
        "floats": "failed: TypeError",
        "asks": "asks for 'rng', which nobody gives; call its parameters labels, clients, generator or columns",
        "number": "is 3, which cannot be called",
    }.items():
        with pytest.raises(DataError, match=f"data.partition 'dealer:{name}' {sentence}"):
            deal(name)
    assert [len(items) for items in held(deal("spare"))] == [1, 1]
    sys.modules.pop("dealer")


def test_people_left_out_are_trained_on_by_nobody() -> None:
    train = whole().subset(range(90))
    test = whole().subset(range(90, 120))
    sources = data.Sources(train, test)
    left = data.leave_out(sources, "person", test=[10], public=["3"])
    for part, person in ((left.train, 1), (left.test, 10), (left.public, 3)):
        assert part is not None and set(part.columns["person"]) == {person} and len(part) == 40
    assert left.train.notes == ("left out of training: person 10 tested on; person 3 public.",)
    assert data.leave_out(sources, "person") is sources
    drawn = [tuple(data.leave_out(sources, "person", test=1, seed=s).test.columns["person"][:1]) for s in range(20)]
    assert len(set(drawn)) == 3  # every seed leaves others out
    for groups, sentence in [
        ({"test": [7]}, "data.test_groups names '7', which no item has as 'person'"),
        ({"test": [1], "public": [1]}, "names '1', which no item has as 'person' .or which is left out already"),
        ({"test": [1, 3, 10]}, "nobody is left to train"),
        ({"test": 3}, "one must be left; lower it"),
    ]:
        with pytest.raises(DataError, match=sentence):
            data.leave_out(sources, "person", **groups)


def test_a_list_of_data_sets_is_one_client_each() -> None:
    cuts = [0, 60, 90, 110, 120]
    sets = [(IMAGES[a:b], LABELS[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    train, test = data.image_sets(sets, "mine")
    split = data.split_federation(train, clients=4, partition="column", validation=0)
    assert split.names == ("0", "1", "2", "3") and len(train) + len(test) == 120
    for n, client in enumerate(split.clients):
        pixels = set(train.images[client.train][:, 0, 0, 0].tolist())
        assert pixels <= set(range(cuts[n], cuts[n + 1]))
    with pytest.raises(
        DataError, match="which of 4 clients has it.* set data.partition = 'column' and data.clients = 4"
    ):
        data.check_owners(train, "iid")
    own = {"clients": {n: {"train": s, "test": (s[0][:5], s[1][:5])} for n, s in zip("abcd", sets, strict=True)}}
    train, test = data.image_sets(own, "mine")
    assert set(train.columns["client"]) == set("abcd") and len(test) == 20 and test.columns["client"][0] == "a"
    with pytest.raises(DataError, match="images of client 1 are 1x2x3 pixels, those before it 1x3x3 pixels"):
        data.image_sets([sets[0], (IMAGES[:9, :2], LABELS[:9]), sets[1]], "mine")


def test_a_folder_of_npz_files_is_one_client_each(tmp_path: Path) -> None:
    for name, rows in (("anna", slice(0, 40)), ("ben", slice(40, 100)), ("cleo", slice(100, 120))):
        np.savez(tmp_path / f"{name}.npz", images=IMAGES[rows], labels=LABELS[rows], mood=PEOPLE[rows])
    train, test = data.load_both(f"npz:{tmp_path}")
    assert set(train.columns["client"]) == {"anna", "ben", "cleo"} and set(train.columns) == {"client", "mood"}
    assert len(train) + len(test) == 120


def test_rows_joined_lazily_are_those_joined_in_memory() -> None:
    a, b = torch.arange(12).view(4, 3, 1, 1).float(), torch.arange(100, 121).view(7, 3, 1, 1).float()
    lazy = LazyImages(lambda rows: b[torch.from_numpy(rows)], np.arange(7), (3, 1, 1), torch.float32, lambda: b"b")
    both, plain = joined_rows(a, lazy), torch.cat([a, b])
    index = torch.tensor([10, 0, 3, 4, 5, 0])
    assert torch.equal(both[index], plain[index]) and both.shape == plain.shape
    assert torch.equal(both.take(index)[2:4], plain[index][2:4])
    assert both.digest() != both.take(index).digest() != joined_rows(a + 1, lazy).digest()
    assert len(together(whole(), whole())) == 240
