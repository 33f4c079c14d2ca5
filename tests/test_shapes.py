"""The hook of `conftest.py` checks the shapes that annotations state, and only those."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.neurons import LIFParameters, lif_hard, norm_lif
from spikefed.training import distillation_loss

P = LIFParameters(decay=0.5, v_threshold=1.0)


def test_axes_of_one_name_agree() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="v0"):
        lif_hard(torch.zeros(4, 2, 3), torch.zeros(3, 3), P)


def test_axes_of_student_and_teacher_agree() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="target"):
        distillation_loss(torch.zeros(4, 2, 3), torch.zeros(2, 4, 3), 0.0, "framewise")


def test_words_are_left_to_the_function() -> None:
    with pytest.raises(ConfigError, match="unknown norm"):
        norm_lif(torch.zeros(6, 3), P, steps=3, norm="layer")  # type: ignore[arg-type]
