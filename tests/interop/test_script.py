"""The torch script: equal outputs, traced, pruned and trained by others' tools, without this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.interop.nets import ABOUT, built, lived_in, module_of
from torch import nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.interop import About, flat, script
from spikefed.neurons import LIFParameters, SendOnDelta
from spikefed.training import Preprocess

EAGER = LIFParameters(decay=0.5, v_threshold=0.2)
CHARGED = LIFParameters(kind="soft", decay=1.0, v_threshold=0.3, strict=False, start=0.5)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("small", {}),
    ("8C3-AP2-32FC", {"norm": "none", "neuron": LIFParameters(decay=0.95, v_threshold=0.1, gain=0.7, strict=False)}),
    ("small", {"norm": "bntt", "neuron": LIFParameters(kind="soft", decay=0.9, v_threshold=0.3)}),
    ("small", {"norm": "tdbn", "readout": "current"}),
    ("small", {"norm": "none", "neuron": CHARGED, "readout": "current"}),
    ("small", {"coding": "bernoulli"}),
    ("small", {"coding": "poisson"}),
    ("small", {"coding": "latency"}),
    ("vgg-small", {"pooling": "max"}),
    ("8C3-AP2-8C3-GAP", {"pooling": "stride"}),
    ("resnet-small", {}),
    ("cell:0303-0030-2002-0200:width=8", {"norm": "bntt", "readout": "current", "neuron": EAGER}),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_script_gives_the_networks_outputs(name: str, settings: dict[str, Any]) -> None:
    net = built(name, **settings)
    twin = module_of(script(flat(net), ABOUT)).load()
    x = torch.rand(9, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = net(x, generator=torch.Generator().manual_seed(1))
        theirs = twin(x, torch.Generator().manual_seed(1))
    assert ours.shape == theirs.shape and ours.abs().sum() > 0, "a silent network shows nothing"
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_the_task_that_is_on_is_what_a_file_holds(norm: str) -> None:
    net = built("8C3-AP2-16FC", norm=norm, readout="current", neuron=EAGER)
    kinds: list[networks.Adapter] = ["thresholds", "low-rank", "head"]
    if norm != "none":
        kinds.append("bn")
    networks.adapt(net, kinds, tasks=2, outputs=[[0, 1, 2], [4, 7]])
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    x = torch.rand(9, 1, 12, 12, generator=draw)
    outs = []
    for task in (0, 1):
        networks.select_task(net, task)
        outs.append(net(x).detach())
        theirs = module_of(script(flat(net), ABOUT)).load()(x)
        torch.testing.assert_close(theirs, outs[-1], rtol=0, atol=1e-5)
    assert not torch.equal(outs[0], outs[1]) and bool(outs[0].any())


def test_parts_that_are_no_weights_are_refused() -> None:
    cases: list[tuple[list[networks.Adapter], networks.Per]] = [(["thresholds"], "neuron"), (["proxy1x1"], "channel")]
    for kinds, per in cases:
        net = networks.adapt(built("4C3-AP2-4C3"), kinds, per=per)
        with pytest.raises(ConfigError, match="which no format knows: what it would hold is the parent"):
            flat(net)


def test_data_with_time_steps_and_send_on_delta() -> None:
    draw = torch.Generator().manual_seed(0)
    for coding in ("direct", SendOnDelta(0.2)):
        net = lived_in(networks.build("small-1d", input_shape=(3, 1, 5), classes=4, steps=6, coding=coding))
        about = About("series", Preprocess("raw"), tuple("abcd"), values="reals", timed=True)
        twin = module_of(script(flat(net), about)).load()
        x = torch.randn(7, 6, 3, 1, 5, generator=draw)
        with torch.no_grad():
            torch.testing.assert_close(twin(x), net(x), rtol=0, atol=1e-6)


def test_the_ann_twin() -> None:
    net = lived_in(networks.ann_twin("resnet-small", input_shape=(1, 12, 12), classes=10))
    x = torch.rand(5, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(module_of(script(flat(net), ABOUT)).load()(x), net(x), rtol=1e-5, atol=1e-5)


def test_pixels_and_class_names_come_along() -> None:
    net = built("8C3-AP2", side=8)
    told = About("it", Preprocess("standard", (30.0,), (60.0,)), ("t-shirt", 'a "bag"'), values="pixels")
    made = module_of(script(flat(net), told))
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(made.preprocess(images), told.preprocess(images), rtol=0, atol=0)
    assert told.class_names == made.CLASS_NAMES
    labels, scores = made.predict(images)
    assert torch.equal(labels, net(told.preprocess(images)).mean(0).argmax(1)) and scores.shape == (4, 10)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.parametrize("name", ["small", "resnet-small"])
def test_torch_export_and_trace_take_it_with_any_batch(name: str) -> None:
    twin = module_of(script(flat(built(name)), ABOUT)).load()
    x = torch.rand(8, 1, 12, 12)
    traced = torch.jit.trace(twin, (x,))
    whole = torch.export.export(twin, (x,), dynamic_shapes={"x": {0: torch.export.Dim("b", min=2)}})
    with torch.no_grad():
        for other in (traced, whole.module()):
            assert torch.equal(other(x[:3]), twin(x[:3]))


@pytest.mark.parametrize("steps", [1, 4])
def test_torch_pruning_prunes_it(steps: int) -> None:
    pruning = pytest.importorskip("torch_pruning")
    twin = module_of(script(flat(built("resnet-small")), ABOUT)).load()
    x = torch.rand(2, 1, 12, 12)
    last = [module for module in twin.modules() if isinstance(module, nn.Linear)][-1]
    before = sum(p.numel() for p in twin.parameters())
    twin.steps = steps
    pruner = pruning.pruner.MagnitudePruner(
        twin, x, importance=pruning.importance.MagnitudeImportance(), pruning_ratio=0.5, ignored_layers=[last]
    )
    pruner.step()
    twin.steps = 4
    assert sum(p.numel() for p in twin.parameters()) < before / 2
    assert twin(x).shape == (4, 2, 10)


def test_it_trains() -> None:
    net = built("8C3-AP2-16FC", norm="none", neuron=LIFParameters(decay=0.5, v_threshold=0.05))
    twin = module_of(script(flat(net), ABOUT)).load()
    x = torch.rand(4, 1, 12, 12)
    for each in (net, twin):
        each(x).sum().backward()
    ours, theirs = net.get_submodule("conv1").weight.grad, twin.conv1.weight.grad
    assert ours.abs().sum() > 0
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_it_runs_where_spikefed_is_not(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(script(flat(built("small")), ABOUT))
    code = (
        "import sys, torch; sys.modules['spikefed'] = None\n"
        "import model; print(*model.predict(torch.zeros(2, 1, 12, 12))[0].shape, model.CLASS_NAMES[9])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "j"]


def test_equal_networks_give_equal_texts() -> None:
    assert script(flat(built("small")), ABOUT) == script(flat(built("small")), ABOUT)


def test_what_cannot_leave_is_one_sentence() -> None:
    own = networks.wrap(nn.Linear(4, 2), steps=2, classes=2)
    with pytest.raises(ConfigError, match="network Linear is a module of your own"):
        flat(own)
    ruined = built("small")
    with torch.no_grad():
        ruined.get_submodule("conv2").weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ConfigError, match="layer conv2 holds weights that are not finite"):
        flat(ruined)
