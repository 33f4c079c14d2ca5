"""Losses and loops shared by every method."""

from spikefed.training.adversarial import AdversarialInputs
from spikefed.training.augment import AUGMENTATIONS, REACH, Augmentation
from spikefed.training.average import WeightAverage
from spikefed.training.channels import channel_scores, mask_of_best_channels, too_sparse
from spikefed.training.earlytime import early_steps, kl_profile, prefix_divergences
from spikefed.training.ewc import ElasticPull
from spikefed.training.exemplars import Replay
from spikefed.training.hooks import Loss, StepHook
from spikefed.training.loops import (
    Evaluation,
    Preprocess,
    batches,
    evaluate,
    judged,
    mean_evaluation,
    output_spikes,
    outputs,
    train,
)
from spikefed.training.losses import (
    LABEL_LOSSES,
    CrossTerm,
    DistillationLoss,
    distillation_loss,
    firing_rate,
    own_outputs,
    rate_cross_entropy,
    rate_mse,
    spike_mse,
    step_cross_entropy,
)
from spikefed.training.lrschedule import half_cosine
from spikefed.training.lwf import OldOutputs
from spikefed.training.masks import Mask, density, held, released
from spikefed.training.noise import NoisyWeights
from spikefed.training.operations import FewOperations
from spikefed.training.optimisers import optimiser
from spikefed.training.private import PrivateSteps
from spikefed.training.pruning import (
    input_activity,
    magnitudes,
    mask_distance,
    mask_of_best,
    random_scores,
    saliencies,
    schedule,
)
from spikefed.training.saliency import Saliencies, mask_of_least_loss, operations_of, per_operation, saliencies_of
from spikefed.training.tailoring import Tailoring
from spikefed.training.temporal import (
    TEMPORAL_LOSSES,
    centroid,
    centroid_loss,
    head_information,
    hidden_of,
    prefix_cross_entropy,
    prefix_means,
    subset_cross_entropy,
)

__all__ = [
    "AUGMENTATIONS",
    "AdversarialInputs",
    "Augmentation",
    "CrossTerm",
    "DistillationLoss",
    "ElasticPull",
    "Evaluation",
    "FewOperations",
    "LABEL_LOSSES",
    "Loss",
    "Mask",
    "NoisyWeights",
    "OldOutputs",
    "Tailoring",
    "Preprocess",
    "PrivateSteps",
    "REACH",
    "Replay",
    "Saliencies",
    "StepHook",
    "TEMPORAL_LOSSES",
    "WeightAverage",
    "batches",
    "centroid",
    "channel_scores",
    "centroid_loss",
    "density",
    "distillation_loss",
    "early_steps",
    "evaluate",
    "firing_rate",
    "half_cosine",
    "head_information",
    "held",
    "hidden_of",
    "input_activity",
    "kl_profile",
    "magnitudes",
    "mask_distance",
    "mask_of_best",
    "mask_of_best_channels",
    "mask_of_least_loss",
    "judged",
    "mean_evaluation",
    "optimiser",
    "output_spikes",
    "outputs",
    "own_outputs",
    "operations_of",
    "per_operation",
    "prefix_cross_entropy",
    "prefix_divergences",
    "prefix_means",
    "random_scores",
    "rate_cross_entropy",
    "rate_mse",
    "released",
    "saliencies",
    "saliencies_of",
    "schedule",
    "spike_mse",
    "step_cross_entropy",
    "subset_cross_entropy",
    "too_sparse",
    "train",
]
