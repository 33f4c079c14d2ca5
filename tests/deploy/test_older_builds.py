"""What servers and clients of version 0.1 send and read: benchmarks/two_fleets.py lets whole fleets of both meet."""

from __future__ import annotations

import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, RecordDict  # noqa: E402

from spikefed.federated.exchange import Reply, Request  # noqa: E402
from spikefed.transports.flower.schema import (  # noqa: E402
    RECORD,
    pack_reply,
    pack_request,
    public_of,
    unpack_reply,
    unpack_request,
)

ASKED = {
    "schema": 1, "run": "a run", "client": 1, "round": 3, "action": "round", "has_packet": True, "packet": b"down",
}  # fmt: skip
ANSWERED = {
    "schema": 1, "run": "a run", "client": 1, "round": 3, "packet": b"up", "needs_intra": False, "error": "",
    "report_names": ["loss"], "report_values": [0.5],
}  # fmt: skip


def test_a_request_of_an_older_server_is_read() -> None:
    content = RecordDict({RECORD: ConfigRecord(dict(ASKED))})
    assert unpack_request(content) == (Request(1, 3, b"down", "round"), "a run")
    assert public_of(content) == ""


def test_an_older_client_finds_all_that_it_reads_in_a_request() -> None:
    sent = dict(pack_request(Request(1, 3, b"down"), "a run", "its public set")[RECORD])
    assert {key: sent[key] for key in ASKED} == ASKED


def test_a_reply_of_an_older_client_is_read() -> None:
    content = RecordDict({RECORD: ConfigRecord(dict(ANSWERED))})
    assert unpack_reply(content, "a run", 1) == Reply(1, 3, b"up", {"loss": 0.5})


def test_an_ordinary_reply_is_an_older_clients() -> None:
    assert dict(pack_reply(Reply(1, 3, b"up", {"loss": 0.5}), "a run")[RECORD]) == ANSWERED
