"""State dicts of SpikingJelly and snnTorch on our layout: equal spikes, and sentences where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.interop import lay_state
from spikefed.networks import build
from spikefed.neurons import LIFParameters

X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
NEURON = LIFParameters(decay=0.5, gain=0.5, v_threshold=0.1, strict=False)


def ours(**changed: Any) -> Any:
    told = {"input_shape": (1, 8, 8), "classes": 4, "steps": 4, "norm": "none", "neuron": NEURON, "seed": 5}
    return build("6C3-AP2", **{**told, **changed}).eval()


def layers(neuron: Any) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), neuron(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 4), neuron()
        )


def test_spikingjelly(tmp_path: Path) -> None:
    jelly = pytest.importorskip("spikingjelly.activation_based.neuron")
    theirs = layers(lambda: jelly.LIFNode(tau=2.0, v_threshold=0.1))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    net = ours()
    lay_state(net, tmp_path / "theirs.pt")
    with torch.no_grad():
        spikes = torch.stack([theirs(X) for _ in range(4)])
        assert spikes.sum() > 0 and torch.equal(net(X), spikes)


def test_snntorch_and_its_neurons_are_compared() -> None:
    snn = pytest.importorskip("snntorch")
    theirs = layers(lambda: snn.Leaky(beta=0.9, threshold=0.3, reset_mechanism="zero", reset_delay=False))
    neuron = LIFParameters(decay=0.9, v_threshold=0.3)
    net = ours(neuron=neuron)
    lay_state(net, theirs.state_dict())
    assert torch.equal(net.get_submodule("fc1").weight, theirs[4].weight)
    for changed, text in (
        (LIFParameters(decay=0.5, v_threshold=0.3), "have beta 0.9, the network's have 0.5"),
        (LIFParameters(decay=0.9, v_threshold=1.0), "have threshold 0.3, the network's have 1"),
        (LIFParameters(kind="soft", decay=0.9, v_threshold=0.3), r"reset otherwise than the network's \('soft'\)"),
    ):
        with pytest.raises(ConfigError, match=text):
            lay_state(ours(neuron=changed), theirs.state_dict())


@pytest.mark.parametrize(("mechanism", "delay", "kind"), [("zero", True, "hard"), ("subtract", False, "soft")])
def test_snntorch_fires_alike_after_either_reset(mechanism: str, delay: bool, kind: Any) -> None:
    snn = pytest.importorskip("snntorch")
    theirs = layers(
        lambda: snn.Leaky(
            beta=0.6, threshold=0.1, reset_mechanism=mechanism, reset_delay=delay, init_hidden=True, output=False
        )
    )
    net = ours(neuron=LIFParameters(kind=kind, decay=0.6, v_threshold=0.1))
    lay_state(net, theirs.state_dict(), reset_delay=delay)
    with torch.no_grad():
        spikes = torch.stack([theirs(X) for _ in range(4)])
        assert spikes.sum() > 0 and torch.equal(net(X), spikes)


def test_a_late_subtraction_is_none_of_ours() -> None:
    snn = pytest.importorskip("snntorch")
    theirs = layers(lambda: snn.Leaky(beta=0.6, threshold=0.1))
    net = ours(neuron=LIFParameters(kind="soft", decay=0.6, v_threshold=0.1))
    with pytest.raises(ConfigError, match="take their threshold away a step later, after the leak"):
        lay_state(net, theirs.state_dict())


def test_synapses_that_decay_and_learnt_time_constants_are_compared() -> None:
    snn = pytest.importorskip("snntorch")
    synaptic = layers(lambda: snn.Synaptic(alpha=0.9, beta=0.6, threshold=0.1, reset_mechanism="zero"))
    with pytest.raises(ConfigError, match="have a synaptic current that decays"):
        lay_state(ours(neuron=LIFParameters(decay=0.6, v_threshold=0.1)), synaptic.state_dict())
    jelly = pytest.importorskip("spikingjelly.activation_based.neuron")
    learnt = layers(lambda: jelly.ParametricLIFNode(init_tau=4.0, v_threshold=0.1))
    with pytest.raises(ConfigError, match="have beta 0.75, the network's have 0.5"):
        lay_state(ours(), learnt.state_dict())
    lay_state(ours(neuron=LIFParameters(decay=0.75, gain=0.25, v_threshold=0.1, strict=False)), learnt.state_dict())


def test_batch_norm_comes_along() -> None:
    theirs = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(384, 4)
    )
    theirs(X)
    net = build("6C3", input_shape=(1, 8, 8), classes=4, steps=4, readout="current").eval()
    lay_state(net, theirs.state_dict())
    assert torch.equal(net.get_submodule("conv1").norm.running_var, theirs[1].running_var)


def test_what_does_not_fit_is_one_sentence_and_changes_nothing(tmp_path: Path) -> None:
    net = ours()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    plain = layers(nn.Identity).state_dict()
    for state, text in (
        (dict(list(plain.items())[:2]), "has 1 layers with tensors, network 6C3-AP2 has 2"),
        ({name: t for name, t in plain.items() if name != "4.bias"}, "the network has 'bias' of 4"),
        ({**plain, "4.weight": torch.zeros(4, 90)}, r"'4.weight' of the state dict has shape \[4, 90\]"),
    ):
        with pytest.raises(ConfigError, match=text):
            lay_state(net, state)
    for state, text in (
        ([1], "a list is no state dict"),
        ({"state_dict": plain}, "no tensor; give its entry 'state_dict'"),
        ({**plain, "4.bias": torch.full((4,), torch.nan)}, "'4.bias' of the state dict holds numbers that are not fin"),
    ):
        with pytest.raises(ConfigError, match=text):
            lay_state(net, cast(Any, state))
    (tmp_path / "no.pt").write_text("hello")
    for path, text in ((tmp_path / "no.pt", "cannot be read as a state dict"), (tmp_path / "none.pt", "no file")):
        with pytest.raises(ConfigError, match=text):
            lay_state(net, path)
    torch.save({"state_dict": plain, "epoch": 3}, tmp_path / "checkpoint.pt")
    lay_state(ours(), tmp_path / "checkpoint.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
