"""Exemplars: which are kept, and that a step's term is the loss on them, by their own heads."""

from __future__ import annotations

from typing import Any

import torch

from spikefed.training import Replay, rate_cross_entropy
from spikefed.training.exemplars import first_of_each
from training.test_ewc import RAW, Linear, data


def test_the_first_of_every_class_are_kept() -> None:
    labels = torch.tensor([2, 0, 2, 2, 1, 0])
    assert first_of_each(labels, 2).tolist() == [0, 1, 2, 4, 5]
    assert first_of_each(labels, 1).tolist() == [0, 1, 4]


def replay(memory: dict[str, Any], task: int, labels: torch.Tensor, heads: dict[int, tuple[int, ...]]) -> Replay:
    images, _ = data(len(labels))
    told: dict[str, Any] = {"per_class": 1, "strength": 0.5, "batch": 8}
    return Replay(
        memory, task=task, images=images, labels=labels, loss=rate_cross_entropy, preprocess=RAW, heads=heads, **told
    )


def test_the_term_is_the_mean_loss_on_exemplars_of_other_tasks() -> None:
    net = Linear()
    draws = torch.Generator().manual_seed(0)
    memory: dict[str, Any] = {}
    images, _ = data(4)
    first = replay(memory, 0, torch.tensor([0, 1, 1, 0]), {})
    assert first.term(net, images, net(images), draws) is None
    first.end(net, draws)
    kept = memory["images"].clone()
    first.end(net, draws)  # a second round keeps no more
    assert torch.equal(memory["images"], kept) and memory["labels"].tolist() == [0, 1]
    assert first.term(net, images, net(images), draws) is None  # its own task is not rehearsed
    second = replay(memory, 1, torch.tensor([2, 2, 2, 2]), {})
    term = second.term(net, images, net(images), draws)
    assert term is not None and torch.allclose(term, 0.5 * rate_cross_entropy(net(kept), memory["labels"]))
    second.end(net, draws)
    assert memory["tasks"].tolist() == [0, 0, 1]
    third = replay(memory, 2, torch.tensor([0]), {0: (0, 1), 1: (2,)})
    term = third.term(net, images, net(images), draws)
    by_head = rate_cross_entropy(net(kept)[..., :2], torch.tensor([0, 1]))  # one output alone has loss 0
    assert term is not None and torch.allclose(term, 0.5 * 2 / 3 * by_head)
