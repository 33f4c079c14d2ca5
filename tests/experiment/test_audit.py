"""What leaks, measured on runs: probes see uploads that a run keeps, and networks that a method keeps itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import spikefed
from experiment.conftest import TINY
from spikefed.experiment import probe_run


def records(run: Path, probe: str) -> list[dict[str, Any]]:
    return json.loads((run / "probes" / f"{probe}.json").read_text())["measurements"][-1]["records"]


@pytest.mark.parametrize("method", ["fedavg", "fsd"])
def test_both_audits_of_a_run(method: str, tmp_path: Path) -> None:
    tree = {
        **TINY,
        "rounds": 1,
        "data": {**TINY["data"], "clients": 3, "partition": "dirichlet", "alpha": 0.3},
        "method": {"name": "fedavg"} if method == "fedavg" else TINY["method"],
        "run": {"threads": 1, "keep_clients": method == "fedavg"},
        "probe": [{"name": "membership", "members": 60}, {"name": "mixture"}],
    }
    run = spikefed.run(tree, out=tmp_path / "run")
    rows = records(run, "membership")
    assert [row["network"] for row in rows if row["attacker"] == "loss"] == [
        "server",
        "client 0",
        "client 1",
        "client 2",
    ]
    assert {row["attacker"] for row in rows if row["network"] == "client 1"} == {"loss", "ratio", "reference"}
    assert all(0 <= row["auc_low"] <= row["auc"] <= row["auc_high"] <= 1 for row in rows)
    assert {(row["upload"], row["client"]) for row in records(run, "mixture")} == {
        (upload, client) for upload in ("outputs", "labels") for client in range(3)
    }
    again = probe_run(run, "membership", {"members": 60}, label="again")
    assert again["measurements"][0]["records"] == rows
