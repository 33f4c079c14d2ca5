"""Secure aggregation inside whole experiments: same result as plain, dropouts, liars, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spikefed
from experiment.conftest import TINY
from spikefed.errors import ConfigError, PacketError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.federated import Reply, Request
from spikefed.federated.methods.fsd import merge_weights, vote_level
from spikefed.federated.secure import VoteSum
from spikefed.privacy.secure import SecureSum
from spikefed.wire import Ledger
from spikefed.wire.masked import MaskedVotes, MaskedVoteUplink, pack_ring, unpack_ring


@pytest.fixture
def tiny() -> dict[str, Any]:
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    tree["data"]["clients"] = 4
    return tree


SECURE = ["privacy.secure=true"]


class Lossy:
    """A transport that loses what a client answers to an action, in one round."""

    def __init__(self, inner: Any, client: int, action: str, round: int) -> None:
        self._inner, self._lost = inner, (client, action, round)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def round(
        self, requests: Sequence[Request], deadline_s: float | None = None, quorum: int | None = None
    ) -> list[Reply]:
        action = requests[0].action if requests else ""
        replies = self._inner.round(requests, deadline_s, quorum)
        return [reply for reply in replies if (reply.client, action, reply.round) != self._lost]


def server_of(tree: dict[str, Any], overrides: Sequence[str], lost: tuple[int, str, int] | None = None) -> Any:
    federation = build(configs.from_tree(tree, overrides))
    transport: Any = federation.local_transport()
    if lost is not None:
        transport = Lossy(transport, *lost)
    ledger = Ledger()
    return federation.server(transport, ledger), ledger, federation


def test_same_accuracies_and_downlinks_as_the_plain_uniform_vote(tiny: dict[str, Any]) -> None:
    """Equal weights are eq. 3 at a temperature beyond float64; the sum of masked votes gives the same average."""
    plain, _, _ = server_of(tiny, ["method.tau_w=1e30"])
    secure, _, _ = server_of(tiny, SECURE)
    for _ in range(3):
        one, other = plain.run_round(), secure.run_round()
        assert not other.dropped
        assert np.array_equal(one.downlink.spikes, other.downlink.spikes)
        assert one.evaluation.accuracy == other.evaluation.accuracy
        assert other.diagnostics.values["votes_summed"] == 4 and other.diagnostics.values["votes_out_of_range"] == 0
        assert all(isinstance(u, MaskedVoteUplink) for u in other.uplinks.values())


def test_a_whole_run_repeats_and_resumes(tiny: dict[str, Any], tmp_path: Path) -> None:
    """Masks are fresh each time; what comes out is not touched by them."""
    results = []
    for name in ("one", "two"):
        folder = RunFolder(spikefed.run(tiny, overrides=SECURE, out=tmp_path / name))
        results.append([line["server_accuracy"] for line in folder.read_lines(folder.metrics)])
        assert all(entry["accuracy"] is None for entry in folder.read_lines(folder.metrics)[0]["clients"])
    assert results[0] == results[1]
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
    spikefed.run(tiny, overrides=[*SECURE, "rounds=2"], out=tmp_path / "part")
    spikefed.run(tiny, overrides=SECURE, out=tmp_path / "part", resume=True)
    assert json.loads((tmp_path / "part" / "result.json").read_text())["accuracy"] == results[0][-1]


@pytest.mark.parametrize("action", ["keys", "shares", "round", "unmask"])
def test_a_client_that_drops_out_at_any_stage(tiny: dict[str, Any], action: str) -> None:
    server, _, _ = server_of(tiny, SECURE, (2, action, 2))
    assert not server.run_round().dropped
    record = server.run_round()
    counted = 4 if action == "unmask" else 3
    assert record.diagnostics.values["votes_summed"] == counted
    assert sorted(record.uplinks) == ([0, 1, 2, 3] if action == "unmask" else [0, 1, 3])
    assert [entry["client"] for entry in record.dropped] == ([] if action == "unmask" else [2])
    assert not server.run_round().dropped  # back in the next round


def test_the_sum_after_a_dropout_is_the_plain_vote_of_the_others(tiny: dict[str, Any]) -> None:
    secure, _, _ = server_of(tiny, SECURE, (2, "round", 1))
    plain, _, _ = server_of(tiny, ["method.tau_w=1e30", "participation.schedule='list'",
                                   "participation.rounds=[[0,1,3]]"])  # fmt: skip
    assert np.array_equal(secure.run_round().downlink.spikes, plain.run_round().downlink.spikes)


def test_too_few_left_leave_the_server_as_it_was(tiny: dict[str, Any]) -> None:
    tiny["data"]["clients"] = 2
    server, _, _ = server_of(tiny, SECURE, (1, "round", 1))
    before = {k: v.clone() for k, v in server.state_dict()["state"]["weights"].items()}
    record = server.run_round()
    assert record.diagnostics is None
    assert "1 of 2 masked votes came, 2 are needed" in str(record.dropped)
    assert all((before[k] == v).all() for k, v in server.state_dict()["state"]["weights"].items())
    assert server.run_round().diagnostics is not None


def test_the_ledger_counts_every_message(tiny: dict[str, Any]) -> None:
    server, ledger, federation = server_of(tiny, SECURE)
    sent: list[int] = []
    inner = server._transport.round

    def counted(requests: Sequence[Request], *rest: Any) -> list[Reply]:
        replies = inner(requests, *rest)
        sent.extend([len(r.downlink or b"") for r in requests] + [len(r.uplink) for r in replies])
        return replies

    server._transport.round = counted
    server.run_round(), server.run_round()
    assert ledger.totals().encoded_bytes == sum(sent)
    n, c, t = federation.expectations.up.shape
    masked = [r for r in ledger.records if r.kind == "masked-votes"]
    assert len(masked) == 8 and {r.payload_bits for r in masked} == {8 * (1 + (3 * (n * c * t + 1) + 7) // 8)}


def test_levels_follow_the_papers_weights() -> None:
    """Levels over their sum come as near to softmax(acc / tau) as rounding to w levels allows."""
    accuracies = {0: 0.91, 1: 0.35, 2: 0.77}
    levels = {c: vote_level(a, 255, 0.5) for c, a in accuracies.items()}
    soft = merge_weights(accuracies, 0.5)
    for c in levels:
        assert levels[c] / sum(levels.values()) == pytest.approx(soft[c], abs=0.5 / min(levels.values()))
    assert vote_level(0.0, 1) == 1 == vote_level(1.0, 1)
    assert vote_level(0.0, 255, 0.01) == 1


def test_weighted_votes_inside_the_sum(tiny: dict[str, Any]) -> None:
    """With 255 levels the masked sum gives nearly the plain accuracy-weighted average."""
    server, _, _ = server_of(tiny, [*SECURE, "privacy.vote_levels=255", "method.tau_w=0.5"])
    plain, _, _ = server_of(tiny, ["method.tau_w=0.5"])
    one, other = server.run_round(), plain.run_round()
    assert one.diagnostics.values["agreement"] == pytest.approx(other.diagnostics.values["agreement"], abs=0.01)
    assert (one.downlink.spikes != other.downlink.spikes).mean() < 0.01


def test_impossible_sums_are_noticed() -> None:
    """A client that votes beyond its weight cannot be named, but what it breaks is counted and clipped."""
    server = SecureSum(bytes(32), levels=2)
    total = server._checked(np.array([0, 3, 7, 5]), (1, 1, 3), (0, 1, 2))
    assert isinstance(total, VoteSum) and total.outside == 1 and total.votes.tolist() == [[[0, 3, 5]]]
    for weight in (2, 7):
        with pytest.raises(PacketError, match="impossible"):
            server._checked(np.array([0, weight]), (1, 1, 1), (0, 1, 2))


def test_liars_vote_inside_the_sum(tiny: dict[str, Any]) -> None:
    honest, _, _ = server_of(tiny, SECURE)
    lying, _, _ = server_of(tiny, [*SECURE, "attack.clients=[3]", "attack.kind='invert-spikes'", "attack.claim=1.0"])
    one, other = honest.run_round(), lying.run_round()
    assert one.diagnostics.values["agreement"] > other.diagnostics.values["agreement"]
    assert other.diagnostics.values["votes_out_of_range"] == 0


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["method.vote='median'"], "choose one of the two"),
        (["data.clients=1"], "at least two clients"),
        (["privacy.vote_levels=300"], "privacy.vote_levels"),
    ],
)
def test_combinations_that_cannot_work(tiny: dict[str, Any], overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build(configs.from_tree(tiny, [*SECURE, *overrides]))


@pytest.mark.parametrize("bits", [1, 3, 7, 8, 10, 17, 32])
@pytest.mark.parametrize("count", [1, 8, 1001])
def test_ring_numbers_come_back(bits: int, count: int) -> None:
    values = np.random.default_rng(bits).integers(0, 1 << bits, count)
    payload = pack_ring(values, bits)
    assert len(payload) == (count * bits + 7) // 8
    assert np.array_equal(unpack_ring(memoryview(payload), count, bits), values)
    with pytest.raises(PacketError, match="need another number"):
        unpack_ring(memoryview(payload + b"\0"), count, bits)


def test_masked_packets_survive_the_wire_and_refuse_another_shape() -> None:
    votes = MaskedVotes(np.arange(13, dtype=np.uint8) % 8, 3)
    message = MaskedVoteUplink(4, 2, votes, (2, 3, 2), bytes(32))
    back = spikefed.wire.decode(message.encode(), message.plan())
    assert isinstance(back, MaskedVoteUplink) and np.array_equal(back.votes.values, votes.values)
    assert back.shape == (2, 3, 2) and back.votes.bits == 3
    with pytest.raises(PacketError, match="votes"):
        MaskedVoteUplink(4, 2, votes, (2, 3, 3), bytes(32))


def test_worker_processes_keep_the_keys_of_their_clients(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["rounds"] = 2
    accuracies = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        folder = RunFolder(spikefed.run(tiny, overrides=[*SECURE, f"run.workers={workers}"], out=out))
        lines = folder.read_lines(folder.metrics)
        assert all(line["merged"] and not line["dropped"] for line in lines)
        accuracies.append([line["server_accuracy"] for line in lines])
    assert accuracies[0] == accuracies[1]
