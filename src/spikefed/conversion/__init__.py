"""From a trained ANN twin to a spiking network that says the same: thresholds from a few images, no training."""

from spikefed.conversion.convert import MOST_STEPS, Conversion, check_convertible, check_wanted, convert
from spikefed.conversion.obfuscate import Retraining, distilled, retrain, weight_changes
from spikefed.conversion.thresholds import RECIPES, Recipe, thresholds

__all__ = [
    "MOST_STEPS",
    "RECIPES",
    "Conversion",
    "Recipe",
    "Retraining",
    "check_convertible",
    "check_wanted",
    "convert",
    "distilled",
    "retrain",
    "thresholds",
    "weight_changes",
]
