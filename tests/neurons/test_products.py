"""bfloat16 without instructions for it: the numbers of a float32 reference that rounds where bfloat16 rounds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed import native, networks
from spikefed.neurons import (
    LIFParameters,
    norm_lif,
    paths,
    processor,
    products,
    record_paths,
    spike_conv2d,
    spike_linear,
)


@pytest.fixture(autouse=True)
def plain_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the processor's bfloat16 instructions."""
    monkeypatch.setattr(processor, "has_bf16", lambda: False)


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def exact(*shape: int, scale: int = 8, seed: int = 0) -> Tensor:
    """Small multiples of 1/8: their products and sums are exact in float32, in any order."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(-scale, scale + 1, shape, generator=draw) / 8


CONVOLUTIONS = [(5, 20, 3, 1, 1), (8, 12, 5, 1, 2), (6, 9, 3, 2, 1), (7, 5, 1, 1, 0)]
"""In and out channels, kernel, stride, padding: none that Winograd takes, whose sums are not exact."""


@pytest.mark.parametrize("chunk", [1, 3000, 2**21])
@pytest.mark.parametrize(("inputs", "outputs", "kernel", "stride", "padding"), CONVOLUTIONS)
def test_convolution_rounds_where_bfloat16_does(monkeypatch, inputs, outputs, kernel, stride, padding, chunk) -> None:
    monkeypatch.setattr(products, "CHUNK", chunk)
    x = exact(6, inputs, 9, 8).requires_grad_()
    weight, bias = exact(outputs, inputs, kernel, kernel, seed=1).requires_grad_(), exact(outputs).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), record_paths() as choices:
        out = spike_conv2d(x, weight, bias, stride=stride, padding=padding)
    assert "no bfloat16 instructions" in choices[0].reason
    wanted = F.conv2d(x, weight, bias, stride=stride, padding=padding)
    assert out.dtype == torch.bfloat16 and torch.equal(out, wanted.bfloat16())
    upstream = exact(*out.shape, seed=2)
    grads = torch.autograd.grad(out, (x, weight, bias), upstream.bfloat16())
    exactly = torch.autograd.grad(wanted, (x, weight, bias), upstream)
    assert torch.equal(grads[0], rounded(exactly[0]))  # activations are rounded, gradients of weights are not
    assert torch.equal(grads[1], exactly[1]) and torch.equal(grads[2], exactly[2])


def test_linear_rounds_where_bfloat16_does() -> None:
    x, weight, bias = exact(11, 30).requires_grad_(), exact(7, 30, seed=1).requires_grad_(), exact(7).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = spike_linear(x, weight, bias)
    wanted = F.linear(x, weight, bias)
    assert torch.equal(out, wanted.bfloat16())
    upstream = exact(*out.shape, seed=2)
    grads = torch.autograd.grad(out, (x, weight, bias), upstream.bfloat16())
    exactly = torch.autograd.grad(wanted, (x, weight, bias), upstream)
    assert torch.equal(grads[0], rounded(exactly[0]))
    assert torch.equal(grads[1], exactly[1]) and torch.equal(grads[2], exactly[2])


@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_layers_behind_spikes_agree_with_the_rounding_reference(monkeypatch, rate) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    torch.manual_seed(0)
    x = (torch.rand(24, 32, 10, 10) < rate).float().contiguous(memory_format=torch.channels_last)
    x._spikefed_nonzero = int(x.count_nonzero())  # type: ignore[attr-defined]
    x.requires_grad_()
    weight = torch.randn(48, 32, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = spike_conv2d(x, weight, padding=1)
    twin = weight.detach().bfloat16().float().requires_grad_()
    wanted = F.conv2d(x, twin, padding=1)
    assert (out != wanted.bfloat16()).float().mean() < 0.01  # another order of sums
    upstream = rounded(torch.randn_like(wanted))
    grads = torch.autograd.grad(out, (x, weight), upstream.bfloat16())
    exactly = torch.autograd.grad(wanted, (x, twin), upstream)
    assert (grads[0] != rounded(exactly[0])).float().mean() < 0.01
    assert (grads[1] - exactly[1]).norm() < 1e-5 * exactly[1].norm()


@pytest.mark.parametrize("images", [8, 512])
def test_the_weight_gradient_of_a_large_batch_is_summed_in_float32(images) -> None:
    """Torch without bfloat16 instructions adds the images in bfloat16: an error that grows with the batch."""
    torch.manual_seed(0)
    x, upstream = torch.randn(images, 8, 8, 8).bfloat16(), torch.randn(images, 16, 8, 8).bfloat16()
    weight = torch.randn(16, 8, 3, 3)
    wanted = torch.nn.grad.conv2d_weight(x.double(), [16, 8, 3, 3], upstream.double(), padding=1)
    got = products.weight_gradient(upstream, x, weight)
    assert got.dtype == torch.float32
    assert (got - wanted).norm() < 3e-6 * wanted.norm()


def test_the_weight_gradient_of_a_large_batch_on_bfloat16_instructions(monkeypatch) -> None:
    monkeypatch.undo()
    if not processor.has_bf16():
        pytest.skip("this processor has no bfloat16 instructions")
    torch.manual_seed(0)
    x, upstream = torch.randn(512, 8, 8, 8).bfloat16(), torch.randn(512, 16, 8, 8).bfloat16()
    wanted = torch.nn.grad.conv2d_weight(x.double(), [16, 8, 3, 3], upstream.double(), padding=1)
    got = products.weight_gradient(upstream, x, torch.randn(16, 8, 3, 3))
    assert (got - wanted).norm() < 2**-9 * wanted.norm()  # one rounding of the result


def test_also_without_the_native_library(monkeypatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    x, weight = exact(3, 4, 6, 6), exact(5, 4, 3, 3, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        out = spike_conv2d(x, weight, padding=1)
        flat = spike_linear(x, exact(5, 144))
    assert torch.equal(out, F.conv2d(x, weight, padding=1).bfloat16())
    assert torch.equal(flat, F.linear(x.flatten(1), exact(5, 144)).bfloat16())


def test_a_network_in_bfloat16_gives_what_it_gives_on_bfloat16_instructions(monkeypatch) -> None:
    net = networks.build("16C3-AP2-32C3-AP2-24FC", input_shape=(2, 12, 12), classes=4, steps=4, readout="current")
    net.precision = "bfloat16"
    x = torch.rand(16, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    results = {}
    for here in (False, True):
        monkeypatch.setattr(processor, "has_bf16", lambda here=here: here)
        net.zero_grad()
        out = net.train()(x)
        out.square().mean().backward()
        results[here] = out.detach(), torch.cat([p.grad.flatten() for p in net.parameters()])
    for ours, theirs in zip(*results.values(), strict=True):
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.98


def test_other_dtypes_are_torchs_own() -> None:
    x, weight = torch.randn(2, 16, 6, 6), torch.randn(16, 16, 3, 3)
    with torch.autocast("cpu", torch.float16):
        hidden = norm_lif(x, LIFParameters(decay=0.5, v_threshold=1.0), steps=2)
        assert spike_conv2d(hidden, weight, padding=1).dtype == torch.float16
