"""The table [attack]: liars in a whole experiment."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import spikefed
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.wire import Ledger


def streams(tree: dict[str, Any], out: Any) -> list[dict[str, np.ndarray]]:
    tree["run"] = {"threads": 1, "record_streams": True}
    folder = RunFolder(spikefed.run(tree, out=out))
    rounds = []
    for path in sorted(folder.streams.glob("round-*.npz")):
        with np.load(path) as arrays:
            rounds.append({name: np.unpackbits(arrays[name]) for name in arrays.files if name.startswith("up_")})
    return rounds


def test_only_the_named_client_lies(tiny: dict[str, Any], tmp_path: Any) -> None:
    honest = streams(tiny, tmp_path / "honest")
    tiny["attack"] = {"clients": [1], "kind": "invert-spikes"}
    lying = streams(tiny, tmp_path / "lying")
    assert np.array_equal(honest[0]["up_0"], lying[0]["up_0"])
    assert np.array_equal(honest[0]["up_1"], 1 - lying[0]["up_1"])


def test_the_answers_of_a_client_set_aside_vote_no_longer(tiny: dict[str, Any]) -> None:
    tiny["method"] = {"name": "fsd+"}
    federation = build(configs.from_tree(tiny, ["deploy.strikes=1"]))
    transport = federation.local_transport()
    server = federation.server(transport, Ledger())
    deliver = transport.round

    def noise(requests: Any, *given: Any) -> list[Any]:
        replies = deliver(requests, *given)
        return [dataclasses.replace(r, uplink=b"noise") if r.client == 1 and server.round == 1 else r for r in replies]

    transport.round = noise  # type: ignore[method-assign]
    server.run_round()
    assert set(server.state_dict()["state"]["answers"]) == {"0", "1"}
    record = server.run_round()
    assert [drop["client"] for drop in record.dropped] == [1] and set(record.uplinks) == {0}
    assert set(server.state_dict()["state"]["answers"]) == {"0"}


def test_hash_knows_liars_and_forgets_an_empty_table(tiny: dict[str, Any]) -> None:
    plain = configs.from_tree(tiny)
    tree = plain.resolved()
    assert tree["attack"]["clients"] == []
    assert configs.from_tree(tiny, ["attack.kind='random'"]).hash() == plain.hash()
    assert configs.from_tree(tiny, ["attack.clients=[0]"]).hash() != plain.hash()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("attack.clients=[2]", "names client 2, but there are clients 0 to 1"),
        ("attack.kind='scale'", "cannot change uploads of kind spikes; use flip-labels"),
        ("attack.victims=[1]", "nearest known key is 'attack\\."),
        ("attack.claim=7", "'attack.claim' = 7"),
    ],
)
def test_mistakes_get_a_sentence(tiny: dict[str, Any], tmp_path: Any, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        spikefed.run(configs.from_tree(tiny, ["attack.clients=[1]", override]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
