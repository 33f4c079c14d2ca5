"""Mutated packets through ``decode`` and through a server's link, and the coverage-guided fuzzer, counted.

    python -m benchmarks.codec_fuzz [--count 1000000] [--runs 100000] [--out results/codec]

Ends with an error at the first packet that does anything but decode or raise PacketError naming its field.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import resource
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import provenance
from tests.wire.helpers import PSID, fsd_like
from tests.wire.mutation import corpus, mutate

from spikefed.wire import ClientLink, Message, PacketError, Plan, ServerLink, SpikeDownlink, SpikeUplink, decode
from spikefed.wire.codec import by_number
from spikefed.wire.header import Header, pack, unpack

# Payloads of these codecs have one form only; those of "context" at most two, the code and the plain bits.
ONE_FORM = {("spikes", "bitpack"), ("labels", "plain"), ("counts", "plain"), ("weights", "float32"),
            ("probabilities", "fp16"), ("probabilities", "float32"), ("class-means", "float32"),
            ("class-means", "fp16"), ("masked-votes", "ring")}  # fmt: skip


class Tally:
    """What became of packets: accepted by codec, refused by field; the slowest in processor time."""

    def __init__(self) -> None:
        self.packets, self.slowest_s = 0, 0.0
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def take(self, call: Any, data: bytes, plan: Plan) -> Message | None:
        self.packets += 1
        start = time.process_time()
        try:
            message = call(data, plan)
        except PacketError as error:
            if error.__cause__ is not None or not error.field:
                raise AssertionError(f"a codec failed on {data.hex()}") from error
            self.refused[error.field] += 1
            return None
        finally:
            self.slowest_s = max(self.slowest_s, time.process_time() - start)
        header = unpack(data)[0]
        codec = by_number(header.codec, plan)
        self.accepted[f"{codec.kind} {codec.name}"] += 1
        return message

    def as_dict(self) -> dict[str, Any]:
        return {
            "packets": self.packets,
            "accepted": self.accepted.total(),
            "slowest_ms": round(1e3 * self.slowest_s, 2),
            "refused_by_field": dict(self.refused.most_common()),
            "accepted_by_codec": dict(self.accepted.most_common()),
        }


def check_form(data: bytes, message: Message, plan: Plan) -> None:
    """An accepted packet says exactly what its bytes say: encoding its message again gives the same payload."""
    header, payload = unpack(data)
    codec = by_number(header.codec, plan)
    if (codec.kind, codec.name) in ONE_FORM:
        again = unpack(message.encode(codec.name))[1]
        if bytes(again) != bytes(payload):
            raise AssertionError(f"{codec.kind} {codec.name} took {data.hex()}, which it would not write")


def plain(count: int, seed: int) -> dict[str, Any]:
    """``decode`` alone."""
    rng, packets, tally = np.random.default_rng(seed), corpus(), Tally()
    for _ in range(count):
        packet, plan = packets[rng.integers(len(packets))]
        other, other_plan = packets[rng.integers(len(packets))]
        data = mutate(packet, other, rng)
        plan = plan if rng.random() < 0.9 else other_plan
        message = tally.take(decode, data, plan)
        if message is not None:
            check_form(data, message, plan)
    return tally.as_dict()


def linked(count: int, seed: int) -> dict[str, Any]:
    """Packets with references through a server's link whose memories they name; honest ones must still decode after."""
    rng, tally, story = np.random.default_rng(seed), Tally(), fsd_like(4, n=30, clients=1)
    server, client = ServerLink("context", "context"), ClientLink(0, "context", "context")
    for number, step in enumerate(story, start=1):
        if step["down"] is not None:
            down = SpikeDownlink(number, step["down"], PSID)
            client.decode(server.encode(down, client=0), down.plan().for_client(0))
        up = SpikeUplink(number, 0, step["up"][0], 0.5, PSID)
        data = client.encode(up)
        kept = server.state_dict()
        for _ in range(count // len(story)):
            if tally.take(server.decode, mutate(data, data, rng), up.plan()) is not None:
                server.load_state_dict(kept)
        if not np.array_equal(server.decode(data, up.plan()).content, up.spikes):
            raise AssertionError("an honest packet no longer decodes")
    return tally.as_dict()


def large(seed: int) -> dict[str, Any]:
    """Random payloads for a spike train of the paper's size, which the context coder must read to their end."""
    shape, rng, tally = (8000, 10, 8), np.random.default_rng(seed), Tally()
    plan = Plan.spikes("up", round=2, client=1, shape=shape, public_set_id=PSID)
    header = Header(2, "spikes", "up", 2, 1, shape, PSID, accuracy=0.5)
    for size in (0, 1, 1000, 79_998):
        tally.take(decode, pack(header, rng.bytes(size) + b"\x01"), plan)
    return tally.as_dict()


def memory(count: int, seed: int) -> int:
    """Largest peak of numpy's and Python's allocations in one ``decode`` of a mutated packet, bytes."""
    rng, packets, worst = np.random.default_rng(seed), corpus(), 0
    tracemalloc.start()
    for _ in range(count):
        packet, plan = packets[rng.integers(len(packets))]
        data = mutate(packet, packet, rng)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        Tally().take(decode, data, plan)
        worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return worst


def coverage_guided(runs: int) -> dict[str, Any] | None:
    """What the atheris job says of itself; None without atheris."""
    if importlib.util.find_spec("atheris") is None:
        return None
    script = Path(__file__).parents[1] / "tests" / "wire" / "fuzz_decode.py"
    done = subprocess.run([sys.executable, str(script), f"-atheris_runs={runs}"], capture_output=True, text=True)
    last = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", done.stderr)[-1]
    ended = re.search(r"Done (\d+) in", done.stderr)
    if done.returncode or ended is None:
        raise AssertionError(done.stderr[-3000:])
    return {"runs": int(ended[1]), "coverage": int(last[0]), "features": int(last[1]), "corpus": int(last[2])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/codec"))
    given = parser.parse_args()
    plain(1000, given.seed)  # libraries and tables are in place
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content: dict[str, Any] = {"seed": given.seed, "decode": plain(given.count, given.seed)}
    content["resident_growth_mb"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3, 1)
    print(content, flush=True)
    content["server_link"] = linked(given.count // 10, given.seed)
    content["large_hostile"] = large(given.seed)
    content["peak_bytes_of_one_decode"] = memory(given.count // 50, given.seed)
    content["coverage_guided"] = coverage_guided(given.runs)
    print(content)
    print(provenance.write(given.out, "fuzz", content, sys.argv))


if __name__ == "__main__":
    main()
