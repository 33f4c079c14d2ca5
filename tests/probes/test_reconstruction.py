"""Classes rebuilt from weights: a trained network shows them, an untrained one does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.data import load
from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, build, wrap
from spikefed.probes import Subject, run_probe
from spikefed.training import Preprocess, rate_cross_entropy, train

HYPER = {"rebuilt": 40, "steps": 60, "judge": "16C3-AP2-32FC", "epochs": 25}


def digits(images: int = 600) -> Subject:
    part = load("digits", "train")
    return Subject(part.images[-images:], part.labels[-images:], Preprocess(), tuple("0123456789"))


def trained(net: nn.Module) -> nn.Module:
    part = load("digits", "train")
    optim = torch.optim.Adam(net.parameters(), lr=3e-3)
    options = {"epochs": 8, "batch_size": 32, "preprocess": Preprocess(), "generator": torch.Generator().manual_seed(0)}
    train(net, part.images[:600], part.labels[:600], lambda o, y: rate_cross_entropy(o, y, 4.0), optim, **options)
    return net.eval()


def test_a_trained_network_shows_its_classes_and_an_untrained_one_does_not() -> None:
    options = {"input_shape": (1, 8, 8), "classes": 10, "seed": 2}
    shown = run_probe(trained(build("16C3-AP2-32FC", steps=4, **options)), digits(), "reconstruction", hyper=HYPER)
    rows = {row["view"]: row for row in shown.records}
    assert list(rows) == ["network", "ReLU view", "noise", "real"]
    assert float(rows["real"]["hit_share"] or 0) > 0.85  # the judge knows its trade
    assert float(rows["noise"]["hit_share"] or 0) < 0.3
    assert max(float(rows[view]["hit_share"] or 0) for view in ("network", "ReLU view")) > 0.5
    assert shown.headline["chance_share"] == 0.1
    fresh = run_probe(ann_twin("16C3-AP2-32FC", **options), digits(), "reconstruction", hyper=HYPER)
    assert float(fresh.headline["hit_share"] or 0) < 0.35 and [r["view"] for r in fresh.records][1] == "noise"


def test_a_network_without_a_classifier_is_a_sentence() -> None:
    module = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    net = wrap(module, steps=1, classes=10, readout="current", mode="step")
    with pytest.raises(ConfigError, match="no linear classifier of 10 rows"):
        run_probe(net, digits(40), "reconstruction", hyper=HYPER)
