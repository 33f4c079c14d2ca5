"""The ONNX file in onnxruntime: equal outputs, any batch, what it says of itself."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from tests.interop.nets import ABOUT, built, lived_in
from tests.interop.test_script import CASES

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.interop import About, flat, onnx_file
from spikefed.training import Preprocess

runtime = pytest.importorskip("onnxruntime")


def ran(data: bytes, x: torch.Tensor) -> list[np.ndarray]:
    return runtime.InferenceSession(data).run(None, {"input": x.numpy()})


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_onnxruntime_gives_the_networks_outputs(name: str, settings: dict[str, Any]) -> None:
    net = built(name, **settings)
    data = onnx_file(flat(net), ABOUT)
    x = torch.rand(9, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    coded = x
    if net.encoder.name != "direct":
        coded = net.encoder.encode(x, net.steps, torch.Generator().manual_seed(1)).transpose(0, 1).contiguous()
    with torch.no_grad():
        ours = net(x, generator=torch.Generator().manual_seed(1))
    assert ours.abs().sum() > 0
    for rows in (9, 1):
        outputs, scores = ran(data, coded[:rows])
        np.testing.assert_allclose(outputs, ours[:, :rows].numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(scores, outputs.mean(0), rtol=0, atol=1e-6)


def test_data_with_time_steps() -> None:
    net = lived_in(networks.build("small-1d", input_shape=(3, 1, 5), classes=4, steps=6))
    about = About("series", Preprocess("raw"), tuple("abcd"), values="reals", timed=True)
    x = torch.randn(7, 6, 3, 1, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.testing.assert_allclose(ran(onnx_file(flat(net), about), x)[0], net(x).numpy(), rtol=0, atol=1e-5)


def test_the_ann_twin() -> None:
    net = lived_in(networks.ann_twin("resnet-small", input_shape=(1, 12, 12), classes=10))
    x = torch.rand(5, 1, 12, 12)
    with torch.no_grad():
        np.testing.assert_allclose(ran(onnx_file(flat(net), ABOUT), x)[0], net(x).numpy(), rtol=1e-4, atol=1e-4)


def test_it_says_what_it_is_and_equal_networks_give_equal_bytes() -> None:
    net = flat(built("small"))
    data = onnx_file(net, About("it", Preprocess("standard", (1.0,), (2.0,)), ("cat", "dog")))
    told = runtime.InferenceSession(data).get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == ["cat", "dog"] and told["steps"] == "4"
    assert json.loads(told["preprocess"]) == {"mode": "standard", "mean": [1.0], "std": [2.0]}
    assert data == onnx_file(net, About("it", Preprocess("standard", (1.0,), (2.0,)), ("cat", "dog")))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"export to onnx needs the package onnx; pip install 'spikefed\[onnx\]'"):
        onnx_file(flat(built("8C3-AP2")), ABOUT)
