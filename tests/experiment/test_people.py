"""A federation of people through whole runs: who is trained on, who is measured, and what the result says of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spikefed
from spikefed.errors import ConfigError, DataError
from spikefed.experiment import build
from spikefed.experiment import config as configs


def crowd() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 2
    images = rng.integers(0, 120, (500, 6, 6), dtype=np.uint8)
    images[labels == 1, :3] += 100
    return {"images": images, "labels": labels, "person": np.arange(500) // 100}


@pytest.fixture
def own(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["data"] = {"clients": 3, "public": 40, "partition": "column", "by": "person", "own_test": 0.2}
    tiny["data"] |= {"test_groups": [1], "public_groups": 1}
    return tiny


@pytest.mark.parametrize(
    ("method", "keeps_its_own"),
    [
        ({"name": "local"}, True),
        ({"name": "fsd", "client_reset": "never"}, True),
        ({"name": "fsd", "client_reset": "common"}, False),  # begins anew each round
    ],
    ids=["local", "fsd", "fsd-anew"],
)
def test_a_row_a_person(own: dict[str, Any], method: dict[str, str], keeps_its_own: bool, tmp_path: Path) -> None:
    epochs = {"distil_epochs": 1, "server_epochs": 1, "distil_batch": 8} if method["name"] == "fsd" else {}
    own["method"] = epochs | method
    result = json.loads((spikefed.run(own, dataset=crowd, out=tmp_path / "run") / "result.json").read_text())
    rows = result["people"]
    assert len(rows) == 3 and {row["name"] for row in rows} < set("0234") and {row["items"] for row in rows} == {80}
    for row in rows:
        assert row["test_items"] == 20
        assert (row["accuracy"] is None) == (method["name"] == "local")
        assert (row["own_accuracy"] is not None) == (row["own_on_test"] is not None) == keeps_its_own
    if method == "local":
        assert result["accuracy"] == pytest.approx(np.mean([row["own_on_test"] for row in rows]))


def test_seeds_leave_other_people_out_and_the_hash_knows(own: dict[str, Any]) -> None:
    own["data"]["test_groups"] = 1
    made = [build(configs.from_tree(own | {"seed": seed}), crowd) for seed in range(6)]
    assert len({federation.split.names for federation in made}) > 2
    for federation in made:
        tested = set(federation.test.columns["person"].astype(str))
        assert len(tested) == 1 and not tested & set(federation.split.names)
    plain = configs.from_tree(own)
    assert plain.hash() != configs.from_tree(own, ["data.own_test=0.3"]).hash()


def test_lists_need_the_partition_that_keeps_them(own: dict[str, Any], tmp_path: Path) -> None:
    told = crowd()
    sets = [(told["images"][a : a + 100], told["labels"][a : a + 100]) for a in range(0, 400, 100)]
    own["data"] = {"clients": 4, "public": 40}
    with pytest.raises(DataError, match="set data.partition = 'column' and data.clients = 4"):
        spikefed.run(own, dataset=sets, out=tmp_path / "run")
    own["data"]["partition"] = "column"
    result = json.loads((spikefed.run(own, dataset=sets, out=tmp_path / "run") / "result.json").read_text())
    assert [row["name"] for row in result["people"]] == list("0123")


def test_a_column_that_nothing_uses_is_said(own: dict[str, Any]) -> None:
    own["data"] = {"clients": 2, "public": 40}
    assert (
        "column person not used; data.partition = 'column' with data.by = 'person' makes a client of each value"
        in (build(configs.from_tree(own), crowd).train.notes[-1])
    )


def test_the_names_of_partitions_are_told(own: dict[str, Any]) -> None:
    own["data"]["partition"] = "random"
    with pytest.raises(ConfigError, match="'data.partition' = 'random' in .*'column' or a function of your own as mod"):
        configs.from_tree(own)
