"""Laws that every registered method keeps, and FedAvg with every codec: each is checked on whole runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.parents import adapted
from experiment.runs import fingerprint
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, build
from spikefed.experiment import config as configs
from spikefed.federated.exchange import Reply, Request
from spikefed.federated.methods import METHODS
from spikefed.wire import Ledger

NETWORK = {"name": "4C3-AP2-12FC", "steps": 4}
CHANGE = {"payload": "change"}
WHOLE_SEARCH = {"name": "tickets", "search": "random", "sparsities": [0.5], "level_rounds": 1}
"""A search for tickets that one round holds."""
IN_A_SUPERNET = {
    "method": {"name": "dc-nas", "search_rounds": 1, "limit": 0.9},
    "network": {"name": "supernet:123-134:width=4", "steps": 3},
}
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {} for name in METHODS},
    "tickets": {"method": WHOLE_SEARCH},
    "dc-nas": IN_A_SUPERNET,
    "fsd+ by rows": {"method": {"name": "fsd+", "row_share": 0.4, "groups": 2}},
    "fsd+ labels": {"method": {"name": "fsd+", "send": "labels", "row_share": 0.5}},
    "ds-fl power": {"method": {"name": "ds-fl", "sharpen": "power"}},
    "cfd 4 bits": {"method": {"name": "cfd", "bits_up": 4, "bits_down": 4}},
    "fedavg stc": {"method": {"name": "fedavg", **CHANGE}, "wire": {"weights_up": "stc-100"}},
    "fedavg stc both ways": {
        "method": {"name": "fedavg", **CHANGE, "payload_down": "change"},
        "wire": {"weights_up": "stc-100", "weights_down": "stc-100"},
    },
    "fedavg qsgd": {"method": {"name": "fedavg", **CHANGE}, "wire": {"weights_up": "qsgd-7"}},
    "fedavg cossgd": {"method": {"name": "fedavg", **CHANGE}, "wire": {"weights_up": "cosine-2"}},
    "fedavg top-k": {"method": {"name": "fedavg", **CHANGE}, "wire": {"weights_up": "topk-100"}},
}
EVERYBODY_NEEDED = {"fedavg stc both ways"}  # a missed change of the global weights cannot be made up
SCHEDULES: dict[str, dict[str, Any]] = {
    "late": {"schedule": "late"},
    "sample": {"schedule": "sample", "fraction": 0.67},
    "list": {"schedule": "list", "rounds": [[1], [0, 2], [2]]},
    "stragglers": {"straggle": 0.7},
}


def config(variant: str, **changes: Any) -> dict[str, Any]:
    chosen = VARIANTS[variant]
    return {
        "name": "tiny",
        "rounds": 3,
        "data": {"clients": 3, "private_per_client": 32, "public": 20, "test_limit": 30},
        "network": adapted("4C3-AP2-12FC") if variant == "adapters" else chosen.get("network", NETWORK),
        "training": {"local_epochs": 1, "local_batch": 16},
        "method": {"name": variant, **chosen.get("method", {})},
        "wire": chosen.get("wire", {}),
        "run": {"threads": 1},
        **changes,
    }


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in EVERYBODY_NEEDED])
def test_it_runs_with_clients_missing(variant: str, schedule: str, tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(config(variant, participation=SCHEDULES[schedule]), out=tmp_path / "run"))
    lines = folder.read_lines(folder.metrics)
    assert len(lines) == 3
    assert all(line["participants"] and not line["dropped"] for line in lines)
    if schedule == "stragglers" and variant != "central":
        assert any("stragglers" in line for line in lines)
        assert all(sorted([*line["participants"], *line.get("stragglers", [])]) == [0, 1, 2] for line in lines)
    ledger = folder.read_lines(folder.ledger)
    assert sum(m["encoded_bytes"] for m in ledger if m["direction"] == "up") == lines[-1]["upstream_bytes_total"]


@pytest.mark.parametrize("variant", sorted(EVERYBODY_NEEDED))
def test_what_needs_everybody_says_so(variant: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs every client in every round"):
        spikefed.run(config(variant, participation=SCHEDULES["sample"]), out=tmp_path / "run")


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_and_resumed_it_ends_where_it_would_have(variant: str, tmp_path: Path) -> None:
    whole = fingerprint(spikefed.run(config(variant), out=tmp_path / "whole"))
    for rounds in (1, 2, 3):
        # The second sitting uses two processes: a state that does not travel or is not saved would show.
        run = {"threads": 1, "workers": 1 + rounds % 2}
        spikefed.run(config(variant, rounds=rounds, run=run), out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == whole


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in EVERYBODY_NEEDED])
def test_a_later_round_without_quorum_changes_nothing_and_resumes(variant: str, tmp_path: Path) -> None:
    schedule = {"schedule": "list", "rounds": [[0, 1, 2], [0], [0, 1, 2]], "quorum": 2}
    whole = spikefed.run(config(variant, participation=schedule), out=tmp_path / "whole")
    lines = RunFolder(whole).read_lines(RunFolder(whole).metrics)
    assert [line["merged"] for line in lines] == ([True, False, True] if variant != "central" else [False] * 3)
    for rounds in (1, 2, 3):
        spikefed.run(config(variant, participation=schedule, rounds=rounds), out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == fingerprint(whole)


class Shuffled:
    """A transport whose replies come in another order."""

    def __init__(self, inner: Any, order: Sequence[int]) -> None:
        self.inner, self.order = inner, order

    def round(self, requests: Sequence[Request], *rest: Any, **named: Any) -> list[Reply]:
        replies = self.inner.round(requests, *rest, **named)
        return [replies[i] for i in self.order if i < len(replies)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_the_clients_never_matters(variant: str) -> None:
    ends = []
    for order in ((0, 1, 2), (2, 0, 1)):
        federation = build(configs.from_tree(config(variant)))
        ledger = Ledger()
        server = federation.server(Shuffled(federation.local_transport(), order), ledger)
        for _ in range(2):
            server.run_round()
        ends.append((server.state_dict(), sorted(ledger.to_lines())))
    assert ends[0][1] == ends[1][1]
    assert same(ends[0][0], ends[1][0])


@pytest.mark.parametrize("variant", [name for name in VARIANTS if METHODS[config(name)["method"]["name"]].uplink_kind])
def test_a_server_step_is_the_same_for_uploads_in_any_order(variant: str) -> None:
    federation = build(configs.from_tree(config(variant)))
    steps: list[tuple[Any, dict[int, Any], int]] = []
    server = federation.server(federation.local_transport(), Ledger())
    method = METHODS[config(variant)["method"]["name"]]()
    step = method.server_round

    def watched(state: Any, uplinks: dict[int, Any], ctx: Any) -> Any:
        steps.append((copy.deepcopy(state), dict(uplinks), ctx.round))
        return step(state, uplinks, ctx)

    server._method = method
    method.server_round = watched  # type: ignore[method-assign]
    server.run_round()
    server.run_round()
    assert len(steps) == 2 and all(list(uplinks) == [0, 1, 2] for _, uplinks, _ in steps)
    for state, uplinks, round in steps:
        ends = [
            step(state, {c: uplinks[c] for c in order}, federation.context(round)) for order in ((0, 1, 2), (2, 0, 1))
        ]
        assert same(ends[0][0], ends[1][0]) and same(vars(ends[0][1]), vars(ends[1][1]))


def same(a: Any, b: Any) -> bool:
    """Nested states, bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if hasattr(a, "tobytes"):
        return bool(a.tobytes() == b.tobytes())
    if hasattr(a, "numpy"):
        return bool(a.numpy().tobytes() == b.numpy().tobytes())
    return bool(a == b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_a_gpu_it_runs_resumes_and_learns_alike(variant: str, tmp_path: Path) -> None:
    ends = []
    for device in ("cpu", "cuda"):
        run = {"threads": 1, "device": device}
        for rounds in (2, 3):
            spikefed.run(config(variant, rounds=rounds, run=run), out=tmp_path / device, resume=True)
        folder = RunFolder(tmp_path / device)
        ends.append(folder.read_lines(folder.metrics)[-1]["server_loss"])
    assert ends[0] == pytest.approx(ends[1], rel=0.2)
