"""The first probe: the numbers that were there before, and files that older runs left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import spikefed
from probes.subjects import CLASSES, network, subject
from spikefed.experiment import probe_run
from spikefed.hardware import energy_report
from spikefed.networks import ann_twin
from spikefed.probes import run_probe
from spikefed.probes.energy import records_of


def rows(records: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in records if row["part"] == part]


def test_its_numbers_are_the_report_s() -> None:
    net, shown = network(), subject()
    report = energy_report(net, shown.preprocess(shown.images), generator=torch.Generator())
    found = run_probe(net, shown, "energy")
    *layers, total = rows(found.records, "layers")
    assert [row["layer"] for row in layers] == [layer.counts.name for layer in report.layers]
    assert total["snn_pj"] == pytest.approx(report.total("paper_fp32_pj"))
    for key, name in (("ann_pj", "ann_pj"), ("lemaire_pj", "lemaire_pj"), ("memory_pj", "simple_pj")):
        assert sum(row[key] for row in layers) == pytest.approx(report.total(name)) == pytest.approx(total[key])
    assert [row["against"] for row in rows(found.records, "comparisons")] == [b.against for b in report.break_even]
    assert {layer["layer"]: layer["spike_rate"] for layer in layers} == pytest.approx(report.spike_rates)
    assert found.headline["snn_pj"] == total["snn_pj"]


def test_its_settings_reach_the_models() -> None:
    net, shown = network(), subject()
    plain, dear = (run_probe(net, shown, "energy", hyper={"first_layer": f}) for f in ("once", "every-step"))
    assert dear.headline["snn_pj"] > plain.headline["snn_pj"]  # type: ignore[operator]
    heavy = run_probe(net, shown, "energy", hyper={"weight_bits": 32})
    assert [r["ann_pj"] for r in rows(heavy.records, "comparisons")] != [
        r["ann_pj"] for r in rows(plain.records, "comparisons")
    ]
    assert run_probe(net, subject(80), "energy").images == 64


def test_an_ordinary_network_has_one_side_only() -> None:
    net = ann_twin("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=CLASSES)
    found = run_probe(net, subject(), "energy")
    assert found.headline["ann_pj"] and "snn_pj" not in found.headline
    assert rows(found.records, "comparisons") == []


def test_the_file_of_a_run_holds_what_the_probe_finds(tmp_path: Path) -> None:
    tiny = {
        "name": "tiny", "rounds": 1, "run": {"threads": 1}, "method": {"name": "fsd"},
        "data": {"clients": 2, "private_per_client": 40, "public": 24, "test_limit": 60},
        "network": {"name": "4C3-AP2", "steps": 4}, "training": {"local_epochs": 1, "local_batch": 16},
    }  # fmt: skip
    run = spikefed.run(tiny, out=tmp_path / "run")
    tree = json.loads((run / "energy.json").read_text())
    assert set(tree) == {"totals", "layers", "client_round"}
    assert probe_run(run, "energy")["measurements"][0]["records"] == records_of(tree)
