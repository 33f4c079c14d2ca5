"""What a client says of rows that it knows nothing of, before any server has taught it: nothing, if it is told to.

A network that has only seen some classes fires for one of them on every row. In the first round that is all a client
has, and where labels are skewed most rows get the word of clients that never saw their class. Outlier exposure
(Hendrycks, Mazeika & Dietterich, "Deep Anomaly Detection with Outlier Exposure", ICLR 2019) teaches a network to keep
still on images that are not its own: here on the public rows, with a weight that follows how many classes the client
lacks. Rows of its own classes are among them; its labels outweigh the pressure there. Label counts never travel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikefed.federated.contract import ClientContext

FEW = 0.1
"""A client lacks a class of which it holds less than this part of an even share."""


def lacking(labels: Tensor, classes: int) -> float:
    """Share of the classes that a client lacks, in [0, 1); 0 where it holds enough of all.

    Args:
        labels: of its training images, int64 ``[N]``.
        classes: C.

    >>> lacking(torch.tensor([0, 0, 1, 1]), 4), lacking(torch.tensor([0, 1, 2, 3]), 4)
    (0.5, 0.0)
    """
    counts = torch.bincount(labels, minlength=classes)[:classes]
    return float((counts < FEW * len(labels) / classes).float().mean()) if len(labels) else 0.0


def strangeness(ctx: ClientContext) -> float:
    """The weight of `quiet` in the first local training of the context's client; 0 where it lacks no class."""
    if not ctx.hyper.silence or not len(ctx.public):
        return 0.0
    return ctx.hyper.silence * lacking(ctx.train.labels, int(getattr(ctx.networks.network, "classes", 0)) or 1)


def quiet(outputs: Tensor, target: Tensor) -> Tensor:
    """The mean over rows of the summed squares of firing rates: least where no class fires.

    Args:
        outputs: spikes ``[T, B, C]``.
        target: not looked at.
    """
    return outputs.mean(dim=0).square().sum(dim=1).mean()
