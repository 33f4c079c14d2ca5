"""Gradient inversion: the network in plain operations, images that come back, and what keeps them from it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.data import load
from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, build
from spikefed.neurons import ATan, LIFParameters
from spikefed.probes import Subject, run_probe
from spikefed.probes.inversion import InversionHyperparameters, gradients, upload
from spikefed.probes.transparent import Transparent
from spikefed.training import Preprocess, rate_cross_entropy

LIVELY = LIFParameters(kind="soft", decay=0.8, v_threshold=0.3, surrogate=ATan(2.0), start=0.5)


def digits(images: int = 120) -> Subject:
    part = load("digits", "train")
    return Subject(part.images[:images], part.labels[:images], Preprocess(), tuple("0123456789"))


def networks() -> dict[str, nn.Module]:
    options = {"input_shape": (1, 8, 8), "classes": 10, "seed": 3}
    return {
        "SNN": build("4C3-AP2-6C3-12FC", steps=3, norm="none", neuron=LIVELY, **options),
        "SNN, norm a step": build("small", steps=3, norm="bntt", **options),
        "ANN": ann_twin("small", **options),
    }


@pytest.mark.parametrize("name", networks())
def test_it_is_the_network(name: str) -> None:
    net = networks()[name]
    x = Preprocess()(digits(40).images)
    with torch.no_grad():
        net.train()
        net(x)  # norms have seen something
        net.eval()
        glass = Transparent(net)
        assert torch.allclose(glass(glass.tensors, x), net(x), atol=1e-4)


def test_its_gradient_is_that_of_the_kernels() -> None:
    net = networks()["SNN"].eval()
    subject = digits(6)
    x = subject.preprocess(subject.images)
    glass = Transparent(net)
    found = gradients(glass, glass.tensors, x, subject.labels)
    rate_cross_entropy(net(x), subject.labels, 4.0).backward()
    weights = [p.grad for name, p in net.named_parameters() if name.endswith("weight")]
    ours = [g for g in found if g.dim() > 1 and g.shape[0] != 3]
    assert len(weights) == len(ours)
    for mine, theirs in zip(ours, weights, strict=True):
        assert theirs is not None and torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6)


def test_an_upload_of_small_steps_is_the_gradient() -> None:
    glass = Transparent(networks()["ANN"].eval())
    subject = digits(4)
    x = subject.preprocess(subject.images)
    hyper = InversionHyperparameters(local_steps=3, step_lr=1e-5)
    told = upload(glass, x, subject.labels, hyper)
    slopes = gradients(glass, glass.tensors, x, subject.labels)
    for change, slope in zip(told, slopes, strict=True):
        assert float((change - slope).norm()) < 0.05 * float(slope.norm()) + 1e-2


@pytest.mark.parametrize("spiking", [False, True])
def test_images_come_back_from_the_gradient_of_one(spiking: bool) -> None:
    options = {"input_shape": (1, 8, 8), "classes": 10, "norm": "none", "seed": 3}
    net = build("16C3-64FC", steps=4, neuron=LIVELY, **options) if spiking else ann_twin("16C3-64FC", **options)
    found = run_probe(net, digits(), "inversion", hyper={"victims": 4, "steps": 80, "smoothness": 0.0, "lr": 0.1})
    attack, blind = found.records
    assert float(attack["found_share"] or 0) >= 0.75 > 0.02 == attack["chance_share"]
    if not spiking:
        assert float(found.headline["gain_db"] or 0) > 3 and float(attack["match"] or 0) > 0.95
    assert float(blind["psnr_db"] or 0) > 5


def test_what_cannot_be_attacked_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="has branches"):
        run_probe(build("resnet-small", input_shape=(1, 8, 8), classes=10, steps=2), digits(), "inversion")
    drawn = build("4C3-AP2", input_shape=(1, 8, 8), classes=10, steps=2, coding="bernoulli")
    with pytest.raises(ConfigError, match="set network.coding = 'direct'"):
        run_probe(drawn, digits(), "inversion")
    with pytest.raises(ConfigError, match="in uploads of 4; raise victims"):
        run_probe(networks()["ANN"], digits(), "inversion", hyper={"victims": 2, "batch": 4})
