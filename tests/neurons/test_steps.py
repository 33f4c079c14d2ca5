"""The kernels of single steps against torch's operations and autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.neurons import ATan, LIFParameters, Products, Rectangle, Triangle, lif_step, steps

pytestmark = pytest.mark.skipif(not steps.available(), reason="the native library was not built")
LAST = torch.channels_last


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def options(channels: int, training: bool = True, scale: float = 1.0) -> steps.NormOptions:
    weight, bias = draw(channels, seed=1).abs() + 0.5, draw(channels, seed=2)
    mean, var = draw(channels, seed=3), draw(channels, seed=4).abs() + 0.5
    return steps.NormOptions(weight, bias, mean, var, training, 0.2, 1e-5, scale)


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (2, 32, 8, 8), (7, 19)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.usefixtures("level")
def test_a_sum_is_that_of_its_terms_plain_and_normalised(shape, count):
    maps = [steps.laid_out(draw(*shape, seed=k)) for k in range(count)]
    mades = [steps.statistics(x, options(shape[1])) if k % 2 else None for k, x in enumerate(maps)]
    found = steps.total([steps.Term(x, made) for x, made in zip(maps, mades, strict=True)], torch.empty_like(maps[0]))
    o = options(shape[1])
    wanted = sum(
        F.batch_norm(x.double(), None, None, o.weight.double(), o.bias.double(), True)
        if made is not None
        else x.double()
        for x, made in zip(maps, mades, strict=True)
    )
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_one_plain_term_is_given_back_as_it_is():
    x = draw(2, 3)
    assert steps.total([steps.Term(x)]) is x


NEURONS = [
    LIFParameters(decay=0.25, v_threshold=1.0, gain=0.75, strict=False, surrogate=ATan(2.0), detach_reset=True),
    LIFParameters(decay=0.5, v_threshold=0.6, surrogate=Triangle()),
    LIFParameters(kind="soft", decay=0.9, v_threshold=0.8, surrogate=Rectangle()),
    LIFParameters(kind="soft", decay=0.9, v_threshold=0.8, surrogate=ATan(), detach_reset=True),
]


@pytest.mark.parametrize("p", NEURONS, ids=lambda p: f"{p.kind}-{type(p.surrogate).__name__}")
@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (2, 32, 6, 6)], ids=str)
@pytest.mark.usefixtures("level")
def test_neurons_step_by_step_are_those_of_the_reference_and_so_are_their_gradients(p, shape):
    currents = [steps.laid_out(draw(*shape, seed=t) * 1.5).requires_grad_() for t in range(4)]
    mixes = [steps.laid_out(draw(*shape, seed=10 + t)) for t in range(4)]
    v, loss, wanted = None, torch.zeros(()), []
    for x, mix in zip(currents, mixes, strict=True):
        spikes, v = lif_step(x, v, p)
        wanted.append(spikes.detach())
        loss = loss + (spikes * mix).sum()
    gradients = torch.autograd.grad(loss, currents)
    before, kept = None, []
    for x, told in zip(currents, wanted, strict=True):
        spikes, before, count = steps.fire([steps.Term(x.detach())], before, p)
        assert torch.equal(spikes, told) and count == int(told.sum())
        assert torch.equal(steps.spikes_of(before, p, torch.float32), told)
        kept.append(before)
    carried = None
    for t in reversed(range(4)):
        found, carried = steps.fire_backward(kept[t], [0.25 * mixes[t], 0.75 * mixes[t]], carried, p, torch.float32)
        torch.testing.assert_close(found, gradients[t], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (6, 32, 8, 8), (70, 19)], ids=str)
@pytest.mark.usefixtures("level")
def test_a_norm_is_torchs_both_ways_and_moves_the_same_statistics(training, shape):
    x, mix = steps.laid_out(draw(*shape) * 2 + 1), steps.laid_out(draw(*shape, seed=5))
    o = options(shape[1], training, scale=1.5)
    mean, var = o.running_mean.double(), o.running_var.double()
    leaves = [t.double().requires_grad_() for t in (x, o.weight, o.bias)]
    told = F.batch_norm(leaves[0], mean, var, leaves[1] * 1.5, leaves[2], training, 0.2, 1e-5)
    gradients = torch.autograd.grad((told * mix.double()).sum(), leaves)
    made = steps.statistics(x, o)
    torch.testing.assert_close(
        steps.total([steps.Term(x, made)], torch.empty_like(x)).double(), told, rtol=1e-5, atol=1e-5
    )
    grad, sums = steps.norm_backward(x, made, mix, o.of_batch)
    found = [grad.double(), sums[1] * 1.5, sums[0]]
    for ours, theirs in zip(found, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    torch.testing.assert_close(o.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(o.running_var.double(), var, rtol=1e-5, atol=1e-6)


def test_results_depend_on_no_number_of_threads():
    x = steps.laid_out(draw(16, 40, 16, 16))
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        made = steps.statistics(x, options(40))
        grad, sums = steps.norm_backward(x, made, x, True)
        spikes, potential, count = steps.fire([steps.Term(x, made)], None, NEURONS[0])
        results.append((made, grad, sums, spikes, potential, torch.tensor(count)))
        torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize(("kernel", "stride", "channels"), [(1, 1, 20), (3, 1, 20), (3, 1, 5), (3, 2, 20), (5, 1, 7)])
def test_products_are_torchs(kernel, stride, channels):
    x = steps.laid_out(draw(4, channels, 9, 8)).requires_grad_()
    weight, bias = draw(24, channels, kernel, kernel, seed=1).requires_grad_(), draw(24, seed=2)
    told = F.conv2d(x, weight, bias, stride, kernel // 2)
    mix = steps.laid_out(draw(*told.shape, seed=3))
    wanted = torch.autograd.grad((told * mix).sum(), [x, weight])
    made = Products(stride)
    found = [made.forward(x.detach(), weight.detach(), bias)]
    found += [made.input_gradient(mix, weight.detach(), x.shape)]
    found += [made.weight_gradient(mix, x.detach(), weight.detach())]
    for ours, theirs in zip(found, [told, *wanted], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.detach().abs().max()))
        assert ours.dim() < 4 or ours.is_contiguous(memory_format=LAST) or ours.shape == weight.shape
