"""The last server round of a finished run of fsd+ done again with other settings of the server, on unused images.

    python scripts/last_server.py RUN "NAME" [--fresh] [--set method.server_augment=flip ...]
    python scripts/last_server.py table                 # the table of docs/results.md, from results/

The clients' answers and the server's network before the round come from the run's last two checkpoints. Measured on
training images that are nobody's, neither a client's nor public. So servers are compared without a federation. With
``--fresh`` the server begins untrained, so that it may be another network (``--set network.name=...`` with
``--set network.clients=["small"]``); give it the epochs of all rounds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import filled

from spikefed.experiment import build
from spikefed.experiment import config as configs
from spikefed.federated import method
from spikefed.federated.history import History
from spikefed.files import write_atomic
from spikefed.training import evaluate
from spikefed.wire import SpikeUplink

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
KEPT = ROOT / "results" / "fsd-skew" / "last-server.json"
MOST = 10_000


def again(run: Path, settings: list[str], *, fresh: bool = False) -> dict[str, Any]:
    """Accuracy of the server's network after the last round, done again so, or learned from nothing."""
    stood = configs.load(run / "config.toml", [])
    history = History(run / "checkpoints", stood.hash())
    last = history.rounds()[-1]
    before, after = (history.at(round) for round in (last - 1, last))
    assert before is not None and after is not None
    federation = build(configs.load(run / "config.toml", settings))
    ctx = federation.context(last)
    said = after["server"]["state"]
    ups = {int(client): _uplink(int(client), said, ctx) for client in sorted(said["answers"], key=int)}
    steps = method(federation.config.method["name"])
    state = steps.init_server(ctx)[0] if fresh else before["server"]["state"]
    state, _, told = steps.server_round(state, ups, ctx)
    images, labels = _unused(federation)
    net = steps.server_network(state, ctx)
    found = evaluate(net, images, labels, preprocess=ctx.preprocess, generator=torch.Generator().manual_seed(0))
    return {"accuracy": found.accuracy, "images": len(labels), "settings": settings, "values": told.values} | {
        "dataset": stood.data.dataset, "partition": stood.data.partition, "seed": stood.seed, "round": last,
        "method": stood.method, "fresh": fresh,
    }  # fmt: skip


def _uplink(client: int, state: dict[str, Any], ctx: Any) -> SpikeUplink:
    """What the client sent last: the server remembers it."""
    net = ctx.networks.network
    shape = (len(ctx.public), int(net.classes), int(ctx.hyper.groups))
    bits = np.unpackbits(state["answers"][str(client)], count=int(np.prod(shape))).reshape(shape)
    return SpikeUplink(ctx.round, client, bits, state["accuracies"][str(client)], ctx.public_set_id)


def _unused(federation: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Training images that nobody has, 10,000 at most: a seeded sample, the same for all settings of a run."""
    split = federation.split
    used = [part for client in split.clients for part in (client.train, client.validation)]
    free = torch.ones(len(federation.train), dtype=torch.bool)
    free[torch.cat(used)] = False
    free[split.public_indices] = False
    rows = free.nonzero().flatten()
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(5))[:MOST]]
    return federation.train.images[rows], federation.train.labels[rows]


def table(rows: list[dict[str, Any]]) -> str:
    """Row by row: accuracy, and points beyond the first row of the same run."""
    lines = ["| server | run | accuracy (%) | points |", "|" + " --- |" * 4]
    first: dict[tuple[str, str, int], float] = {}
    for row in rows:
        run = (row["dataset"], row["partition"], row["seed"])
        base = first.setdefault(run, row["accuracy"])
        split = {"iid": "IID", "dirichlet": "Dirichlet 0.1"}[row["partition"]]
        gain = f"{100 * (row['accuracy'] - base):+.2f}" if row["accuracy"] != base else ""
        lines.append(
            f"| {row['name']} | {row['dataset']}, {split}, seed {row['seed']} | {100 * row['accuracy']:.2f} | {gain} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run folder, or 'table'")
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--fresh", action="store_true", help="the server begins untrained")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    kept: list[dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.is_file() else []
    if given.run == "table":
        page = filled(
            PAGE.read_text(),
            "<!-- last server: made by scripts/last_server.py -->",
            "<!-- end of last server -->",
            table(kept),
        )
        write_atomic(PAGE, page)
        return
    row = {"name": given.name} | again(Path(given.run), given.settings, fresh=given.fresh)
    same = ("name", "dataset", "partition", "seed")
    kept = [old for old in kept if any(old[key] != row[key] for key in same)] + [row]
    write_atomic(KEPT, json.dumps(kept, indent=1) + "\n")
    print(f"{given.name}: {100 * row['accuracy']:.2f} %")


if __name__ == "__main__":
    main()
