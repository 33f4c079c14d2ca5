"""Spike-based training of a converted network on synthetic images: the last step of PrivateSNN (Kim et al., AAAI 2022).

The paper calls it encryption. There is no key and no guarantee: it moves weights, so that what was read from the ANN's
is read less well from these. This is obfuscation, and `probes` say how much of it. It also mends what a conversion
to few steps has lost. The paper leaves the loss open; here the network learns the ANN's outputs:

    loss = temperature^2 * KL(softmax(z_ann / temperature) || softmax(z_snn / temperature)),  z_snn: mean over T
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.training import Preprocess, train


@dataclass(frozen=True)
class Retraining:
    """How the converted network is trained on.

    Attributes:
        epochs: over the synthetic images; 0 leaves the conversion as it is.
        lr: of Adam [left open by the paper; its code has 1e-4].
        batch: images of a step.
        temperature: of both softmaxes.
    """

    epochs: int = 20
    lr: float = 1e-3
    batch: int = 50
    temperature: float = 4.0

    def check(self) -> None:
        """Raise ConfigError for a number that is none."""
        if self.epochs < 0 or self.batch < 1 or not (self.lr > 0 and self.temperature > 0):
            raise ConfigError(
                f"retraining for {self.epochs} epochs in batches of {self.batch} at lr {self.lr} and temperature "
                f"{self.temperature} cannot be; use epochs from 0, batches from 1, and numbers above 0"
            )


def distilled(outputs: Float[Tensor, "T B C"], logits: Float[Tensor, "B C"], temperature: float) -> Float[Tensor, ""]:
    """KL divergence of mean outputs from a teacher's logits, times the squared temperature; nats."""
    student = F.log_softmax(outputs.mean(dim=0) / temperature, dim=1)
    teacher = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def retrain(
    net: nn.Module,
    images: UInt8[Tensor, "N C H W"],
    logits: Float[Tensor, "N classes"],
    plan: Retraining,
    *,
    preprocess: Preprocess,
    generator: torch.Generator,
) -> float:
    """Train the spiking network in place on what the ANN says of the images.

    Args:
        net: as `spikefed.conversion.convert` made it.
        images: pixels.
        logits: the ANN's of these.
        plan: how long and how fast.
        preprocess: pixels to network input.
        generator: order of the images, and draws of an input coding.

    Returns:
        mean loss of the last epoch; nan without one.
    """
    plan.check()
    optim = torch.optim.Adam(net.parameters(), lr=plan.lr)
    loss = train(
        net,
        images,
        logits,
        lambda outputs, wanted: distilled(outputs, wanted, plan.temperature),
        optim,
        epochs=plan.epochs,
        batch_size=plan.batch,
        preprocess=preprocess,
        generator=generator,
    )
    net.eval()
    return loss


def weight_changes(before: nn.Module, after: nn.Module) -> list[dict[str, str | float]]:
    """How far the weights moved, a row for each tensor: cosine to what they were, and length of the change in theirs.

    Cosines near 1 mean that whoever holds the network still holds the ANN, but for a factor a layer.
    """
    old = dict(before.named_parameters())
    rows: list[dict[str, str | float]] = []
    for name, tensor in after.named_parameters():
        one = old[name].detach().flatten().double()
        other = tensor.detach().flatten().double()
        length = float(one.norm().clamp_min(1e-12))
        cosine = float(F.cosine_similarity(one, other, dim=0))
        rows.append({"tensor": name, "cosine": cosine, "change_share": float((other - one).norm()) / length})
    return rows
