"""EWC by hand: F of a linear network, the penalty and its gradient, what a run of tasks keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikefed.training import ElasticPull, Preprocess, rate_cross_entropy
from spikefed.training.ewc import elastic_penalty, fisher

RAW = Preprocess("raw")


class Linear(nn.Module):
    """Two steps, the second at twice the output, so that the mean is 1.5 W x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, -1.0], [0.25, 0.75], [-0.5, 0.1]]))
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        once = x.flatten(1) @ self.weight.T
        return torch.stack([once, 2 * once])


def data(count: int = 6) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 1, 2, generator=draws), torch.randint(0, 3, (count,), generator=draws)


def test_fisher_is_the_mean_of_every_images_squared_gradient() -> None:
    net = Linear()
    images, labels = data()
    found = fisher(net, images, labels, rate_cross_entropy, RAW, torch.Generator())
    expected = torch.zeros(3, 2)
    for x, y in zip(images.flatten(1), labels, strict=True):
        p = torch.softmax(1.5 * net.weight.detach() @ x, 0)
        p[y] -= 1
        expected += (1.5 * torch.outer(p, x)).square() / len(images)
    assert torch.allclose(found["weight"], expected, atol=1e-6)
    assert found.keys() == {"weight", "unused"} and not found["unused"].any()
    assert net.training and net.weight.grad is None


def test_the_penaltys_gradient_is_lambda_f_times_the_distance() -> None:
    w = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    anchor = torch.tensor([0.0, -2.0, 1.5])
    information = torch.tensor([3.0, 5.0, 0.25])
    value = elastic_penalty({"w": w, "other": torch.ones(2)}, {"w": anchor}, {"w": information}, 4.0)
    value.backward()
    assert float(value.detach()) == pytest.approx(0.5 * 4 * (3 * 1 + 0 + 0.25 * 1))
    assert torch.allclose(w.grad, 4.0 * information * (w.detach() - anchor)) if w.grad is not None else False


def test_tasks_add_up_and_the_anchor_is_where_the_newest_began() -> None:
    net = Linear()
    memory: dict[str, Any] = {}
    images, labels = data()
    draws = torch.Generator()
    latest: list[Tensor] = []
    for task in range(3):
        told: dict[str, Any] = {"strength": 1.0, "images": images, "labels": labels, "samples": 6}
        hook = ElasticPull(memory, fresh=task > 0, loss=rate_cross_entropy, preprocess=RAW, **told)
        hook.begin(net, draws)
        began = net.weight.detach().clone()
        term = hook.term(net, images, images, draws)
        assert (term is None) == (task == 0) and (term is None or float(term.detach()) == 0)
        with torch.no_grad():
            net.weight.add_(0.1)
        hook.end(net, draws)
        hook.end(net, draws)  # a second round of the task replaces the first
        if task:
            assert torch.equal(memory["anchor"]["weight"], began)
            assert torch.allclose(memory["fisher"]["weight"], torch.stack(latest).sum(0))
        latest.append(memory["latest"]["weight"])
