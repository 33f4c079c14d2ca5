"""Chains of small layers: the separate operations' results, whatever is normalised, pooled, repeated or read out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from spikefed import networks
from spikefed.neurons import (
    ATan,
    ChainLayer,
    Firing,
    LIFParameters,
    NormState,
    chain,
    fused,
    norm_lif,
    paths,
    processor,
    run_chain,
    spike_conv2d,
    spike_linear,
    use_kernels,
)

pytestmark = pytest.mark.skipif(not chain.available(), reason="no native kernels for chains on this processor")
STEPS, BATCH = 4, 3
NEURON = LIFParameters(decay=0.5, v_threshold=0.7, surrogate=ATan())


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def state(norm: str, channels: int) -> NormState:
    if norm == "none":
        return NormState()
    shape = (STEPS, channels) if norm == "bntt" else (channels,)
    weight, bias = draw(*shape).abs().add(0.5).requires_grad_(), draw(*shape, seed=1).mul(0.3).requires_grad_()
    return NormState(weight, bias, torch.zeros(shape), torch.ones(shape))


def separately(x: Tensor, layer: ChainLayer) -> Tensor:
    """The same layer by the separate operations."""
    if layer.kind == "conv":
        currents = spike_conv2d(x, layer.weight, layer.bias, padding=1)
    else:
        currents = spike_linear(x, layer.weight, layer.bias)
    if layer.firing is None:
        return currents
    momentum = 0.1 if layer.momentum is None else layer.momentum()
    return norm_lif(currents, **layer.firing._asdict(), **layer.state._asdict(), momentum=momentum)


def gradients(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    upstream = torch.cos(torch.arange(out.numel()).float()).reshape(out.shape).to(out.dtype)
    return list(torch.autograd.grad(out, leaves, upstream))


def assert_agrees(x: Tensor, layer: ChainLayer, bound: float = 1e-5) -> None:
    x = x.detach().requires_grad_()
    leaves = [t for t in (x, layer.weight, layer.bias, layer.state.weight, layer.state.bias) if t is not None]
    running = [t for t in layer.state[2:] if t is not None]
    before = [t.clone() for t in running]
    got = run_chain(x, [layer])
    assert got is not None
    moved = [t.clone() for t in running]
    for t, old in zip(running, before, strict=True):
        t.copy_(old)
    with use_kernels("reference"):
        wanted = separately(x, layer)
    assert got.shape == wanted.shape and (got - wanted).abs().max() <= bound * wanted.abs().max()
    for ours, theirs in zip(gradients(got, leaves), gradients(wanted, leaves), strict=True):
        assert (ours - theirs).norm() <= bound * max(float(theirs.norm()), 10.0)  # that of a bias before a norm is 0
    for ours, theirs in zip(moved, running, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


NORMS = ["none", "bn", "tdbn", "bntt"]


@pytest.mark.parametrize(("norm", "pool", "repeat"), [*itertools.product(NORMS, [False, True], [False, True])])
def test_a_convolution_of_every_kind(norm, pool, repeat) -> None:
    x, weight = draw(BATCH if repeat else STEPS * BATCH, 5, 7, 6), draw(18, 5, 3, 3, seed=3).mul(0.3).requires_grad_()
    firing = Firing(NEURON, STEPS, norm, alpha=1.2, pool=pool, repeat=repeat)
    assert_agrees(x, ChainLayer(weight, None, "conv", firing, state(norm, 18), lambda: 0.1))


@pytest.mark.parametrize(("norm", "bias", "form"), [*itertools.product(NORMS, [False, True], ["flat", "map"])])
def test_a_linear_layer_of_every_kind(norm, bias, form) -> None:
    x = draw(STEPS * 20, 50) if form == "flat" else draw(STEPS * 20, 10, 5, 1)
    weight = draw(37, 50, seed=3).mul(0.3).requires_grad_()
    shift = draw(37, seed=4).requires_grad_() if bias else None
    assert_agrees(x, ChainLayer(weight, shift, "linear", Firing(NEURON, STEPS, norm), state(norm, 37), lambda: 0.1))


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_without_neurons_the_product_comes_out(kind) -> None:
    x, shift = draw(STEPS * BATCH, 6, 4, 5), draw(9, seed=4).requires_grad_()
    weight = (draw(9, 6, 3, 3, seed=3) if kind == "conv" else draw(9, 120, seed=3)).requires_grad_()
    assert_agrees(x, ChainLayer(weight, shift, kind, None))


@pytest.mark.parametrize("soft", [False, True])
def test_running_statistics_are_used_outside_training(soft) -> None:
    p = LIFParameters(kind="soft" if soft else "hard", decay=0.8, v_threshold=0.7, detach_reset=True)
    x, weight = draw(STEPS * BATCH, 5, 6, 6), draw(16, 5, 3, 3, seed=3).mul(0.3).requires_grad_()
    assert_agrees(x, ChainLayer(weight, None, "conv", Firing(p, STEPS, "bn", training=False), state("bn", 16)))


def network(**more: Any) -> networks.SpikingNetwork:
    plan = {"input_shape": (2, 9, 9), "classes": 5, "steps": STEPS, **more}
    return networks.build("8C3-AP2-20C3-AP2-24FC", **plan)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("readout", ["spike", "current"])
@pytest.mark.parametrize("norm", ["bn", "bntt", "none"])
def test_a_chain_gives_the_bits_of_its_layers_one_by_one(precision, readout, norm) -> None:
    x, results = torch.rand(BATCH, 2, 9, 9, generator=torch.Generator().manual_seed(0)), []
    for watched in (False, True):
        net = network(readout=readout, norm=norm, seed=1)
        net.precision = precision
        if watched:  # somebody looks between the layers, so each is called by itself
            net.layers[0].register_forward_hook(lambda *_: None)
        out = net(x)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in net.parameters()), *net.buffers()])
    assert len(results[0][0].grad_fn.next_functions) and all(map(torch.equal, *results))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_narrow_window_is_noted_for_a_backward_alone(mode) -> None:
    narrow = LIFParameters(decay=0.5, v_threshold=1.0, surrogate="rectangle:width=0.5")  # type: ignore[arg-type]
    layer = ChainLayer(draw(16, 8, 3, 3).requires_grad_(), None, "conv", Firing(narrow, STEPS))
    x = draw(STEPS * BATCH, 8, 6, 6)
    learning = run_chain(x, [layer])
    assert learning is not None and paths.window_of(learning) is not None
    with mode():
        out = run_chain(x, [layer])
    assert out is not None and not hasattr(out, "_spikefed_window") and torch.equal(out, learning)


def test_a_network_learns_as_by_the_reference() -> None:
    x, results = torch.rand(BATCH, 2, 9, 9, generator=torch.Generator().manual_seed(0)), []
    for mode in ("auto", "reference"):
        net = network(readout="current", seed=1)
        with use_kernels(mode):
            out = net(x)
            out.square().sum().backward()
        results.append(torch.cat([out.flatten(), *(p.grad.flatten() for p in net.parameters())]))
    assert (results[0] - results[1]).norm() < 1e-4 * results[1].norm()


def test_a_batch_is_counted_once_whoever_runs_it(monkeypatch) -> None:
    x = torch.rand(BATCH, 2, 9, 9)
    net = network(seed=1)
    net(x)
    assert [int(layer.norm.num_batches_tracked) for layer in net.layers if layer.norm] == [1, 1, 1, 1]
    monkeypatch.setattr(chain, "MOST_WORK", 0)
    chain.planned.cache_clear()
    net(x)
    chain.planned.cache_clear()
    assert [int(layer.norm.num_batches_tracked) for layer in net.layers if layer.norm] == [2, 2, 2, 2]


def test_what_is_not_small_or_not_known_is_left_alone() -> None:
    layer = ChainLayer(draw(16, 5, 3, 3), None, "conv", Firing(NEURON, 1, "bn"), state("bn", 16), pytest.fail)
    wide = draw(1, 1).expand(1, 5).unsqueeze(-1).unsqueeze(-1).expand(64, 5, 400, 400)
    assert run_chain(wide, [layer]) is None
    for other in (draw(4, 5, 6, 6).double(), torch.empty(0, 5, 6, 6), draw(4, 6, 6)):
        assert run_chain(other, [layer]) is None
    five = ChainLayer(draw(16, 5, 5, 5), None, "conv", Firing(NEURON, 1))
    assert run_chain(draw(4, 5, 6, 6), [five]) is None
    with use_kernels("reference"):
        assert run_chain(draw(4, 5, 6, 6), [layer]) is None


def test_wrong_shapes_are_the_same_sentence_as_elsewhere() -> None:
    layer = ChainLayer(draw(16, 5, 3, 3), None, "conv", Firing(NEURON, 3))
    with pytest.raises(Exception, match="no multiple of steps=3"):
        run_chain(draw(4, 5, 6, 6), [layer])


def test_a_bias_of_another_length_and_tensors_elsewhere_are_not_read() -> None:
    x, weight = draw(BATCH, 12), draw(5, 12)
    assert run_chain(x, [ChainLayer(weight, draw(5), "linear", None)]) is not None
    assert run_chain(x, [ChainLayer(weight, draw(3), "linear", None)]) is None
    assert run_chain(x, [ChainLayer(weight.to("meta"), None, "linear", None)]) is None
    assert run_chain(x, [ChainLayer(weight, draw(5).to("meta"), "linear", None)]) is None


def test_without_bfloat16_instructions_the_bits_are_the_same(monkeypatch) -> None:
    """Chains round and add in float32 everywhere."""
    x, results = torch.rand(BATCH, 2, 9, 9, generator=torch.Generator().manual_seed(0)), []
    for here in (True, False):
        monkeypatch.setattr(processor, "has_bf16", lambda here=here: here)
        net = network(seed=1)
        net.precision = "bfloat16"
        results.append(net(x))
    assert torch.equal(*results)


@pytest.fixture
def restore() -> Iterator[None]:
    threads, lib = torch.get_num_threads(), fused.library()
    assert lib is not None
    yield
    torch.set_num_threads(threads)
    lib.spikefed_set_level(lib.spikefed_best_level())


@pytest.mark.usefixtures("restore")
def test_repeats_bit_for_bit_on_any_number_of_threads_and_with_either_instruction_set() -> None:
    lib = fused.library()
    assert lib is not None
    x, results = torch.rand(BATCH, 2, 9, 9, generator=torch.Generator().manual_seed(0)), []
    for threads, level in [(1, 1), (2, 1), (1, lib.spikefed_best_level())]:
        torch.set_num_threads(threads)
        lib.spikefed_set_level(level)
        net = network(seed=1)
        out = net(x)
        out.sum().backward()
        results.append([out, *(p.grad for p in net.parameters())])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
