"""Linear layers on the non-zeros of their input, against torch's own."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.neurons import events, fused, paths, processor, spike_linear
from spikefed.neurons.autograd import ListedLinear

pytestmark = pytest.mark.skipif(events.library() is None, reason="the native library is not built")
SHAPES = [((600, 5, 3, 2), 40), ((7, 64, 4, 4), 128), ((530, 33), 10), ((1, 3, 1, 1), 1), ((20, 8, 2, 2), 300)]
"""Inputs (more than a band of rows, maps, rows), and outputs: whole and ragged blocks."""


def rows(shape: tuple[int, ...], *, values: bool, layout: torch.memory_format) -> Tensor:
    draws = torch.Generator().manual_seed(3)
    x = (torch.rand(*shape, generator=draws) < 0.2).float()
    x = x * torch.randint(1, 5, shape, generator=draws) / 4 if values else x
    return (x.contiguous(memory_format=layout) if x.dim() == 4 else x).requires_grad_()


def learnt(x: Tensor, outputs: int, dtype: torch.dtype, *, listed: bool) -> list[Tensor]:
    """Output, and gradients of input, weight and bias."""
    draws = torch.Generator().manual_seed(4)
    weight = torch.randn(outputs, x[0].numel(), generator=draws).requires_grad_()
    bias = torch.randn(outputs, generator=draws).requires_grad_()
    if listed:
        out = cast(Tensor, ListedLinear.apply(x, weight, bias, dtype))
    else:
        out = F.linear(x.flatten(1).to(dtype).float(), weight.to(dtype).float(), bias)
    upstream = torch.randn(out.shape, generator=draws).to(dtype)
    grads = torch.autograd.grad(out, (x, weight, bias), upstream.to(out.dtype))
    return [out, *grads]


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("values", [False, True])
def test_equals_the_matrix_product(shape, outputs, layout, values) -> None:
    x = rows(shape, values=values, layout=layout)
    for got, wanted in zip(*(learnt(x, outputs, torch.float32, listed=s) for s in (True, False)), strict=True):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-6


@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
def test_in_bfloat16_inputs_weights_and_results_are_rounded_and_sums_are_not(shape, outputs) -> None:
    x = rows(shape, values=True, layout=torch.channels_last)
    got, wanted = (learnt(x, outputs, torch.bfloat16, listed=s) for s in (True, False))
    assert got[0].dtype == torch.bfloat16 and all(g.dtype == torch.float32 for g in got[1:])
    for ours, theirs in zip(got[:3], wanted, strict=False):
        assert (ours.float() - theirs).abs().max() <= 2**-7 * theirs.abs().max()


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("shape", "outputs"), [s for s in SHAPES if len(s[0]) == 4])
def test_weights_of_maps_give_the_bits_of_weights_in_the_order_of_the_maps_memory(shape, outputs) -> None:
    x = rows(shape, values=True, layout=torch.channels_last).detach()
    n, channels, positions = shape[0], shape[1], shape[2] * shape[3]
    draws = torch.Generator().manual_seed(5)
    weight = torch.randn(outputs, channels * positions, generator=draws)
    upstream = torch.randn(n, outputs, generator=draws)
    turned = weight.view(outputs, channels, positions).transpose(1, 2).reshape(outputs, -1)
    listed = events.listed_rows(x.permute(0, 2, 3, 1).reshape(n, -1))
    for dtype in (torch.float32, torch.bfloat16):
        product = events.rows_product(listed, weight, None, dtype, positions)
        assert torch.equal(product, events.rows_product(listed, turned, None, dtype))
    banded = events.banded(listed, 1)
    plain = events.rows_weight_gradient(banded, upstream).view(outputs, positions, channels)
    gradient = events.rows_weight_gradient(banded, upstream, positions)
    assert gradient.is_contiguous()
    assert torch.equal(gradient.view(outputs, channels, positions), plain.transpose(1, 2))


def test_repeats_bit_for_bit_on_any_number_of_threads_and_wide_vectors() -> None:
    x = rows((600, 20, 3, 3), values=True, layout=torch.channels_last)
    lib = fused.library()
    assert lib is not None
    best, before, results = lib.spikefed_best_level(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            for wide in range(min(1, best), best + 1):
                torch.set_num_threads(threads)
                lib.spikefed_set_level(wide)
                out, _, grad_weight, _ = learnt(x, 70, torch.float32, listed=True)
                results.append(torch.cat([out.flatten(), grad_weight.flatten()]))
    finally:
        torch.set_num_threads(before)
        lib.spikefed_set_level(best)
    assert all(torch.equal(r, results[0]) for r in results[1:])


def test_the_input_is_not_saved_and_the_rule_asks_for_few_spikes_and_a_large_product(monkeypatch) -> None:
    if processor.instruction_set() == "portable":
        pytest.skip("portable kernels take no lists here")
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    x: Any = rows((64, 8, 4, 4), values=False, layout=torch.channels_last)
    weight = torch.randn(32, 128, requires_grad=True)

    def path(part: float) -> str:
        x._spikefed_nonzero = int(part * x.numel())
        with paths.record_paths() as choices:
            spike_linear(x, weight)
        return choices[0].path

    assert path(0.05) == "dense"  # 64 rows: turning the weight costs what lists save
    monkeypatch.setattr(paths, "LEAST_ROWS", 64)
    assert [path(0.05), path(0.5)] == ["events", "dense"]
    saved: list[torch.Size] = []
    x._spikefed_nonzero = x.numel() // 20
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape), lambda s: s):
        spike_linear(x, weight)
    assert saved and x.shape not in saved and (64, 128) not in saved
    monkeypatch.undo()
    assert path(0.05) == "dense"
