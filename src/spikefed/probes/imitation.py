"""Networks that an attacker teaches what a client says of images that everybody knows: what an upload without weights
gives away is what such an imitator knows.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.probes.contract import Subject
from spikefed.training import train

Upload = Literal["outputs", "labels"]
UPLOADS: tuple[Upload, ...] = ("outputs", "labels")
"""Output spikes of every step (of other readouts their currents), or the class alone."""

RATE_SCALE = 5.0
"""Factor on firing rates, which end at 1, that makes logits of them."""

BATCH = 50


@torch.no_grad()
def redraw(net: nn.Module, generator: torch.Generator) -> None:
    """Fresh weights in place: uniform within 1 / sqrt(inputs), biases 0, normalisations as they begin."""
    for module in net.modules():
        normalises = hasattr(module, "running_mean")
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.ndim > 1 and not normalises:
                bound = tensor[0].numel() ** -0.5
                tensor.copy_(2 * bound * torch.rand(tensor.shape, generator=generator) - bound)
            else:
                tensor.fill_(1.0 if normalises and name == "weight" else 0.0)
        for name, tensor in module.named_buffers(recurse=False):
            if name in ("running_mean", "running_var"):
                tensor.fill_(float(name == "running_var"))


def imitate(
    net: nn.Module,
    known: Subject,
    answers: Float[Tensor, "N C T"],
    upload: Upload,
    epochs: int,
    generator: torch.Generator,
) -> nn.Module:
    """A network of the same kind that has learned a client's answers, and nothing else.

    Args:
        net: its kind; left as it is.
        known: the images that everybody knows.
        answers: the client's outputs on them.
        upload: what of them travels.
        epochs: of Adam at 1e-3.
        generator: of weights and order.
    """
    pupil = copy.deepcopy(net)
    redraw(pupil, generator)
    spikes = getattr(net, "readout", "") == "spike"
    scale = RATE_SCALE if spikes else 1.0

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        if upload == "labels":
            return F.cross_entropy(scale * outputs.mean(dim=0), target)
        if spikes:
            return F.mse_loss(outputs, target.permute(2, 0, 1))
        teacher = torch.softmax(target.mean(dim=2), dim=1)
        return F.kl_div(torch.log_softmax(outputs.mean(dim=0), dim=1), teacher, reduction="batchmean")

    target = answers.mean(dim=2).argmax(dim=1) if upload == "labels" else answers.float()
    optim = torch.optim.Adam(pupil.parameters(), lr=1e-3)
    train(
        pupil, known.images, target, loss, optim,
        epochs=epochs, batch_size=BATCH, preprocess=known.preprocess, generator=generator,
    )  # fmt: skip
    return pupil.eval()
