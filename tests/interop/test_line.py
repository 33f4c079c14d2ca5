"""Networks of 1-d convolutions leave as torch, ONNX, C and NIR, and come back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.interop.nets import lived_in, module_of
from tests.interop.test_c99 import compiled, told

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.interop import About, c_file, flat, nir_file, nir_graph, onnx_file, pre_flight, read_nir, script
from spikefed.neurons import LIFParameters
from spikefed.training import Preprocess

ABOUT = About("series", Preprocess("raw"), tuple("abcde"), values="reals", timed=True)
HARD = LIFParameters(decay=0.7, v_threshold=0.3)
CASES: list[tuple[str, dict[str, Any]]] = [
    ("conv-1d", {}),
    ("conv-1d", {"pooling": "stride", "norm": "bntt", "readout": "current"}),
    ("conv-1d", {"pooling": "max", "readout": "current"}),
    ("resnet-1d", {}),
]
STRIDED: list[tuple[str, dict[str, Any]]] = [
    ("conv-1d", {"pooling": "stride", "neuron": HARD}),
    ("resnet-1d", {"pooling": "stride", "neuron": HARD}),
    ("8C1x3-AP1x2-8C1x1-6FC", {"pooling": "stride", "norm": "none", "neuron": HARD}),
]


def built(name: str, height: int = 1, **settings: Any) -> Any:
    return lived_in(networks.build(name, **{"input_shape": (3, height, 11), "classes": 5, "steps": 4, **settings}))


def series(count: int = 9, height: int = 1) -> torch.Tensor:
    return torch.randn(count, 4, 3, height, 11, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_script_and_onnx_give_the_networks_outputs(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    net = built(name, **settings)
    x = series()
    with torch.no_grad():
        ours = net(x)
        torch.testing.assert_close(module_of(script(flat(net), ABOUT)).load()(x), ours, rtol=0, atol=1e-5)
    assert ours.abs().sum() > 0
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(onnx_file(flat(net), ABOUT))
    (outputs, *_) = session.run(["outputs"], {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(outputs, ours.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "height", "settings"), [
    *((name, 1, settings) for name, settings in CASES), ("6C1x5-AP1x2-8C3-AP2-4C1x3-9FC", 6, {}),
])  # fmt: skip
def test_c_gives_the_networks_scores(name: str, height: int, settings: dict[str, Any], tmp_path: Path) -> None:
    net = built(name, height, **settings)
    x = series(20, height)
    _, scores = told(compiled(c_file(flat(net), ABOUT), tmp_path), x)
    with torch.no_grad():
        ours = net(x).mean(0)
    assert ours.abs().sum() > 0
    np.testing.assert_allclose(scores, ours.numpy(), rtol=0, atol=2e-5)


def saved(net: Any, folder: Path) -> Path:
    (folder / "net.nir").write_bytes(nir_file(flat(net), ABOUT))
    return folder / "net.nir"


@pytest.mark.parametrize(("name", "settings"), STRIDED)
def test_nir_there_and_back_nothing_changes(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    net = built(name, **settings)
    path = saved(net, tmp_path)
    kinds = {type(node).__name__ for node in nir.read(path).nodes.values()}
    assert "Conv1d" in kinds and "Conv2d" not in kinds
    back = read_nir(path, steps=4)
    assert back.input_shape == net.input_shape
    with torch.no_grad():
        assert torch.equal(back(series()), net(series())) and net(series()).sum() > 0


@pytest.mark.parametrize(("name", "settings"), STRIDED)
def test_spikingjelly_gives_the_same_spikes(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("nirtorch")
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    net = built(name, **settings)
    verdicts = {verdict.reader: verdict for verdict in pre_flight(nir_graph(flat(net), ABOUT))}
    assert verdicts["SpikingJelly 2.0"].takes and verdicts["snnTorch 1.0"].why == "does not read Conv1d"
    theirs = exchange.import_from_nir(saved(net, tmp_path))
    state, outputs = None, []
    for step in series()[:, :, :, 0].unbind(1):
        out, state = theirs(step, state)
        outputs.append(out)
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(outputs), net(series()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "height", "settings", "sentence"), [
    ("conv-1d", 1, {}, "conv1 of conv-1d pools a series, which NIR cannot say; train with network.pooling = 'stride'"),
    ("8C1x3-6FC", 4, {}, "conv1 of 8C1x3-6FC works on maps of 4 rows beside convolutions along one"),
    ("8C1x3-8C3-6FC", 1, {}, "conv2 of 8C1x3-8C3-6FC is a square convolution beside 1-d ones, .* write it as 8C1x3"),
])  # fmt: skip
def test_nir_says_what_it_cannot(name: str, height: int, settings: dict[str, Any], sentence: str) -> None:
    pytest.importorskip("nir")
    with pytest.raises(ConfigError, match=sentence):
        nir_graph(flat(built(name, height, neuron=HARD, **settings)), ABOUT)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"padding": 0}, "is a convolution of width 3 with padding 0, stride 1, dilation 1, groups 1; spikefed reads odd"),
    ({"dilation": 2}, "dilation 2"),
])  # fmt: skip
def test_foreign_conv1d_that_we_cannot_compute_is_named(changes: dict[str, int], sentence: str, tmp_path: Path) -> None:
    nir = pytest.importorskip("nir")
    told = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, **changes}
    conv = nir.Conv1d(8, np.ones((2, 1, 3), np.float32), bias=np.zeros(2, np.float32), **told)
    nodes = {
        "input": nir.Input({"input": np.array([1, 8])}),
        "conv": conv,
        "output": nir.Output({"output": conv.output_type["output"]}),
    }
    file = io.BytesIO()
    nir.write(file, nir.NIRGraph(nodes, [("input", "conv"), ("conv", "output")]))
    (tmp_path / "foreign.nir").write_bytes(file.getvalue())
    with pytest.raises(ConfigError, match=sentence):
        read_nir(tmp_path / "foreign.nir", steps=2)
