"""Many clients on one machine: time a round and peak memory against the number of clients; two workers.

    python benchmarks/scale.py [--clients 100,300,1000] [--workers 1,2] [--rounds 4]

A tenth of the clients is sampled each round; the network is `small`, the recipe that of experiments/fsd-digits.toml
with one epoch of everything, the images are 8 x 8: the embedded digits, shifted and dimmed at random until there are 40
for every client. Each measurement runs in a process of its own. Round 1 is left out of the times (there is nothing to
distil on yet).

Wall time means something on an idle machine only. ``critical_cpu_s`` is what it would be there: processor seconds of
the run's own process plus those of its busiest worker, round by round.

``everyone`` is the memory once all clients have taken part twice, a tenth after the other, so that each holds its
weights and all that its codecs remember. It trains for no epoch, which changes neither.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PER_CLIENT, PUBLIC, FRACTION = 40, 400, 0.1
ROOT = Path(__file__).parents[1]


def digits_like(rows: int) -> Any:
    """Images uint8 ``[rows, 1, 8, 8]`` and labels, made from the embedded digits by shifts of a pixel and dimming."""
    import torch

    from spikefed import data

    source, draw = data.load("digits", "train"), torch.Generator().manual_seed(0)
    pick = torch.randint(len(source), (rows,), generator=draw)
    images = source.images[pick].clone()
    shifts = torch.randint(-1, 2, (rows, 2), generator=draw)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            mine = (shifts == torch.tensor([dy, dx])).all(dim=1)
            images[mine] = torch.roll(images[mine], (dy, dx), dims=(2, 3))
    dim = 0.6 + 0.4 * torch.rand(rows, 1, 1, 1, generator=draw)
    return (images * dim).to(torch.uint8), source.labels[pick]


class Clock:
    """Progress that notes the time and everybody's processor seconds after every round, checkpoint included."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[list[float]] = []  # this process, then its workers

    def begin(self, *_: Any) -> None:
        self.round({})

    def round(self, line: dict[str, Any]) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append([time.process_time(), *map(_cpu_s, _children())])

    def client(self, *_: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def warn(self, message: str) -> None: ...
    def close(self) -> None: ...


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Memory(threading.Thread):
    """Highest proportional set size of this process and its children (shared pages counted once), in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            begin = time.perf_counter()
            self.peak = max(self.peak, sum(map(_pss, [os.getpid(), *_children()])))
            # The kernel walks every page: looking takes at most a fiftieth of the time, or it would slow what it sees.
            time.sleep(max(0.25, 50 * (time.perf_counter() - begin)))


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measure(clients: int, workers: int, rounds: int, epochs: int) -> dict[str, Any]:
    """One run in this process; ``epochs`` 0 lets everybody take part in turn."""
    import spikefed
    from spikefed.experiment import load

    settings = [
        f"data.clients={clients}", f"data.private_per_client={PER_CLIENT}", f"data.public={PUBLIC}",
        f"rounds={rounds}", f"run.workers={workers}", "run.threads=1",
        f"training.local_epochs={epochs}", f"method.distil_epochs={epochs}", f"method.server_epochs={epochs}",
    ]  # fmt: skip
    if epochs:
        settings += ["participation.schedule=sample", f"participation.fraction={FRACTION}"]
    else:
        turns = [list(range(first, clients, 10)) for first in range(10)]
        settings += ["participation.schedule=list", f"participation.rounds={(turns * rounds)[:rounds]}"]
    config = load(ROOT / "experiments" / "fsd-digits.toml", settings)
    train, test = digits_like(clients * PER_CLIENT + PUBLIC), digits_like(360)
    memory, clock = Memory(), Clock()
    memory.start()
    with tempfile.TemporaryDirectory() as folder:
        path = spikefed.run(config, dataset=(train, test), out=Path(folder) / "run", progress=clock)
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        stored = sum(file.stat().st_size for file in (path / "checkpoints").iterdir())
    walls = [b - a for a, b in zip(clock.wall, clock.wall[1:], strict=False)]
    used = [[b - a for a, b in zip(*pair, strict=True)] for pair in zip(clock.cpu, clock.cpu[1:], strict=False)]
    cpu = statistics.median(sum(u) for u in used[1:])
    sampled = len(lines[0]["participants"])
    phases = {key: statistics.mean(line["seconds"][key] for line in lines[1:]) for key in lines[0]["seconds"]}
    return {
        "clients": clients,
        "sampled": sampled,
        "workers": workers,
        "rounds": rounds,
        "wall_s_a_round": round(statistics.median(walls[1:]), 3),
        "cpu_s_a_round": round(cpu, 3),
        "cpu_ms_a_sampled_client": round(1000 * cpu / sampled, 2),
        "critical_cpu_s_a_round": round(statistics.median(u[0] + max(u[1:], default=0.0) for u in used[1:]), 3),
        "phases_s_a_round": {key: round(value, 3) for key, value in phases.items()},
        "peak_mb": round(memory.peak / 2**20, 1),
        "checkpoints_mb": round(stored / 2**20, 1),
        "accuracy": lines[-1]["server_accuracy"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default="100,300,1000")
    parser.add_argument("--workers", default="1,2", help="measured at the largest number of clients, in turn")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each number of workers")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    parser.add_argument("--child", nargs=4, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(*given.child)))
        return
    counts = [int(text) for text in given.clients.split(",")]
    workers = [int(text) for text in given.workers.split(",")]
    rows = [_apart(count, workers[0], given.rounds) for count in counts]
    beside = [_apart(counts[-1], w, given.rounds) for _ in range(given.repeats) for w in workers]
    everyone = _apart(counts[-1], workers[0], 20, epochs=0)
    gain = {key: _gain(beside, workers, key) for key in ("wall_s_a_round", "critical_cpu_s_a_round")}
    print(f"faster than {workers[0]} worker(s): {gain}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    import provenance

    content = {"clients": rows, "workers": beside, "everyone": everyone, "speed_up": gain}
    print(f"written: {provenance.write(given.out, 'scale', content, sys.argv)}")


def _gain(rows: list[dict[str, Any]], workers: list[int], key: str) -> dict[str, float]:
    """How many times faster each number of workers is than the first, medians over repeats."""
    took = {w: statistics.median(row[key] for row in rows if row["workers"] == w) for w in workers}
    return {str(w): round(took[workers[0]] / took[w], 3) for w in workers}


def _apart(clients: int, workers: int, rounds: int, epochs: int = 1) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", *map(str, (clients, workers, rounds, epochs))]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print(
        f"  {clients:5} clients, {row['sampled']:3} sampled, {workers} worker(s): a round {row['wall_s_a_round']:.2f}"
        f" s, {row['cpu_s_a_round']:.2f} cpu s = {row['cpu_ms_a_sampled_client']:.1f} ms a sampled client, critical "
        f"{row['critical_cpu_s_a_round']:.2f} s; peak {row['peak_mb']:.0f} MB, checkpoints "
        f"{row['checkpoints_mb']:.0f} MB",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
