"""Losses and loops shared by every method."""

from spikefed.training.augment import AUGMENTATIONS
from spikefed.training.hooks import Loss, StepHook
from spikefed.training.loops import (
    Evaluation,
    Preprocess,
    batches,
    evaluate,
    mean_evaluation,
    optimiser,
    output_spikes,
    outputs,
    train,
)
from spikefed.training.losses import (
    LABEL_LOSSES,
    CrossTerm,
    distillation_loss,
    firing_rate,
    rate_cross_entropy,
    rate_mse,
    spike_mse,
    step_cross_entropy,
)
from spikefed.training.masks import Mask, density, held, released

__all__ = [
    "AUGMENTATIONS",
    "CrossTerm",
    "Evaluation",
    "LABEL_LOSSES",
    "Loss",
    "Mask",
    "Preprocess",
    "StepHook",
    "batches",
    "density",
    "distillation_loss",
    "evaluate",
    "firing_rate",
    "held",
    "mean_evaluation",
    "optimiser",
    "output_spikes",
    "outputs",
    "rate_cross_entropy",
    "rate_mse",
    "released",
    "spike_mse",
    "step_cross_entropy",
    "train",
]
