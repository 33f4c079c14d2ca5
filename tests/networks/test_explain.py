"""`explain` says what the dispatcher did."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.networks import build, explain, wrap
from spikefed.neurons import LIF, fused, run_chain, use_kernels


def small(**more) -> nn.Module:
    return build("small", input_shape=(1, 8, 8), classes=10, steps=4, **more)


def test_every_layer_is_explained_and_the_reference_switch_shows():
    net = small(readout="current")
    with use_kernels("reference"):
        paths = explain(net)
    assert [path.layer for path in paths] == [layer.plan.name for layer in net.layers]
    assert ["once for all" in path.weights for path in paths] == [True, False, False, False]
    assert all(path.neurons.startswith("reference") for path in paths[:-1])
    assert "currents" in paths[-1].neurons and "weights dense" in str(paths[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_path_named_is_the_path_taken(dtype, monkeypatch):
    net = small().to(dtype)
    calls = []
    native = fused.norm_lif_native
    monkeypatch.setattr(fused, "norm_lif_native", lambda *a, **k: calls.append(1) or native(*a, **k))

    def counted(x, chain):
        out = run_chain(x, chain)
        calls.extend([] if out is None else chain)
        return out

    for module in ("chained", "spiking"):
        monkeypatch.setattr(sys.modules[f"spikefed.networks.layers.{module}"], "run_chain", counted)
    with use_kernels("auto"):
        paths = explain(net, torch.rand(2, 1, 8, 8, dtype=dtype))
    assert sum(path.neurons.startswith("fused") for path in paths) == len(calls)


def test_explaining_leaves_no_trace():
    net = small()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    state = torch.get_rng_state()
    explain(net)
    assert net.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())


def test_foreign_neurons_run_as_written_and_an_unknown_shape_is_asked_for():
    net = wrap(nn.Sequential(nn.Flatten(2), LIF(decay=0.5)), steps=2, classes=4)
    (path,) = explain(net, torch.rand(3, 1, 2, 2))
    assert path.layer == "module.1" and "author" in str(path)
    with pytest.raises(ConfigError, match="call explain"):
        explain(net)
