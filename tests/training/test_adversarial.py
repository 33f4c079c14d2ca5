"""Adversarial training: inputs within eps and the range, the network as it was, for every method by a key."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from federated.tiny import World
from probes.subjects import network, subject
from spikefed.errors import ConfigError
from spikefed.experiment import config
from spikefed.federated.local import AdversarialTraining, LocalTraining, step_hooks, train_locally
from spikefed.training import AdversarialInputs, Preprocess, rate_cross_entropy


def moved(coding: str = "direct", eps: float = 0.1, **changes) -> tuple[Tensor, Tensor, nn.Module]:
    net, shown = network(coding=coding).train(), subject(8)
    x = Preprocess()(shown.images)
    given = {"size": 0.5, "steps": 3, "start": True, "draws": 1} | changes
    hook = AdversarialInputs(
        eps=torch.full((1, 1, 1, 1), eps), low=torch.zeros(1, 1, 1, 1), high=torch.ones(1, 1, 1, 1), **given
    )
    found = hook.inputs(net, x, shown.labels, rate_cross_entropy, torch.Generator().manual_seed(0))
    return x, found, net


@pytest.mark.parametrize("coding", ["direct", "bernoulli", "latency"])
def test_inputs_stay_within_eps_and_the_range(coding):
    x, found, _ = moved(coding)
    assert (found - x).abs().max() <= 0.1 + 1e-6 and found.min() >= 0 and found.max() <= 1
    assert not torch.equal(found, x) and not found.requires_grad


def test_without_a_start_the_loss_grows():
    net, shown = network().train(), subject(8)
    x, found, net = moved(start=False, steps=4)
    with torch.no_grad():
        before, after = (rate_cross_entropy(net(i), shown.labels) for i in (x, found))
    assert after > before


def test_the_network_is_as_it_was():
    net = network(coding="bernoulli").train()
    coder, before = net.encoder, {k: t.clone() for k, t in net.state_dict().items()}
    x = Preprocess()(subject(8).images)
    hook = AdversarialInputs(torch.full((1,), 0.1), 0.5, 2, True, 2, torch.zeros(1), torch.ones(1))
    hook.inputs(net, x, subject(8).labels, rate_cross_entropy, torch.Generator().manual_seed(0))
    assert net.training and net.encoder is coder
    assert all(torch.equal(before[k], t) for k, t in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def weights(hyper: LocalTraining) -> Tensor:
    world = World(hyper)
    net = world.networks.load()
    train_locally(net, world.client(0))
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_it_is_an_option_that_is_off_by_default():
    plain = weights(LocalTraining())
    assert torch.equal(plain, weights(LocalTraining(adversarial=AdversarialTraining(attack="none", eps=30))))
    found = [weights(LocalTraining(adversarial=AdversarialTraining(attack=a, eps=30))) for a in ("fgsm", "pgd")]
    assert not torch.equal(plain, found[0]) and not torch.equal(found[0], found[1])
    assert torch.equal(found[1], weights(LocalTraining(adversarial=AdversarialTraining(attack="pgd", eps=30))))


def test_an_eps_beyond_the_pixels_is_one_sentence():
    with pytest.raises(
        ConfigError, match="training.adversarial.eps = 300 is beyond what pixels from 0 to 255 can change"
    ):
        weights(LocalTraining(adversarial=AdversarialTraining(attack="fgsm", eps=300)))


def test_eps_is_in_pixels_whatever_the_preprocessing():
    world = World(LocalTraining(adversarial=AdversarialTraining(attack="fgsm", eps=51.0)))
    (hook,) = step_hooks(world.client(0))
    assert isinstance(hook, AdversarialInputs)
    pre = world.client(0).preprocess
    channels = world.client(0).train.images.shape[1]
    there = [pre(torch.full((1, channels, 1, 1), v)) for v in (0.0, 51.0, 255.0)]
    assert torch.allclose(hook.eps, there[1] - there[0]) and torch.equal(hook.low, there[0])
    assert torch.equal(hook.high, there[2]) and hook.steps == 1 and not hook.start


def test_an_eps_beyond_the_range_of_other_pixels_is_refused():
    ctx = World(LocalTraining(adversarial=AdversarialTraining(attack="pgd", eps=8.0))).client(0)
    shown = replace(ctx.train, images=ctx.train.images / ctx.train.images.max())
    with pytest.raises(ConfigError, match=r"adversarial.eps = 8 is beyond .* from 0 to 1 .*; choose one up to 1$"):
        step_hooks(replace(ctx, train=shown))


def test_a_robust_federation_is_a_key_and_keeps_the_hash_of_others():
    tree = {"method": {"name": "fedavg"}}
    plain, off = config.from_tree(tree), config.from_tree(tree, ["training.adversarial.attack='none'"])
    on = config.from_tree(tree, ["training.adversarial.attack='pgd'", "training.adversarial.eps=4"])
    assert plain.hash() == off.hash() != on.hash()
    with pytest.raises(ConfigError, match="training.adversarial.attack"):
        config.from_tree(tree, ["training.adversarial.attack='apgd'"])
    with pytest.raises(ConfigError, match="training.adversarial.eps"):
        config.from_tree(tree, ["training.adversarial.eps=0"])
