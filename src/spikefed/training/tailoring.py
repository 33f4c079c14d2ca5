"""NetTailor's loss beside that on labels: expected complexity, and a teacher that every block imitates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.networks import block_outputs, expected_complexity, ways
from spikefed.training.hooks import StepHook


class Tailoring(StepHook):
    """gamma_1 E[C] + gamma_2 mean over blocks, logits included, of the squared distance to the teacher.

    Of spiking networks the means over T of blocks and outputs are compared. Gradients go through all blocks; the
    released code cuts them between blocks.

    Args:
        complexity: gamma_1; 0: E[C] is not computed.
        paper: the paper's formula of E[C] in place of the exact one.
        imitation: gamma_2.
        teacher: a network with the same layers, trained on the task as a whole; None: nothing is imitated.
        outputs: of the task; None: all.
    """

    def __init__(
        self,
        *,
        complexity: float,
        paper: bool = False,
        imitation: float = 0.0,
        teacher: nn.Module | None = None,
        outputs: Sequence[int] | None = None,
    ) -> None:
        self._complexity = complexity
        self._paper = paper
        self._imitation = imitation
        self._teacher = None if teacher is None or not imitation else teacher.eval()
        self._outputs = None if outputs is None else list(outputs)
        self._seen: Mapping[int, Tensor] = {}

    @contextmanager
    def around(self, net: nn.Module, generator: torch.Generator) -> Iterator[None]:
        if self._teacher is None:
            yield
            return
        with block_outputs(net) as self._seen:
            yield

    def term(self, net: nn.Module, x: Tensor, outputs: Tensor, generator: torch.Generator) -> Tensor | None:
        # Both terms; None where neither is asked for.
        terms = []
        if self._complexity:
            terms.append(self._complexity * expected_complexity(ways(net), paper=self._paper).to(outputs.device))
        if self._teacher is not None:
            with torch.no_grad(), block_outputs(self._teacher) as wanted:
                logits = self._teacher(x, generator=generator)
            terms.append(self._imitation * self._distance(outputs, self._seen, logits, wanted))
        return torch.stack(terms).sum() if terms else None

    def _distance(
        self, outputs: Tensor, blocks: Mapping[int, Tensor], logits: Tensor, wanted: Mapping[int, Tensor]
    ) -> Tensor:
        """Mean over blocks and logits; a block that was left out of the student counts as none.

        Args:
            outputs: of the student, ``[T, B, C]``.
            blocks: of the student, ``[T*B, ...]`` by place.
            logits: of the teacher, as ``outputs``.
            wanted: of the teacher, as ``blocks``.
        """
        own = slice(None) if self._outputs is None else self._outputs
        terms = [F.mse_loss(outputs[..., own].mean(dim=0), logits[..., own].mean(dim=0))]
        for place, block in blocks.items():
            student, teacher = (value.unflatten(0, (len(outputs), -1)).mean(dim=0) for value in (block, wanted[place]))
            terms.append(F.mse_loss(student, teacher))
        return torch.stack(terms).mean()
