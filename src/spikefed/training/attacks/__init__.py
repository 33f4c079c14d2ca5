"""Attacks on a network's input: the ball that an image stays in, gradients through coders, and the searches."""

from spikefed.training.attacks.apgd import apgd
from spikefed.training.attacks.ball import Ball, Distance
from spikefed.training.attacks.draws import AGAIN, JUDGE
from spikefed.training.attacks.flips import flip_spikes
from spikefed.training.attacks.gradients import fgsm, noise, pgd
from spikefed.training.attacks.square import square
from spikefed.training.attacks.surrogates import NAMES as SURROGATE_NAMES
from spikefed.training.attacks.surrogates import neurons, through
from spikefed.training.attacks.victim import Goal, Loss, Victim

__all__ = [
    "AGAIN",
    "Ball",
    "Distance",
    "Goal",
    "JUDGE",
    "Loss",
    "SURROGATE_NAMES",
    "Victim",
    "apgd",
    "fgsm",
    "flip_spikes",
    "neurons",
    "noise",
    "pgd",
    "square",
    "through",
]
