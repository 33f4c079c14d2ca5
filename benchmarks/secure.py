"""Secure aggregation: bytes and time of one round, a client and the server, for N clients.

    python benchmarks/secure.py [--clients 4,16,64] [--levels 1] [--out results/bench]

Times are processor time of one thread, so that other load on the machine hardly counts: a client's own work in all four
exchanges (median over clients), and the server's; with everybody there, and with one client gone after the shares. The
sum is compared with the plain sum in every run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from spikefed.privacy.protocol import ClientSession, ServerSession, threshold
from spikefed.wire import SpikeUplink
from spikefed.wire.masked import MaskedVotes, MaskedVoteUplink

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.provenance import write  # noqa: E402

SHAPES = {"digits (400, 10, 8)": (400, 10, 8), "paper (8000, 10, 8)": (8000, 10, 8)}
CONTEXT = bytes(32)


def one(clients: int, shape: tuple[int, int, int], levels: int, gone: int) -> dict[str, Any]:
    """One round; ``gone`` clients say nothing after the shares."""
    rng = np.random.default_rng(clients)
    size = int(np.prod(shape)) + 1
    votes = {c: rng.integers(0, levels + 1, size).astype(np.uint32) for c in range(clients)}
    seconds = dict.fromkeys(votes, 0.0)
    up = {stage: 0 for stage in ("keys", "shares", "votes", "unmask")}
    down = {stage: 0 for stage in ("shares", "votes", "unmask")}
    server_s = 0.0

    def timed(client: int, call: Any, *arguments: Any) -> Any:
        started = time.process_time()
        result = call(*arguments)
        seconds[client] += time.process_time() - started
        return result

    def on_server(call: Any, *arguments: Any) -> Any:
        nonlocal server_s
        started = time.process_time()
        result = call(*arguments)
        server_s += time.process_time() - started
        return result

    server = ServerSession(1, CONTEXT, levels)
    sessions = {c: timed(c, ClientSession, c, 1, CONTEXT, levels) for c in votes}
    for c, session in sessions.items():
        data = timed(c, session.advertise)
        up["keys"] = len(data)
        on_server(server.read_keys, c, data)
    for c, data in on_server(server.rosters).items():
        down["shares"] = len(data)
        data = timed(c, sessions[c].share, data)
        up["shares"] = len(data)
        on_server(server.read_shares, c, data)
    masked = {}
    for c, data in on_server(server.inboxes).items():
        down["votes"] = len(data) + 5
        if c >= clients - gone:
            continue
        values = timed(c, sessions[c].mask, data, votes[c])
        message = MaskedVoteUplink(1, c, MaskedVotes(values, server.bits), shape, CONTEXT)
        packet = timed(c, message.encode)
        up["votes"] = len(packet)
        masked[c] = values
    reveals = {}
    for c, data in on_server(server.survivors, masked).items():
        down["unmask"] = len(data)
        data = timed(c, sessions[c].reveal, data)
        up["unmask"] = len(data)
        reveals[c] = on_server(server.read_reveal, c, data)
    total = on_server(server.open, masked, reveals)
    assert np.array_equal(total, sum(votes[c].astype(np.int64) for c in masked)), "the sum is not the plain sum"
    spikes = SpikeUplink(1, 0, (votes[0][:-1] > 0).astype(np.uint8).reshape(shape), 0.5, CONTEXT)
    return {
        "clients": clients,
        "dropouts": gone,
        "levels": levels,
        "bits": server.bits,
        "threshold": threshold(clients),
        "up_bytes": up,
        "up_bytes_total": sum(up.values()),
        "down_bytes": down,
        "down_bytes_total": sum(down.values()),
        "plain_bitpack_bytes": len(spikes.encode("bitpack")),
        "client_ms": round(1000 * statistics.median(seconds[c] for c in masked), 2),
        "server_ms": round(1000 * server_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="4,16,64")
    parser.add_argument("--levels", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "bench")
    given = parser.parse_args()
    one(3, (8, 2, 2), 1, 0)  # the first call loads the library
    rows = []
    for name, shape in SHAPES.items():
        for clients in map(int, given.clients.split(",")):
            for gone in (0, 1):
                row = {"public_set": name} | one(clients, shape, given.levels, gone)
                rows.append(row)
                print({key: value for key, value in row.items() if not isinstance(value, dict)}, flush=True)
    print(write(given.out, "secure", {"rows": rows}, sys.argv))


if __name__ == "__main__":
    main()
