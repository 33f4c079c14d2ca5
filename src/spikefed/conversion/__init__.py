"""From a trained ANN twin to a spiking network that says the same: thresholds from a few images, no training."""

from spikefed.conversion.convert import MOST_STEPS, Conversion, check_wanted, convert
from spikefed.conversion.thresholds import RECIPES, Recipe, thresholds

__all__ = ["MOST_STEPS", "RECIPES", "Conversion", "Recipe", "check_wanted", "convert", "thresholds"]
