"""The Triton kernels, run by Triton's interpreter on CPU tensors, against the reference: every surrogate, norm, shape.

Without Triton (CPU builds of torch come without it; ``pip install triton``) only the refusals are tested.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterator

import pytest
import torch

from spikefed.neurons import ATan, LIFParameters, Triangle, gpu, norm_lif, record_paths, spike_conv2d, use_kernels

from .test_fused import BATCH, SHAPES, STEPS, SURROGATES, neuron, normal, run

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
MODULE = "spikefed.neurons.triton_kernels"


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels on CPU tensors; Triton looks at the variable when a kernel is defined, so the module is loaded anew."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    sys.modules.pop(MODULE, None)
    gpu._module.cache_clear()
    yield
    monkeypatch.undo()
    sys.modules.pop(MODULE, None)
    gpu._module.cache_clear()


def assert_agrees(x: torch.Tensor, p: LIFParameters, norm: str, tolerance: float = 1e-5, **options) -> None:
    with record_paths() as choices:
        out, grads, running = run("auto", x, p, norm, **options)
    assert choices[0].reason == "Triton kernel"
    wanted_out, wanted_grads, wanted_running = run("reference", x, p, norm, **options)
    assert torch.equal(out, wanted_out) and 0.02 < (out > 0).float().mean() < 0.9
    for name, wanted in wanted_grads.items():
        got = grads[name]
        assert got is not None and wanted is not None
        error = (got.float() - wanted.float()).abs().max() / wanted.float().abs().max()
        assert error < tolerance, f"gradient of {name}: {error}"
    for name, wanted in wanted_running.items():
        torch.testing.assert_close(running[name], wanted, rtol=1e-5, atol=1e-6)


@needs_triton
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_every_norm_neuron_and_surrogate(norm, kind, surrogate) -> None:
    for detach, pool in [(False, False), (True, True)]:
        x = normal(STEPS * BATCH, 6, 4, 4) * 1.3 + 0.2
        assert_agrees(x, neuron(kind, surrogate, detach_reset=detach, gain=0.9), norm, pool=pool)


@needs_triton
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("shape", ["odd", "linear", "wide"])
@pytest.mark.parametrize("norm", ["none", "bn", "bntt"])
def test_every_shape_mode_and_repetition(norm, shape) -> None:
    rest = SHAPES[shape]
    pools = (False, True) if len(rest) == 3 else (False,)
    for pool, training, repeat in itertools.product(pools, (True, False), (False, True)):
        x = normal(BATCH if repeat else STEPS * BATCH, *rest) * 1.3 + 0.2
        assert_agrees(
            x, neuron("hard", ATan()), norm, pool=pool, training=training, repeat=repeat, eps=1e-4, momentum=0.2
        )


@needs_triton
@pytest.mark.usefixtures("interpreter")
def test_bf16_keeps_membranes_in_float32() -> None:
    x = (normal(STEPS * BATCH, 8, 4, 4) * 1.3 + 0.2).bfloat16()
    assert_agrees(x, neuron("hard", ATan()), "bn", 2**-6)


@needs_triton
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("pool", [False, True])
def test_spikes_are_kept_packed_between_norm_lif_and_the_next_convolution(pool) -> None:
    p, weight = neuron("soft", Triangle()), normal(5, 6, 3, 3, seed=2).requires_grad_()
    x, results = normal(STEPS * BATCH, 6, 5, 6).requires_grad_(), []
    for mode in ("auto", "reference"):
        saved: list[torch.Tensor] = []
        with use_kernels(mode):
            spikes = norm_lif(x, p, steps=STEPS, norm="bn", pool=pool)
            with torch.autograd.graph.saved_tensors_hooks(lambda t, to=saved: to.append(t) or t, lambda t: t):
                out = spike_conv2d(spikes, weight, padding=1)
        if mode == "auto":
            assert sum(t.nbytes for t in saved) - weight.nbytes <= spikes.numel() // (1 if pool else 8) + 1
        results.append((out, *torch.autograd.grad(out, (x, weight), normal(*out.shape, seed=3))))
    for got, wanted in zip(*results, strict=True):
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@needs_triton
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("size", [1, 7, 8, 2049])
def test_packing_is_undone_by_unpacking(size) -> None:
    x = (normal(1, 1, 1, size) > 0.5).float()
    x._spikefed_levels = 1  # type: ignore[attr-defined]
    kept = gpu.packed(x)
    assert kept is not None and kept.dtype == torch.uint8 and len(kept) == -(-size // 8)
    assert torch.equal(gpu.unpacked(kept, 1, x.shape, torch.float32), x)


def test_tensors_elsewhere_go_to_other_paths(monkeypatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x = torch.randn(4, 3, 2, 2)
    assert not gpu.suits(x, 2) and gpu.packed(x) is None
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not gpu.suits(x.double(), 2) and not gpu.suits(x, gpu.MOST_STEPS + 1) and not gpu.suits(x[:0], 2)
    assert not gpu.suits(x, 2, torch.zeros(3, dtype=torch.float64))
