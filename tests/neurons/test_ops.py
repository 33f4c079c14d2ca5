"""spike_conv2d and spike_linear against torch's own, forward and gradient, in both kernel modes."""

from __future__ import annotations

from inspect import unwrap

import pytest
import torch
import torch.nn.functional as F

from spikefed import native
from spikefed.neurons import (
    LIF,
    LIFParameters,
    Rectangle,
    events,
    fused,
    norm_lif,
    paths,
    processor,
    products,
    spike_conv2d,
    spike_linear,
    use_kernels,
)


def assert_close(got: torch.Tensor, wanted: torch.Tensor, bound: float = 1e-5) -> None:
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
    assert_close(out, wanted)
    upstream = torch.randn_like(out)
    for got, right in zip(
        torch.autograd.grad(out, (x, weight, bias), upstream),
        torch.autograd.grad(wanted, (x, weight, bias), upstream),
        strict=True,
    ):
        assert_close(got, right)


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
    assert_close(results[0][1], results[1][1])


needs_native = pytest.mark.skipif(fused.library() is None, reason=native.why_not() or "no native library")


def as_made_by_norm_lif(x: torch.Tensor) -> torch.Tensor:
    x._spikefed_nonzero = int(x.count_nonzero())  # type: ignore[attr-defined]
    return x


