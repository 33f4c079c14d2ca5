"""LwF by hand: the divergence is Hinton's, its gradient that of the paper's softened cross-entropy."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.training import OldOutputs
from spikefed.training.lwf import softened_divergence
from training.test_ewc import Linear, data


def logits(seed: int) -> Tensor:
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(seed))


def test_the_divergence_is_the_kd_formula() -> None:
    new, old = logits(0), logits(1)
    tau, scale = 2.0, 3.0
    p = torch.softmax(scale * old.mean(0) / tau, 1)
    q = torch.softmax(scale * new.mean(0) / tau, 1)
    by_hand = tau**2 * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(softened_divergence(new, old, tau, scale), by_hand, atol=1e-6)
    assert float(softened_divergence(old, old, tau)) < 1e-6


def test_its_gradient_is_that_of_the_papers_renormalised_probabilities() -> None:
    """Eq. 3 of the paper: y' = y^(1/tau) / sum y^(1/tau), then cross-entropy."""
    tau = 2.0
    old = torch.softmax(logits(1).mean(0), 1)
    old = old ** (1 / tau) / (old ** (1 / tau)).sum(1, keepdim=True)
    new = logits(0).requires_grad_(True)
    ours = torch.autograd.grad(softened_divergence(new, logits(1), tau), new)[0]
    y = F.softmax(new.mean(0), 1) ** (1 / tau)
    paper = -(old * (y / y.sum(1, keepdim=True)).log()).sum(1).mean()
    assert torch.allclose(ours, tau**2 * torch.autograd.grad(paper, new)[0], atol=1e-6)


def test_the_network_as_the_task_found_it_teaches_until_the_next() -> None:
    net = Linear()
    images, _ = data()
    draws = torch.Generator()
    memory: dict[str, Any] = {}
    told: dict[str, Any] = {"strength": 2.0, "temperature": 2.0, "scale": 1.0}
    first = OldOutputs(memory, fresh=False, heads=None, **told)
    first.begin(net, draws)
    assert not memory and first.term(net, images, net(images), draws) is None
    before = net(images).detach()
    for fresh in (True, False):  # two rounds of the second task
        hook = OldOutputs(memory, fresh=fresh, heads=[(0, 2)], **told)
        hook.begin(net, draws)
        with torch.no_grad():
            net.weight[0].add_(0.3)
        said = net(images)
        term = hook.term(net, images, said, draws)
        expected = 2.0 * softened_divergence(said[..., [0, 2]], before[..., [0, 2]], 2.0)
        assert term is not None and torch.allclose(term, expected)
