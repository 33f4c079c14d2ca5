"""What a round costs a client: FSD+ beside FedAvg with the same private epochs, and the server's part beside them.

    python benchmarks/client_cost.py --data-dir DATA [--experiment FILE] [--set method.rehearse_every=4 ...] [--pairs 7]

Both methods' second round of one client (there is something from the server by then) alternate in one process of one
thread. A ratio is that of processor times within a pair; medians with quartiles. ``--set`` is for FSD+ alone. What is
neither FedAvg's round (own training and validation) nor answering the public rows is put down to rehearsal.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import provenance
import torch

from spikefed.experiment import build
from spikefed.experiment import config as configs
from spikefed.federated import method


class Steps:
    """A method's client and server steps of round 2 in an experiment, each timed in processor seconds."""

    def __init__(self, experiment: str, settings: list[str]) -> None:
        self.config = configs.load(Path(experiment), settings)
        self._federation = build(self.config)
        self._method = method(self.config.method["name"])
        context = self._federation.context
        self._server, down = self._method.init_server(context(0))
        ups: dict[int, Any] = {}
        states: dict[int, Any] = {}
        for client in (0, 1):
            states[client], ups[client], _ = self._method.client_round({}, down, self._client(client, 1))
        self._server, self._down, _ = self._method.server_round(self._server, ups, context(1))
        self._state = states[0]
        self._ups = ups

    def _client(self, client: int, round: int) -> Any:
        return self._federation.client_context(client, round)

    def client(self) -> float:
        """Seconds of the client's step."""
        ctx = self._client(0, 2)
        return timed(lambda: self._method.client_round(self._state, self._down, ctx))

    def answers(self) -> float:
        """Seconds of answering the public rows alone, within the client's step."""
        ctx = self._client(0, 2)
        net = ctx.networks.load(self._state["weights"])
        return timed(lambda: self._method.uplink(net, 1.0, self._state, ctx))

    def server(self) -> float:
        """Seconds of the server's step on two uploads."""
        ctx = self._federation.context(2)
        return timed(lambda: self._method.server_round(self._server, self._ups, ctx))


def timed(call: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def told(ratios: list[float]) -> dict[str, Any]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="experiments/base/fashion-mnist-mini.toml")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    shared = [f"data.dir={args.data_dir}", "network.name=small", "network.steps=8", "network.precision=bfloat16",
              "training.lr=1e-3", f"training.local_epochs={args.epochs}"]  # fmt: skip
    plus = Steps(args.experiment, [*shared, 'method={name="fsd+"}', *args.settings])
    mean = Steps(args.experiment, [*shared, 'method={name="fedavg"}'])
    pairs = [(plus.client(), mean.client(), plus.server(), mean.server(), plus.answers()) for _ in range(args.pairs)]
    found = {
        "experiment": args.experiment,
        "settings": args.settings,
        "epochs": args.epochs,
        "client_of_fedavg_s": round(statistics.median(pair[1] for pair in pairs), 3),
        "client_over_fedavg": told([pair[0] / pair[1] for pair in pairs]),
        "answers_over_fedavg": told([pair[4] / pair[1] for pair in pairs]),
        "rehearsal_over_fedavg": told([(pair[0] - pair[1] - pair[4]) / pair[1] for pair in pairs]),
        "server_over_fedavg_client": told([pair[2] / pair[1] for pair in pairs]),
        "fedavg_server_over_its_client": told([pair[3] / pair[1] for pair in pairs]),
    }
    print(provenance.write(args.out, "client-cost", found, sys.argv), found)


if __name__ == "__main__":
    main()
