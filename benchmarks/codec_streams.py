"""All codecs, and the partial payloads, on recorded runs: bytes by round and direction.

    python -m benchmarks.codec_streams RUN [RUN ...] [--data-dir DATA] [--out results/codec]

One small JSON for each run; runs need ``--set run.record_streams=true``. Codec "context+near" needs the images too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from benchmarks import provenance

from spikefed import experiment
from spikefed.wire import (
    ClientLink,
    LabelDownlink,
    LabelUplink,
    Message,
    PartialSpikeUplink,
    ServerLink,
    SpikeDownlink,
    SpikeUplink,
    changed_rows,
    codec_bench,
    confident_labels,
    first_steps,
    select_rows,
    uncertain_rows,
)
from spikefed.wire.bench import Streams, read_streams, table

ID = bytes(32)


def partials(streams: Streams) -> dict[str, int]:
    """Upstream bytes, headers included, of each way to send less; every packet is decoded."""
    steps = next(iter(streams.up[0].values())).shape[2]
    totals = {"all rows and steps": 0}
    sent = {c: np.zeros_like(s) for c, s in streams.up[0].items()}  # what the server knows of each client

    def replay(name: str, make) -> None:
        server, clients, last = ServerLink("context", "context"), {}, None
        known = {c: spikes.copy() for c, spikes in sent.items()}
        totals[name] = 0
        for number, (uploads, down) in enumerate(zip(streams.up, streams.down, strict=True), start=1):
            for c, spikes in uploads.items():
                client = clients.setdefault(c, ClientLink(c, "context", "context"))
                if last is not None:
                    message = make.down(number, last)
                    client.decode(server.encode(message, client=c), message.plan().for_client(c))
                up = make.up(number, c, spikes, known)
                data = client.encode(up)
                server.decode(data, up.plan())
                totals[name] += len(data)
            last = down

    class Whole:
        """Only the first steps of every train."""

        def __init__(self, count: int) -> None:
            self.count = count

        def down(self, number: int, spikes: np.ndarray) -> Message:
            return SpikeDownlink(number, first_steps(spikes, self.count), ID)

        def up(self, number: int, c: int, spikes: np.ndarray, known: dict) -> Message:
            return SpikeUplink(number, c, first_steps(spikes, self.count), 0.0, ID)

    class Rows(Whole):
        """Only rows that changed their class since they were last sent, or are uncertain."""

        def __init__(self, count: int, margin: int) -> None:
            self.count, self.margin = count, margin

        def up(self, number: int, c: int, spikes: np.ndarray, known: dict) -> Message:
            rows = changed_rows(spikes, known[c]) if number > 1 else np.ones(len(spikes), bool)
            if self.margin:
                rows = rows | uncertain_rows(spikes, self.margin)
            partial = select_rows(spikes, rows)
            known[c] = partial.fill(known[c])
            return PartialSpikeUplink(number, c, partial, 0.0, ID)

    class Labels:
        """Only labels, and only where the leading class leads by this many spikes."""

        def __init__(self, margin: int) -> None:
            self.margin = margin

        def down(self, number: int, spikes: np.ndarray) -> Message:
            return LabelDownlink(number, confident_labels(spikes, self.margin), ID, spikes.shape[1])

        def up(self, number: int, c: int, spikes: np.ndarray, known: dict) -> Message:
            return LabelUplink(number, c, confident_labels(spikes, self.margin), 0.0, ID, spikes.shape[1])

    replay("all rows and steps", Whole(steps))
    replay(f"first {steps // 2} steps", Whole(steps // 2))
    replay("rows whose class changed", Rows(steps, 0))
    replay("rows changed or uncertain (lead < 2 spikes)", Rows(steps, 2))
    replay("labels", Labels(0))
    replay("labels where the lead is at least 4 spikes", Labels(4))
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/codec"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for run in given.runs:
        bench = codec_bench(run, experiment.alike_rows(run, given.data_dir))
        print(run.name)
        for row in table(bench):
            print("  " + "".join(f"{cell:>15}" for cell in row))
        bench["partial_upstream_bytes"] = partials(read_streams(run))
        for name, size in bench["partial_upstream_bytes"].items():
            print(f"  {name:45}{size:12,}")
        command = ["codec_streams", f"runs/{run.name}"]
        content = {"provenance": provenance.describe(command), **bench}
        (given.out / f"{run.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
