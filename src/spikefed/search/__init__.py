"""Architectures without training: cells scored by how differently an untrained network's neurons answer images."""

from spikefed.search.candidate import Answers, Macro, Size, answers, saliency, size_of
from spikefed.search.kernels import Evidence, evidence, log_determinant
from spikefed.search.scores import SCORES, Objective, Score
from spikefed.search.scoring import Record, Task, scoring
from spikefed.search.search import Plan, front, mean_ranks, search, with_ensemble
from spikefed.search.shared import Memory
from spikefed.search.space import Limits, Space
from spikefed.search.strategies import STRATEGIES, Strategy

__all__ = [
    "SCORES",
    "STRATEGIES",
    "Answers",
    "Evidence",
    "Limits",
    "Macro",
    "Memory",
    "Objective",
    "Plan",
    "Record",
    "Score",
    "Size",
    "Space",
    "Strategy",
    "Task",
    "answers",
    "evidence",
    "front",
    "log_determinant",
    "mean_ranks",
    "saliency",
    "scoring",
    "search",
    "size_of",
    "with_ensemble",
]
