"""Hooks of a training step: where they act, in which order, and that one which does nothing changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spikefed.training import Loss, Preprocess, StepHook, train


class Linear(nn.Module):
    """One step of a linear network on the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (x.flatten(1) @ self.weight.T).unsqueeze(0)


def square(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[0, :, 0] - targets).square().mean()


def trained(*hooks: StepHook, epochs: int = 1) -> list[float]:
    net, generator = Linear(), torch.Generator().manual_seed(0)
    train(
        net,
        torch.tensor([[255, 0], [0, 255]], dtype=torch.uint8).view(2, 1, 1, 2),
        torch.tensor([0.0, 0.0]),
        square,
        torch.optim.SGD(net.parameters(), lr=0.5),
        epochs=epochs,
        batch_size=2,
        preprocess=Preprocess(),
        generator=generator,
        hooks=hooks,
    )
    return net.weight.detach().flatten().tolist()


class Twice(StepHook):
    """Inputs times two, weights times two inside the step; says when it was called."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def inputs(self, net: nn.Module, x: Tensor, targets: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
        self.log.append(f"{self.name} inputs {float(loss(net(x), targets).detach()):g}")
        return 2 * x

    @contextmanager
    def around(self, net: nn.Module, generator: torch.Generator) -> Iterator[None]:
        weight = net.weight
        self.log.append(f"{self.name} in")
        weight.data.mul_(2)
        yield
        weight.data.div_(2)
        self.log.append(f"{self.name} out")


def test_by_hand() -> None:
    # Plain: gradient of mean(w_i^2) is w_i, so w <- w - 0.5 w. Twice: outputs 4 w, gradient at the doubled weight 8 w.
    assert trained() == [0.5, 1.0]
    log: list[str] = []
    assert trained(Twice(log, "a")) == [1 - 0.5 * 8, 2 - 0.5 * 16]
    assert log == ["a inputs 2.5", "a in", "a out"]


def test_hooks_nest_in_the_order_given() -> None:
    log: list[str] = []
    trained(Twice(log, "a"), Twice(log, "b"))
    assert log == ["a inputs 2.5", "b inputs 10", "a in", "b in", "b out", "a out"]


def test_the_base_does_nothing() -> None:
    assert trained(StepHook(), epochs=3) == trained(epochs=3)