@needs_native
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.6, 1.0])
@pytest.mark.parametrize(
    ("kernel", "channels", "out", "side"),
    [
        (3, 64, 64, (9, 7)),
        (3, 5, 23, (6, 4)),
        (1, 40, 48, (5, 5)),
        (3, 130, 176, (1, 1)),
        (3, 16, 300, (2, 3)),
        (3, 4, 20, (40, 30)),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_event_lists_equal_the_dense_convolution(kernel, channels, out, side, rate, stride) -> None:
    torch.manual_seed(1)
    x = (
        spikes(11, channels, *side, rate=rate) * torch.rand(11, channels, *side).mul(4).ceil() / 4
    )  # quarters, as after a pool
    x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(out, channels, kernel, kernel), torch.randn(out)
    listed = events.listed(x)
    assert listed.density == pytest.approx(x.count_nonzero().item() / x.numel())
    told = F.conv2d(x, weight, bias, stride=stride, padding=kernel // 2)
    assert_close(events.convolve(listed, weight, bias, torch.float32, stride), told)
    upstream = torch.randn(told.shape).contiguous(memory_format=torch.channels_last)
    wanted = torch.ops.aten.convolution_backward(
        upstream, x, weight, None, [stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], 1, [True, True, False]
    )
    assert_close(events.weight_gradient(events.banded(listed, kernel, stride), upstream), wanted[1])
    assert_close(products.input_gradient(upstream, weight, x.shape, stride), wanted[0])


@needs_native
@pytest.mark.parametrize(("channels", "width", "listed"), [(64, 1024, True), (64, 1025, False), (16, 5000, False)])
def test_rows_too_long_for_16_bits_are_not_listed(monkeypatch, channels, width, listed) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    torch.manual_seed(0)
    x = as_made_by_norm_lif(spikes(1, channels, 2, width)).requires_grad_()
    weight = torch.randn(4, channels, 3, 3, requires_grad=True)
    with paths.record_paths() as choices:
        out = spike_conv2d(x, weight, padding=1)
    assert (choices[0].path == "events") is listed
    wanted = F.conv2d(x, weight, padding=1)
    assert_close(out, wanted)
    upstream = torch.randn_like(out)
    for got, right in zip(
        torch.autograd.grad(out, (x, weight), upstream), torch.autograd.grad(wanted, (x, weight), upstream), strict=True
    ):
        assert_close(got, right)


@needs_native
@pytest.mark.parametrize("bias", [True, False])
def test_spike_conv2d_takes_lists_when_sparse_and_gives_the_same(monkeypatch, bias) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    torch.manual_seed(0)
    weight = torch.randn(24, 20, 3, 3, requires_grad=True)
    shift = torch.randn(24, requires_grad=True) if bias else None
    dense = "winograd" if paths.by_winograd(weight, 1, 1, torch.float32) else "dense"
    for rate, path in [(0.05, "events"), (0.4, "events for the weight gradient"), (0.6, dense)]:
        x = as_made_by_norm_lif(spikes(9, 20, 6, 6, rate=rate)).requires_grad_()
        leaves = [t for t in (x, weight, shift) if t is not None]
        with paths.record_paths() as choices:
            out = spike_conv2d(x, weight, shift, padding=1)
        assert choices[0].path == path and choices[0].density == pytest.approx(rate, abs=0.02)
        wanted = F.conv2d(x, weight, shift, padding=1)
        assert_close(out, wanted)
        upstream = torch.randn_like(out)
        for got, right in zip(
            torch.autograd.grad(out, leaves, upstream), torch.autograd.grad(wanted, leaves, upstream), strict=True
        ):
            assert_close(got, right)


@needs_native
@pytest.mark.parametrize("amx", [True, False])
def test_bf16_under_autocast(monkeypatch, amx) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    monkeypatch.setattr(processor, "has_amx", lambda: amx)
    torch.manual_seed(0)
    weight, bias = torch.randn(32, 128, 3, 3, requires_grad=True), torch.randn(32, requires_grad=True)
    x = as_made_by_norm_lif(spikes(9, 128, 6, 6, rate=0.05)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), paths.record_paths() as choices:
        out = spike_conv2d(x, weight, bias, padding=1)
    assert out.dtype == torch.bfloat16 and choices[0].path == ("events for the weight gradient" if amx else "events")
    wanted = F.conv2d(x, weight, bias, padding=1)
    assert_close(out, wanted, 2**-6)
    upstream = torch.randn_like(wanted)
    got = torch.autograd.grad(out, (x, weight, bias), upstream.bfloat16())
    for g, w in zip(got, torch.autograd.grad(wanted, (x, weight, bias), upstream), strict=True):
        assert_close(g, w, 2**-6)


@needs_native
def test_the_input_of_an_event_convolution_is_not_saved(monkeypatch) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    x = as_made_by_norm_lif(spikes(16, 32, 12, 12, rate=0.05)).requires_grad_()
    weight = torch.randn(8, 32, 3, 3, requires_grad=True)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        spike_conv2d(x, weight, padding=1)
    assert sum(saved) - weight.nbytes < x.nbytes / 4


@needs_native
@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_nothing_is_made_for_a_backward_that_nobody_asked_for(monkeypatch, rate) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    x = as_made_by_norm_lif(spikes(16, 32, 12, 12, rate=rate))
    weight = torch.randn(32, 32, 3, 3, requires_grad=True)
    made: list[int] = []
    monkeypatch.setattr(events, "banded", lambda *_: made.append(1))
    with torch.no_grad():
        out = spike_conv2d(x, weight, padding=1)
    assert not made
    assert_close(out, F.conv2d(x, weight, padding=1))


@needs_native
def test_event_convolution_repeats_bit_for_bit_on_any_number_of_threads() -> None:
    torch.manual_seed(0)
    x = spikes(70, 33, 8, 8, rate=0.1).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(48, 33, 3, 3)
    upstream = torch.randn(70, 48, 8, 8).contiguous(memory_format=torch.channels_last)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            listed = events.listed(x)
            results.append(
                (
                    events.convolve(listed, weight, None, torch.float32),
                    events.weight_gradient(events.banded(listed, 3), upstream),
                )
            )
    finally:
        torch.set_num_threads(before)
    for out, grad in results[1:]:
        assert torch.equal(out, results[0][0]) and torch.equal(grad, results[0][1])


@needs_native
@pytest.mark.parametrize("level", [0, 1, 2], ids=["portable", "avx2", "avx512"])
def test_event_convolution_on_every_instruction_set(level: int) -> None:
    lib = fused.library()
    assert lib is not None
    best = lib.spikefed_best_level()
    if level > best:
        pytest.skip("this processor does not have it")
    lib.spikefed_set_level(level)
    try:
        for kernel, channels, out, stride in [(3, 20, 96, 1), (1, 33, 40, 1), (3, 20, 96, 2), (1, 33, 40, 2)]:
            test_event_lists_equal_the_dense_convolution(kernel, channels, out, (5, 6), 0.15, stride)
    finally:
        lib.spikefed_set_level(best)


@needs_native
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "channels", "out", "side"), [(3, 20, 37, (17, 14)), (1, 33, 16, (5, 6)), (3, 3, 300, (4, 4))]
)
def test_weight_gradients_by_lists_have_the_same_bits_on_vectors_of_8_and_of_16(
    kernel, channels, out, side, stride
) -> None:
    lib = fused.library()
    assert lib is not None
    best = lib.spikefed_best_level()
    if best < 2:
        pytest.skip("this processor has one of them only")
    torch.manual_seed(0)
    x = spikes(9, channels, *side, rate=0.2) * torch.rand(9, channels, *side).mul(4).ceil() / 4
    listed = events.listed(x.contiguous(memory_format=torch.channels_last))
    upstream = torch.randn(9, out, *((n - 1) // stride + 1 for n in side)).contiguous(memory_format=torch.channels_last)
    try:
        results = []
        for level in (1, 2):
            lib.spikefed_set_level(level)
            results.append(events.weight_gradient(events.banded(listed, kernel, stride), upstream))
    finally:
        lib.spikefed_set_level(best)
    assert torch.equal(*results) and results[0].count_nonzero() > 0


@needs_native
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_window_marks_exactly_where_the_surrogate_is_not_zero(kind, pool) -> None:
    p = LIFParameters(kind=kind, decay=0.5, v_threshold=1.3, surrogate=Rectangle(width=0.9))
    x = torch.randn(4 * 3, 20, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = norm_lif(x, p, steps=4, pool=pool)
    window = paths.window_of(out)
    assert window is not None and 0.05 < window.float().mean() < 0.9
    # one neuron's own surrogate, seen by a gradient that enters at one step only and the reset cut off
    cut = LIFParameters(kind=kind, decay=0.5, v_threshold=1.3, surrogate=Rectangle(width=0.9), detach_reset=True)
    with use_kernels("reference"):
        for t in range(4):
            again = norm_lif(x, cut, steps=4, pool=pool)
            upstream = torch.zeros_like(again)
            upstream[t * 3 : t * 3 + 3] = 1
            (grad,) = torch.autograd.grad(again, x, upstream)
            grad = grad[t * 3 : t * 3 + 3].ne(0).float()
            # no norm and no reset: the gradient of step t's input is the surrogate itself
            wanted = F.max_pool2d(grad, 2) if pool else grad
            assert torch.equal(window[t * 3 : t * 3 + 3].float(), wanted)


@needs_native
@pytest.mark.parametrize(
    ("kernel", "channels", "out", "side"),
    [(3, 64, 64, (9, 7)), (3, 5, 23, (6, 4)), (1, 40, 48, (5, 5)), (3, 16, 300, (2, 3)), (3, 48, 40, (33, 20))],
)
def test_input_gradient_inside_a_window(kernel, channels, out, side) -> None:
    torch.manual_seed(1)
    mask = spikes(7, channels, *side, rate=0.2).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(out, channels, kernel, kernel)
    upstream = torch.randn(7, out, *side).contiguous(memory_format=torch.channels_last)
    got = events.input_gradient_at(events.banded(events.listed(mask.to(torch.uint8)), kernel), upstream, weight)
    assert_close(got, products.input_gradient(upstream, weight, mask.shape) * mask)
    assert (got[mask == 0] == 0).all()


@needs_native
def test_a_window_too_wide_is_counted_alone() -> None:
    window = torch.zeros(2, 16, 3, 5, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    assert events.listed_below(window[:0], 0.5) is not None
    window[0, :8] = 1  # a quarter
    assert events.listed_below(window, 0.25) is None
    found = events.listed_below(window, 0.26)
    assert found is not None and found.density == 0.25 and torch.equal(found.index, events.listed(window).index)


@needs_native
@pytest.mark.parametrize("rate", ["sparse", "dense"])
def test_windowed_gradient_through_two_layers_equals_the_reference(monkeypatch, rate) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    monkeypatch.setattr(paths, "WINDOW_LIMIT", 0.9)
    monkeypatch.setattr(paths, "WINOGRAD_WINDOW_LIMIT", {"avx2": 0.9, "avx512": 0.9})
    if rate == "dense":
        monkeypatch.setattr(paths, "FLOAT32_LIMIT", -1.0)
    p = LIFParameters(decay=0.5, v_threshold=1.0, surrogate=Rectangle())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4 * 3, 8, 10, 10, generator=generator)
    weights = [torch.randn(24, 8, 3, 3, generator=generator), torch.randn(16, 24, 3, 3, generator=generator) * 0.1]
    results = []
    for mode in ("auto", "reference"):
        leaves = [t.clone().requires_grad_() for t in (x, *weights)]
        with use_kernels(mode), paths.record_paths() as choices:
            hidden = norm_lif(spike_conv2d(leaves[0], leaves[1], padding=1), p, steps=4, norm="bn", pool=True)
            out = spike_conv2d(hidden, leaves[2], padding=1)
        out.backward(torch.cos(torch.arange(out.numel()).float()).reshape(out.shape))
        if mode == "auto":
            assert any("inside the surrogate's window" in c.reason for c in choices)
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for got, wanted in zip(*results, strict=True):
        assert_close(got, wanted)


@needs_native
@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shape", [(48, 9, 6), (16, 4, 4), (112, 2, 2), (80,)])
def test_marks_of_spikes_give_the_lists_that_a_search_gives(monkeypatch, shape, pool, dtype) -> None:
    if pool and len(shape) == 1:
        pytest.skip("rows have no pool")
    monkeypatch.setattr(fused, "LEAST_BITS", 0)
    x = torch.randn(4 * 3, *shape, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    x = x.contiguous(memory_format=torch.channels_last) if len(shape) > 1 else x
    neuron = LIFParameters(decay=0.5, v_threshold=0.7, surrogate=Rectangle(width=0.9))
    out = norm_lif(x, neuron, steps=4, norm="bn", pool=pool)
    marks, window = paths.marks_of(out), paths.window_of(out)
    assert marks is not None and marks.ones is not pool
    if window is not None:
        assert paths.inside_of(out) == pytest.approx(float(window.float().mean()))
    maps = out.detach() if len(shape) > 1 else out.detach()[:, :, None, None]
    given, searched = events.listed(maps, marks), events.listed(maps)
    assert torch.equal(given.offsets, searched.offsets) and torch.equal(given.index, searched.index)
    assert torch.equal(given.value, searched.value) and 0.01 < given.density < 0.9
    out *= 1
    assert paths.marks_of(out) is None and paths.inside_of(out) is None  # written to


@needs_native
def test_inference_mode_gives_the_spikes_of_any_mode_without_marks(monkeypatch) -> None:
    monkeypatch.setattr(fused, "LEAST_BITS", 0)
    x = torch.randn(4 * 3, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(16, 16, 3, 3, generator=torch.Generator().manual_seed(1))
    results = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            out = norm_lif(x, LIFParameters(decay=0.5, v_threshold=0.7), steps=4)
            results.append(torch.stack([out, spike_conv2d(out, weight, padding=1)]))
            assert (paths.marks_of(out) is None) is out.is_inference()
    assert torch.equal(*results)


@needs_native
def test_a_tensor_written_to_has_no_window() -> None:
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    out = norm_lif(x, LIFParameters(decay=0.5, v_threshold=1.0), steps=2, norm="bn")
    assert paths.window_of(out) is not None
    out += torch.randn(4, 8, 6, 6)  # other gradients flow through the sum
    assert paths.window_of(out) is None


@pytest.mark.parametrize("mode", ["auto", "reference"])
@pytest.mark.parametrize("known", [True, False], ids=["spikes", "numbers"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "device"),
    [(32, 64, "cpu"), (64, 7, "cpu"), (64, 64, "meta")],
    ids=["inputs", "bias", "device"],
)
def test_sizes_that_do_not_fit_are_refused_by_torch(monkeypatch, mode, known, inputs, outputs, device) -> None:
    monkeypatch.setattr(paths, "LEAST_WORK", 0)
    x, rows = spikes(4, inputs, 8, 8), spikes(128, inputs)
    if known:
        x, rows = as_made_by_norm_lif(x), as_made_by_norm_lif(rows)
    weight, bias = torch.randn(64, 64, 3, 3), torch.randn(outputs, device=device)
    if device == "meta":  # torch itself makes no difference of a meta bias
        monkeypatch.setattr(F, "conv2d", refuse)
        monkeypatch.setattr(F, "linear", refuse)
    with use_kernels(mode):
        with pytest.raises(RuntimeError):
            unwrap(spike_conv2d)(x, weight, bias, padding=1)  # without the type check that tests put around it
        with pytest.raises(RuntimeError):
            unwrap(spike_linear)(rows, weight[:, :, 0, 0], bias)


def refuse(*_, **__) -> torch.Tensor:
    raise RuntimeError("another device")
