"""spike_conv2d and spike_linear against torch's own, forward and gradient, in both kernel modes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spikefed.neurons import LIF, spike_conv2d, spike_linear, use_kernels


def close(got: torch.Tensor, wanted: torch.Tensor, bound: float = 1e-5) -> None:
    assert got.shape == wanted.shape
    assert (got.float() - wanted.float()).abs().max() <= bound * wanted.float().abs().max()


def spikes(*shape: int, rate: float = 0.1, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


@pytest.mark.parametrize("mode", ["auto", "reference"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_linear_flattens_in_chw_order(mode, layout) -> None:
    torch.manual_seed(0)
    x = spikes(6, 5, 7, 3).contiguous(memory_format=layout).requires_grad_()
    weight, bias = torch.randn(4, 105, requires_grad=True), torch.randn(4, requires_grad=True)
    with use_kernels(mode):
        out = spike_linear(x, weight, bias)
    wanted = F.linear(x.flatten(1), weight, bias)
    close(out, wanted)
    upstream = torch.randn_like(out)
    for got, right in zip(torch.autograd.grad(out, (x, weight, bias), upstream),
                          torch.autograd.grad(wanted, (x, weight, bias), upstream), strict=True):  # fmt: skip
        close(got, right)


def test_lif_module_gives_the_same_in_both_modes() -> None:
    x = torch.randn(6, 3, 4, 5)
    results = []
    for mode in ("auto", "reference"):
        leaf = x.clone().requires_grad_()
        with use_kernels(mode):
            out = LIF(tau=2.0, v_threshold=0.5, surrogate="atan")(leaf)
        out.backward(torch.cos(torch.arange(out.numel()).float()).reshape(out.shape))
        results.append((out.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    close(results[0][1], results[1][1])
