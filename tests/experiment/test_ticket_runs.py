"""Whole runs that search tickets: stopped and resumed, over processes, and what their folders hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from experiment.killing import check_killed_is_whole
from experiment.runs import fingerprint
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.experiment.progress import Quiet
from spikefed.networks import narrowed, read_tensors

SEARCHES: dict[str, dict[str, Any]] = {
    "imp": {"search": "imp", "early_time": True, "probe_rounds": 1, "kl_threshold": 1.0},
    "early-bird": {"search": "early-bird", "masks": 2, "mask_distance": 0.9},
    "snip": {"search": "snip", "payload": "change"},
    "random": {"search": "random"},
    "operations": {"criterion": "operations", "most_operations": 1.0, "restart": "keep"},
    "channels": {"criterion": "operations", "units": "channels", "restart": "keep"},
    "ann": {"search": "one-shot", "search_on": "ann"},
    "own masks": {"personal_masks": True},
}


DATA: dict[str, Any] = {"clients": 2, "private_per_client": 32, "public": 20, "test_limit": 30}


def config(search: str, **changes: Any) -> dict[str, Any]:
    common = {"name": "tickets", "sparsities": [0.5, 0.8], "level_rounds": 2}
    return {
        "name": "tiny",
        "rounds": 8,
        "data": DATA,
        "network": {"name": "4C3-AP2-12FC", "steps": 4, "norm": "bn"},
        "training": {"local_epochs": 1, "local_batch": 16},
        "run": {"threads": 1},
        "method": {**common, **SEARCHES[search]},
        **changes,
    }


@pytest.mark.parametrize("search", SEARCHES)
def test_stopped_resumed_and_over_processes_it_ends_where_it_would_have(search: str, tmp_path: Path) -> None:
    whole = fingerprint(spikefed.run(config(search), out=tmp_path / "whole"))
    for workers in (1, 2):
        tables, out = config(search, run={"threads": 1, "workers": workers}), tmp_path / f"parts{workers}"
        for rounds in (3, 2):
            with pytest.raises(Interrupted):
                spikefed.run(tables, out=out, resume=out.exists(), progress=Stops(rounds))
        assert fingerprint(spikefed.run(tables, out=out, resume=True)) == whole


class Interrupted(Exception):
    """As by Ctrl-C."""


class Stops(Quiet):
    """Interrupts a run after some rounds."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    def round(self, line: dict[str, Any]) -> None:
        self.left -= 1
        if not self.left:
            raise Interrupted


def test_the_run_folder_holds_every_sparsity_and_the_last_ticket(tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(config("random"), out=tmp_path / "run"))
    lines = folder.read_lines(folder.metrics)
    assert [round(line["diagnostics"]["mask_density"], 1) for line in lines] == [0.5] * 2 + [0.2] * 6
    model = read_tensors(folder.model)
    kept = sum(int(m.sum()) for m in model.kept.values()) / sum(m.numel() for m in model.kept.values())
    assert kept == pytest.approx(0.2, abs=0.001)  # within 0.1 points of what was asked for
    assert lines[-1]["upstream_bytes"] < 0.6 * lines[0]["upstream_bytes"]


def test_too_few_rounds_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set rounds = 4"):
        spikefed.run(config("random", rounds=3), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_channels_leave_a_small_file_and_a_network_of_that_size(tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(config("channels"), out=tmp_path / "run"))
    lines = folder.read_lines(folder.metrics)
    assert lines[-1]["diagnostics"]["mask_density"] <= 0.2
    model = spikefed.load_model(folder.path)
    small = narrowed(model.network)
    kept = read_tensors(folder.model).kept
    rest = sum(p.numel() for n, p in model.network.named_parameters() if n not in kept)
    left = sum(int(k.sum()) for k in kept.values())
    assert sum(p.numel() for p in small.parameters()) == left + rest
    assert left <= 0.2 * sum(k.numel() for k in kept.values())
    images = torch.rand(5, *model.input_shape, generator=torch.Generator().manual_seed(0))
    draws = [torch.Generator().manual_seed(1) for _ in range(2)]
    with torch.no_grad():
        said = [net(images, generator=draw) for net, draw in zip((small, model.network), draws, strict=True)]
    assert torch.allclose(said[0], said[1], atol=1e-5)


def test_bitmaps_of_own_masks_travel_once_for_every_change_and_both_ways_carry_survivors(tmp_path: Path) -> None:
    tables = config("own masks", rounds=6, data={**DATA, "clients": 3}, run={"threads": 1, "take_home": True})
    folder = RunFolder(spikefed.run(tables, out=tmp_path / "run"))
    lines = folder.read_lines(folder.ledger)
    for client in range(3):
        up, down = ([m for m in lines if m["client"] == client and m["direction"] == way] for way in ("up", "down"))
        extra = {m["round"]: m["payload_bits"] // 8 - m["paper_bytes"] - 1 for m in up}
        # Two dense rounds; the two levels take one round each, as that before the rewind is the dense one's.
        changed = {r for r, size in extra.items() if size}
        assert changed == {1, 3, 4}  # in round 1 that of everything, as nothing came down before
        assert up[0]["paper_bytes"] == up[1]["paper_bytes"] > up[2]["paper_bytes"] > up[3]["paper_bytes"]
        by_round = {m["round"]: m["paper_bytes"] for m in down}
        assert by_round[3] > by_round[4] > by_round[5] == by_round[6]  # what a client sent last
    metrics = folder.read_lines(folder.metrics)
    density = [[c["own_density"] for c in line["clients"]] for line in metrics]
    assert [round(row[0], 1) for row in density] == [1.0, 1.0, 0.5, 0.2, 0.2, 0.2]
    assert all(0 <= c["accuracy"] <= 1 for c in metrics[-1]["clients"]) and metrics[-1]["clients_accuracy_mean"] > 0
    for client in range(3):
        model = spikefed.load_model(folder.path, client=client)
        left = [p.count_nonzero() / p.numel() for p in model.network.parameters() if p.dim() > 1]
        assert max(left) < 1


def test_sampled_clients_prune_for_themselves_and_a_resumed_run_is_whole(tmp_path: Path) -> None:
    schedule = {"schedule": "sample", "fraction": 0.5}
    tables = config("own masks", data={**DATA, "clients": 4}, participation=schedule)
    whole = fingerprint(spikefed.run(tables, out=tmp_path / "whole"))
    for rounds in (3, 2):
        with pytest.raises(Interrupted):
            spikefed.run(tables, out=tmp_path / "parts", resume=(tmp_path / "parts").exists(), progress=Stops(rounds))
    assert fingerprint(spikefed.run(tables, out=tmp_path / "parts", resume=True)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("search", ["imp", "own masks"])
def test_killed_in_the_middle_of_a_search_and_resumed_it_is_identical(search: str, tmp_path: Path) -> None:
    check_killed_is_whole(tmp_path, config(search), "spikefed.federated.methods.tickets:Tickets", round=4)
