"""The same network, images and thresholds through SpikingJelly's converter: the same outputs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conversion.test_convert import images, twin

from spikefed.conversion import convert

pytestmark = pytest.mark.filterwarnings("ignore")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ann2snn_peer.py"


@pytest.fixture(scope="module")
def peer() -> Any:
    pytest.importorskip("spikingjelly", exc_type=ImportError)
    if not SCRIPT.is_file():
        pytest.skip("no checkout")
    spec = importlib.util.spec_from_file_location("ann2snn_peer", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_folded_ann_is_the_ann(peer: Any) -> None:
    ann = twin()
    x = images()
    with torch.no_grad():
        assert torch.allclose(peer.plain(ann)(x), ann(x)[0], atol=1e-4)


def test_max_thresholds_give_their_spikes(peer: Any) -> None:
    ann = twin()
    x = images()
    ours = convert(ann, x, steps=8, recipe="max", start=0.0, compensate=False).network
    theirs = peer.peer_outputs(peer.peer(ann, x, "max"), x, (8,))[8]
    with torch.no_grad():
        near = (ours(x).mean(dim=0) - theirs).abs() < 1e-3 * theirs.abs().mean()
    assert float(near.float().mean()) > 0.9  # a potential at the threshold itself falls either way by rounding


def test_in_four_steps_ours_is_nearer_to_the_ann(peer: Any) -> None:
    ann = twin()
    x = images()
    unseen = images(200, seed=9)
    with torch.no_grad():
        logits = ann(unseen)[0]
        ours = float((convert(ann, x, steps=4).network(unseen).mean(dim=0) - logits).square().mean())
    for recipe in peer.PEER_RECIPES:
        theirs = peer.peer_outputs(peer.peer(ann, x, recipe), unseen, (4,))[4]
        assert ours < float((theirs - logits).square().mean()), recipe
