"""A whole training step as one CUDA graph: the launches of small networks cost more than their work."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class GraphedStep:
    """Records ``step(*inputs)`` once and replays it; elsewhere than on CUDA it is called as it is.

    The step (forward, backward, optimiser) must read nothing but its inputs and tensors that stay where they are:
    ``optimiser.zero_grad(set_to_none=False)``, Adam with ``capturable=True``, no ``.item()``, inputs of one shape.
    Random input coding and norms that count batches on the host (``warm_up``) do not belong inside.

    Args:
        step: does one training step and returns a tensor (the loss).
        inputs: example inputs, on the device; their contents are not trained on.
        state: gives every tensor that the step changes (parameters, buffers, optimiser state, ...); called before and
            after the warm-up, whose changes are taken back. Tensors that first appear in it start from 0.
        warm_up: steps before recording, at least 1 (lazy initialisation must be over).

    >>> graphed = GraphedStep(step, images, labels, state=lambda: [*net.parameters(), *net.buffers()])
    >>> loss = graphed(images, labels)
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        *inputs: Tensor,
        state: Callable[[], Iterable[Tensor]],
        warm_up: int = 3,
    ) -> None:
        self._step = step
        self._graph = None
        if not inputs or inputs[0].device.type != "cuda":
            return
        before = [(t, t.detach().clone()) for t in state()]
        known = {id(t) for t, _ in before}
        self._inputs = [t.clone() for t in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(max(warm_up, 1)):
                step(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = step(*self._inputs)
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
            for tensor in state():
                if id(tensor) not in known:
                    tensor.zero_()

    @property
    def recorded(self) -> bool:
        """Whether calls replay a graph."""
        return self._graph is not None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """One training step on ``inputs`` (of the recorded shapes); the loss, overwritten by the next call."""
        if self._graph is None:
            return self._step(*inputs)
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._loss


def optimiser_state(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """All tensors an optimiser keeps (momenta, step counts). Each of its parameter's shape or a scalar."""
    return [v for entry in optimiser.state.values() for v in entry.values() if isinstance(v, Tensor)]
