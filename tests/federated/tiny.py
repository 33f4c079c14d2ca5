"""A toy world for method tests: a threshold network, two or three clients, numbers small enough to check."""

from __future__ import annotations

import torch
from torch import nn

from spikefed.federated import ClientContext, Context, Labelled, NetworkFactory
from spikefed.training import Preprocess

STEPS, CLASSES, PUBLIC = 4, 3, 12


class Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 0.5)


class TinyNet(nn.Module):
    """Linear, batch norm, spikes at rising thresholds; weights, statistics and an integer counter, like real nets."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.fc = nn.Linear(4, CLASSES)
        self.norm = nn.BatchNorm1d(CLASSES)
        with torch.no_grad():
            self.fc.weight.copy_(torch.randn(CLASSES, 4, generator=torch.Generator().manual_seed(seed)))
            self.fc.bias.zero_()

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        y = self.norm(self.fc(x.flatten(1)))
        levels = torch.linspace(-0.5, 1.0, STEPS).view(-1, 1, 1)
        return Threshold.apply(y.unsqueeze(0) - levels)  # type: ignore[no-any-return]


def data(count: int, seed: int) -> Labelled:
    """Images whose brightest of the first three pixels is the label."""
    images = torch.randint(0, 256, (count, 1, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Labelled(images, images.flatten(1)[:, :CLASSES].to(torch.int64).argmax(dim=1))


class World:
    """Contexts for a method's steps."""

    def __init__(self, hyper: object) -> None:
        self.hyper = hyper
        self.networks = NetworkFactory(TinyNet, seed=1)
        self.public = data(PUBLIC, 99).images

    def _common(self, round: int, stream: int) -> dict:
        return dict(
            round=round, networks=self.networks, public=self.public, public_set_id=bytes(32), hyper=self.hyper,
            preprocess=Preprocess("signed"), seed=50 + stream,
            generator=torch.Generator().manual_seed(1000 * stream + round),
        )  # fmt: skip

    def server(self, round: int = 1) -> Context:
        return Context(**self._common(round, 0))

    def client(self, client: int, round: int = 1, samples: int = 40) -> ClientContext:
        return ClientContext(
            **self._common(round, client + 1),
            client=client,
            train=data(samples, client),
            validation=data(10, 50 + client),
        )
