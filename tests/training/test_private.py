"""DP-SGD: clipped sums against single samples, noise, batches by chance, the accountant, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, build, per_sample, wrap
from spikefed.neurons import ATan, LIFParameters
from spikefed.training import PrivateSteps, rate_cross_entropy
from spikefed.training.accountant import noise_for, spent
from spikefed.training.loops import poisson_batches
from spikefed.training.private import by_closed_forms, refuse_mixing

LIVELY = LIFParameters(kind="soft", decay=0.8, v_threshold=0.1, surrogate=ATan(2.0))


def network(name: str = "4C3-AP2-6C3-12FC", **changes: Any) -> nn.Module:
    given = {"input_shape": (1, 8, 8), "classes": 4, "steps": 3, "norm": "none", "neuron": LIVELY, "seed": 1} | changes
    return build(name, **given).double()


def samples(count: int = 6) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(3)
    return torch.rand(count, 1, 8, 8, generator=draws, dtype=torch.float64), torch.arange(count) % 4


def gradient(net: nn.Module, hook: PrivateSteps | None = None, seed: int = 0) -> dict[str, Tensor]:
    """What the optimiser sees after one step."""
    x, y = samples()
    draws = torch.Generator().manual_seed(seed)
    net.train()
    net.zero_grad(set_to_none=True)
    if hook is None:
        rate_cross_entropy(net(x), y).backward()
    else:
        hook.inputs(net, x, y, rate_cross_entropy, draws)
        with hook.around(net, draws):
            rate_cross_entropy(net(x), y).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def norm(gradients: dict[str, Tensor]) -> float:
    return float(torch.cat([g.flatten() for g in gradients.values()]).norm())


def single(net: nn.Module, clip: float) -> dict[str, Tensor]:
    """Sum of clipped gradients, by the definition."""
    x, y = samples()
    total: dict[str, Tensor] = {}
    for n in range(len(x)):
        net.zero_grad(set_to_none=True)
        rate_cross_entropy(net(x[n : n + 1]), y[n : n + 1]).backward()
        mine = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
        share = min(1.0, clip / norm(mine))
        total = {name: total.get(name, 0) + share * g for name, g in mine.items()}
    net.zero_grad(set_to_none=True)
    return total


CASES = {
    "row": network,
    "residual": lambda: network("resnet-small"),
    "backward edges": lambda: network("snasnet-small"),
    "ANN twin of a graph": lambda: ann_twin("resnet-small", input_shape=(1, 8, 8), classes=4, norm="none").double(),
    "ANN twin": lambda: ann_twin("small", input_shape=(1, 8, 8), classes=4, norm="none").double(),
    "a user's": lambda: wrap(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 4)),
        steps=2, classes=4, readout="current", mode="step",
    ).double(),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", [0.3, 1e6])
def test_the_sum_of_clipped_gradients(case: str, share: float) -> None:
    net = CASES[case]()
    assert by_closed_forms(net) == (case != "a user's")
    clip = share * norm(gradient(net))
    found = gradient(net, PrivateSteps(clip, noise=0.0, batch=6))
    expected = single(net, clip)
    assert found.keys() == expected.keys()
    for name, total in expected.items():
        assert torch.allclose(6 * found[name], total, rtol=1e-9, atol=1e-12 * float(total.abs().max())), name
    if share > 1:
        plain = gradient(net)
        assert all(torch.allclose(found[name], plain[name]) for name in plain)


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    net = network()
    quiet, loud = gradient(net, PrivateSteps(0.5, 0.0, 6)), gradient(net, PrivateSteps(0.5, 3.0, 6))
    noise = torch.cat([(loud[name] - quiet[name]).flatten() for name in quiet])
    assert float(noise.std()) == pytest.approx(3.0 * 0.5 / 6, rel=0.1)
    assert abs(float(noise.mean())) < 4 * float(noise.std()) / len(noise) ** 0.5
    other = gradient(net, PrivateSteps(0.5, 3.0, 6), seed=1)
    assert not torch.equal(other["fc1.weight"], loud["fc1.weight"])


def test_a_pull_of_the_method_is_neither_clipped_nor_lost() -> None:
    net = network()
    x, y = samples()
    hook = PrivateSteps(1e-9, 0.0, 6)
    hook.inputs(net, x, y, rate_cross_entropy, torch.Generator())
    with hook.around(net, torch.Generator()):
        (rate_cross_entropy(net(x), y) + net.get_parameter("fc1.weight").square().sum() / 2).backward()
    found = net.get_parameter("fc1.weight")
    assert found.grad is not None and torch.allclose(found.grad, found.detach(), atol=1e-8)


def test_batches_are_drawn_by_chance() -> None:
    draws = torch.Generator().manual_seed(0)
    times = torch.zeros(100)
    sizes = []
    for _ in range(50):
        epoch = list(poisson_batches(100, 10, generator=draws))
        assert len(epoch) == 10
        for index in epoch:
            assert len(index) and len(index.unique()) == len(index)
            times[index] += 1
            sizes.append(len(index))
    assert abs(sum(sizes) / len(sizes) - 10) < 0.6 and len(set(sizes)) > 5
    assert float(times.min()) > 30 and float(times.max()) < 75
    assert len(next(iter(poisson_batches(3, 10, generator=draws)))) == 3


def test_the_accountant_is_opacus_and_grows_as_it_must() -> None:
    accountants = pytest.importorskip("opacus.accountants")
    told = accountants.RDPAccountant()
    for _ in range(200):
        told.step(noise_multiplier=1.1, sample_rate=0.05)
    assert spent(1.1, 0.05, 200, 1e-5) == pytest.approx(told.get_epsilon(1e-5))
    assert spent(1.1, 0.05, 0, 1e-5) == 0 and spent(0.0, 0.05, 1, 1e-5) == float("inf")
    assert spent(1.1, 0.05, 60, 1e-5) > spent(1.1, 0.05, 30, 1e-5) > spent(2.0, 0.05, 30, 1e-5)
    for epsilon in (1.0, 8.0):
        noise = noise_for(epsilon, 0.1, 200, 1e-5)
        assert spent(noise, 0.1, 200, 1e-5) <= epsilon < spent(noise - 0.01, 0.1, 200, 1e-5)


def test_norms_are_those_of_opacus_on_an_ann_twin() -> None:
    opacus = pytest.importorskip("opacus")
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)).double()
    x, y = samples()
    with per_sample(wrap(module, steps=1, classes=4, readout="current", mode="step")) as way:
        outputs = way.outputs(x)
        upstream = (outputs.softmax(2) - nn.functional.one_hot(y, 4)).detach()
        ours = {name.removeprefix("module."): norms for name, norms in way.squared_norms(upstream, 1).items()}
    watched = opacus.GradSampleModule(module, loss_reduction="sum")
    nn.functional.cross_entropy(watched(x.requires_grad_()), y, reduction="sum").backward()
    for name, parameter in module.named_parameters():
        assert torch.allclose(parameter.grad_sample.flatten(1).square().sum(1), ours[name], rtol=1e-5), name


def test_clipped_sums_are_those_of_opacus_on_an_ann_twin() -> None:
    opacus = pytest.importorskip("opacus")
    net = ann_twin("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=4, norm="none", seed=2).double()
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 4),
    ).double()  # fmt: skip
    with torch.no_grad():
        for theirs, ours in zip(module.parameters(), net.parameters(), strict=True):
            theirs.copy_(ours)
    x, y = samples()
    assert torch.allclose(module(x), net(x)[0])
    watched = opacus.GradSampleModule(module, loss_reduction="sum")
    nn.functional.cross_entropy(watched(x.clone().requires_grad_()), y, reduction="sum").backward()
    single = [p.grad_sample for p in module.parameters()]
    norms = torch.stack([g.flatten(1).square().sum(1) for g in single]).sum(0).sqrt()
    clip = float(norms.median())
    shares = clip / norms.clamp_min(clip)
    found = gradient(net, PrivateSteps(clip, 0.0, 6))
    for (name, _), theirs in zip(net.named_parameters(), single, strict=True):
        expected = torch.einsum("b,b...->...", shares, theirs)
        assert torch.allclose(6 * found[name], expected, rtol=1e-5, atol=1e-9), name


def test_batch_statistics_and_second_passes_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch statistics of 'conv1.norm' mix them; set network.norm = 'none'"):
        refuse_mixing(network(norm="bn"))
    own = wrap(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4)), steps=1, classes=4, mode="step")
    with pytest.raises(ConfigError, match="take GroupNorm"):
        refuse_mixing(own)
    net = network()
    x, y = samples()
    hook = PrivateSteps(1.0, 0.0, 6)
    hook.inputs(net, x, y, rate_cross_entropy, torch.Generator())
    with pytest.raises(ConfigError, match="ran the network again"), hook.around(net, torch.Generator()):
        (rate_cross_entropy(net(x), y) + rate_cross_entropy(net(x), y)).backward()
