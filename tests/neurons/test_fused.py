"""The native kernel against the reference: spikes, gradients, statistics; repeatable, on every instruction set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from spikefed import native
from spikefed.neurons import ATan, LIFParameters, Rectangle, Surrogate, Triangle, fused, norm_lif, use_kernels

pytestmark = pytest.mark.skipif(fused.library() is None, reason=native.why_not() or "no native library")

STEPS, BATCH = 5, 3
SURROGATES = [Rectangle(), Triangle(), ATan()]
SHAPES = {
    "map": (20, 6, 4),
    "odd": (7, 5, 7),
    "wide": (3, 2, 40),
    "deep": (70, 4, 6),
    "linear": (37,),
    "long": (1100,),
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def state(norm: str, channels: int, affine: bool) -> dict[str, torch.Tensor]:
    shape = (STEPS, channels) if norm == "bntt" else (channels,)
    made = {"running_mean": normal(*shape, seed=1) * 0.2, "running_var": normal(*shape, seed=2).abs() + 0.5}
    if affine:
        made["weight"] = (normal(*shape, seed=3) * 0.3 + 1).requires_grad_()
        made["bias"] = (normal(*shape, seed=4) * 0.3).requires_grad_()
    return made if norm != "none" else {}


def run(mode: str, x: torch.Tensor, p: LIFParameters, norm: str, affine: bool = True, **options):
    x = x.detach().clone().requires_grad_()
    tensors = state(norm, x.shape[1], affine)
    with use_kernels(mode):
        out = norm_lif(x, p, steps=STEPS, norm=norm, **tensors, **options)
    out.backward(normal(*out.shape, seed=5).to(out.dtype))
    grads = {k: v.grad for k, v in tensors.items() if v.requires_grad}
    return out.detach(), {"x": x.grad, **grads}, {k: v for k, v in tensors.items() if "running" in k}


def assert_agrees(x: torch.Tensor, p: LIFParameters, norm: str, tolerance: float = 1e-5, **options) -> None:
    out, grads, running = run("auto", x, p, norm, **options)
    wanted_out, wanted_grads, wanted_running = run("reference", x, p, norm, **options)
    assert torch.equal(out, wanted_out) and 0.02 < (out > 0).float().mean() < 0.9
    for name, wanted in wanted_grads.items():
        error = (grads[name].float() - wanted.float()).abs().max() / wanted.float().abs().max()
        assert error < tolerance, f"gradient of {name}: {error}"
    for name, wanted in wanted_running.items():
        torch.testing.assert_close(running[name], wanted, rtol=1e-5, atol=1e-6)


def neuron(kind: str, surrogate: Surrogate, **others) -> LIFParameters:
    return LIFParameters(kind=kind, decay=0.6, v_threshold=0.8, surrogate=surrogate, **others)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_every_norm_neuron_and_surrogate(norm: str, kind: str, surrogate: Surrogate) -> None:
    for detach, pool in [(False, False), (True, True)]:
        x = normal(STEPS * BATCH, *SHAPES["map"]) * 1.3 + 0.2
        assert_agrees(x, neuron(kind, surrogate, detach_reset=detach, gain=0.9), norm, pool=pool)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_every_shape_mode_and_repetition(norm: str, shape: str) -> None:
    rest = SHAPES[shape]
    pools = (False, True) if len(rest) == 3 else (False,)
    for pool, training, repeat in itertools.product(pools, (True, False), (False, True)):
        x = normal(BATCH if repeat else STEPS * BATCH, *rest) * 1.3 + 0.2
        assert_agrees(
            x, neuron("hard", ATan()), norm, pool=pool, training=training, repeat=repeat, eps=1e-4, momentum=0.2
        )


@pytest.mark.parametrize("norm", ["bn", "bntt"])
def test_without_affine_and_without_running_statistics(norm: str) -> None:
    x = normal(STEPS * BATCH, 6, 4, 4)
    assert_agrees(x, neuron("soft", Triangle()), norm, affine=False)
    with use_kernels("auto"):
        bare = norm_lif(x, neuron("soft", Triangle()), steps=STEPS, norm=norm, training=False)
    with use_kernels("reference"):
        assert torch.equal(bare, norm_lif(x, neuron("soft", Triangle()), steps=STEPS, norm=norm, training=False))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_ties_at_the_threshold_go_the_same_way(kind: str, strict: bool) -> None:
    for theta in (0.3, 0.7, 1.0, 1.7):
        p = LIFParameters(kind=kind, decay=0.5, v_threshold=theta, strict=strict)
        near = torch.tensor([theta] * 9, dtype=torch.float32)
        for i in range(9):  # the float at theta and four neighbours on each side
            for _ in range(abs(i - 4)):
                near[i] = torch.nextafter(near[i], torch.tensor(torch.inf if i > 4 else -torch.inf))
        x = near.repeat(STEPS, 1)
        with use_kernels("auto"):
            out = norm_lif(x, p, steps=STEPS)
        with use_kernels("reference"):
            assert torch.equal(out, norm_lif(x, p, steps=STEPS))


@pytest.mark.parametrize("norm", ["none", "bn", "bntt"])
def test_bf16(norm: str) -> None:
    x = (normal(STEPS * BATCH, 24, 6, 6) * 1.3 + 0.2).bfloat16()
    for options in ({"pool": True}, {"pool": False}):
        out, grads, running = run("auto", x, neuron("hard", ATan()), norm, **options)
        wanted_out, wanted_grads, wanted_running = run("reference", x, neuron("hard", ATan()), norm, **options)
        assert out.dtype == torch.bfloat16 and torch.equal(out, wanted_out)
        for name, wanted in wanted_grads.items():
            bound = 2**-7 if name == "x" else 1e-2  # bf16 rounds at 2^-9; upstream and result are both rounded
            assert (grads[name].float() - wanted.float()).abs().max() < bound * wanted.float().abs().max()
        for name, wanted in wanted_running.items():
            torch.testing.assert_close(running[name], wanted, rtol=1e-5, atol=1e-6)


@pytest.fixture
def restore() -> Iterator[None]:
    threads, lib = torch.get_num_threads(), fused.library()
    assert lib is not None
    yield
    torch.set_num_threads(threads)
    lib.spikefed_set_level(lib.spikefed_best_level())


@pytest.mark.usefixtures("restore")
def test_bit_for_bit_on_any_number_of_threads() -> None:
    x = normal(STEPS * 8, 33, 9, 9)
    results = []
    for threads in (1, 2, 3, 1):
        torch.set_num_threads(threads)
        results.append(run("auto", x, neuron("hard", ATan()), "bn", pool=True))
    for out, grads, running in results[1:]:
        assert torch.equal(out, results[0][0])
        assert all(torch.equal(grads[k], results[0][1][k]) for k in grads)
        assert all(torch.equal(running[k], results[0][2][k]) for k in running)


@pytest.mark.usefixtures("restore")
@pytest.mark.parametrize("level", [0, 1, 2], ids=["portable", "avx2", "avx512"])
def test_every_instruction_set(level: int) -> None:
    lib = fused.library()
    assert lib is not None
    if level > lib.spikefed_best_level():
        pytest.skip("this processor does not have it")
    lib.spikefed_set_level(level)
    assert lib.spikefed_level() == level
    x = normal(STEPS * BATCH, 20, 6, 4) * 1.3 + 0.2
    for norm, pool in itertools.product(["none", "bn", "bntt"], [False, True]):
        assert_agrees(x, neuron("soft", Triangle()), norm, pool=pool)


@pytest.mark.usefixtures("restore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bit_for_bit_on_every_instruction_set(dtype: torch.dtype) -> None:
    lib = fused.library()
    assert lib is not None
    for channels, pool, repeat in [(20, True, False), (33, False, False), (48, True, True), (5, False, True)]:
        x = (normal(BATCH if repeat else STEPS * BATCH, channels, 9, 8) * 1.3 + 0.2).to(dtype)
        results = []
        for level in range(lib.spikefed_best_level() + 1):
            lib.spikefed_set_level(level)
            results.append(run("auto", x, neuron("hard", ATan(), gain=0.7), "bn", pool=pool, repeat=repeat))
        for out, grads, running in results[1:]:
            assert torch.equal(out, results[0][0])
            assert all(torch.equal(grads[k], results[0][1][k]) for k in grads)
            assert all(torch.equal(running[k], results[0][2][k]) for k in running)


@pytest.mark.parametrize("channels", [1, 16, 33, 64, 130])
def test_any_number_of_channels(channels: int) -> None:
    for pool, repeat in itertools.product((False, True), repeat=2):
        x = normal(BATCH if repeat else STEPS * BATCH, channels, 5, 6) * 1.3 + 0.2
        assert_agrees(x, neuron("hard", ATan(), gain=0.7), "bn", pool=pool, repeat=repeat)


def test_only_input_and_statistics_are_saved() -> None:
    saved: list[torch.Tensor] = []
    x = normal(STEPS * BATCH, 8, 4, 4).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t), use_kernels("auto"):
        norm_lif(x.contiguous(memory_format=torch.channels_last), neuron("hard", ATan()), steps=STEPS, norm="bn")
    big = [t for t in saved if t.numel() >= x.numel()]
    assert len(big) == 1


def test_nan_is_not_hidden() -> None:
    x = normal(STEPS * BATCH, 8, 4, 4)
    x[0, 3] = torch.nan
    _, grads, running = run("auto", x, neuron("hard", ATan()), "bn")
    assert grads["x"][:, 3].isnan().all() and not grads["x"][:, 2].isnan().any()
    assert running["running_mean"][3].isnan()


@pytest.mark.parametrize("size", [(1, 1025, 67), (2, 1500, 64), (3, 37, 9), (1, 4, 4), (1, 2048, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_native_transpose_is_a_transpose_of_tall_flat_and_odd_matrices(
    size: tuple[int, int, int], dtype: torch.dtype
) -> None:
    matrices = normal(*size).to(dtype)
    n, rows, columns = size
    turned = fused.transpose(matrices, matrices.new_empty(n, columns, rows), *size)
    assert torch.equal(turned, matrices.transpose(1, 2))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("channels", [3, 40, 600, 1100])
@pytest.mark.parametrize("rows", [1, 18, 70, 200])
def test_statistics_are_the_means_and_variances_of_all_rows(channels, rows) -> None:
    x = torch.randn(4 * rows, channels, generator=torch.Generator().manual_seed(rows)) * 2 + 5
    mean, var = torch.zeros(channels), torch.zeros(channels)
    p = LIFParameters(decay=0.5, v_threshold=1.0)
    norm_lif(x, p, steps=4, norm="bn", running_mean=mean, running_var=var, training=True, momentum=1.0)
    torch.testing.assert_close(mean.double(), x.double().mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), x.double().var(0), rtol=2e-5, atol=1e-6)
