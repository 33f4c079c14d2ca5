"""Networks that come back: a model file, what it says of itself, and prediction with what it holds."""

from spikefed.models.export import FORMATS, Exported, export
from spikefed.models.facts import FORMAT, ModelFacts
from spikefed.models.file import model_file, read_model
from spikefed.models.images import Batch, Intake
from spikefed.models.model import WHOLE, Model
from spikefed.models.predictions import Prediction, Predictions

__all__ = [
    "Batch",
    "Exported",
    "FORMAT",
    "FORMATS",
    "Intake",
    "Model",
    "ModelFacts",
    "Prediction",
    "Predictions",
    "WHOLE",
    "export",
    "model_file",
    "read_model",
]
