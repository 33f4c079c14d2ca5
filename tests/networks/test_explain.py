"""`explain` says what the dispatcher does."""

from __future__ import annotations

import torch
from torch import nn

from spikefed.networks import build, explain, wrap
from spikefed.neurons import LIF, fused, use_kernels


def test_every_layer_is_explained_and_the_reference_switch_shows():
    net = build("small", input_shape=(1, 8, 8), classes=10, steps=4, readout="current")
    with use_kernels("reference"):
        paths = explain(net)
    assert [path.layer for path in paths] == [layer.plan.name for layer in net.layers]
    assert "once per image" in paths[0].weights and "once" not in paths[1].weights
    assert all("switched to the reference" in path.why for path in paths[:-1])
    assert "currents" in paths[-1].why


def test_the_path_named_is_the_path_taken(monkeypatch):
    net = build("small", input_shape=(1, 8, 8), classes=10, steps=2)
    calls = []
    native = fused.norm_lif_native
    monkeypatch.setattr(fused, "norm_lif_native", lambda *a, **k: calls.append(1) or native(*a, **k))
    with use_kernels("auto"):
        for dtype in (torch.float32, torch.float64):
            calls.clear()
            net.to(dtype)(torch.rand(2, 1, 8, 8, dtype=dtype))
            said = sum("native kernel" in path.neurons for path in explain(net, dtype))
            assert said == len(calls)


def test_foreign_neurons_run_at_eager_speed():
    (path,) = explain(wrap(nn.Sequential(nn.Flatten(2), LIF(decay=0.5)), steps=2, classes=4))
    assert path.layer == "module.1" and "eager" in str(path)
