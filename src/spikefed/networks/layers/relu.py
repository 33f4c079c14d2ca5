"""The same layers in the ANN twin: ReLU in the place of neurons."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from spikefed.networks.layers.planned import PlannedLayer, WeightedLayer
from spikefed.networks.layers.tailored import proxies_of
from spikefed.networks.layout import LayerPlan
from spikefed.networks.mime import masked
from spikefed.networks.norms import Norm
from spikefed.networks.proxies import chosen_sum
from spikefed.networks.qcfs import QCFS


class _Rectified(PlannedLayer):
    """What happens to the currents in the ANN twin."""

    rectify: bool
    qcfs: QCFS | None
    """In place of ReLU (`spikefed.networks.quantise`)."""

    def forward(
        self,
        x: Float[Tensor, "B ..."],
        generator: torch.Generator | None = None,
        earlier: Sequence[Tensor] = (),
    ) -> Float[Tensor, "B ..."]:
        """Activations after pooling, or logits; ``generator`` draws what dropout drops (torch's global one if None).

        ``earlier``: outputs of the layers before, by place, where proxies of a task take from them.
        """
        own = proxies_of(self)
        y = self.normed(x) if own is None or own.kept()[0] else None
        y = y if own is None else chosen_sum(own, y, earlier, 1)
        assert y is not None
        y = self.rectified(y) if self.rectify else y
        return self._dropped(self.pooled(y), generator)

    def normed(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """What the weights and the norm make of the input."""
        y = self.currents(x)
        part = self.part()
        norm = self.norm if part is None or part.norm is None else part.norm
        if norm is not None:
            momentum = norm.next_momentum()
            y = F.batch_norm(
                y, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, momentum, norm.eps
            )
        return y

    def rectified(self, y: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """ReLU, or what stands in its place: QCFS, or the mask of the task that is on."""
        if self.qcfs is not None:
            return self.qcfs(y)
        part = self.part()
        if part is None or part.mask_threshold is None:
            return F.relu(y)
        return masked(y, part.mask_threshold)


class ReLULayer(_Rectified, WeightedLayer):
    """The ANN twin of `SpikingLayer`: the same weights, ordinary batch normalisation, ReLU, pool.

    Args:
        plan: sizes of the layer.
        bias: learn a bias per output channel.
        norm: statistics and affine map of the normalisation, or None.
        rectify: False for the readout (logits), and for a branch before its sum.
        dropout: as in `PlannedLayer`.
    """

    def __init__(self, plan: LayerPlan, *, bias: bool, norm: Norm | None, rectify: bool, dropout: float = 0.0) -> None:
        super().__init__(plan, bias=bias, norm=norm, dropout=dropout)
        self.rectify = rectify
        self.qcfs = None


class ReLUPass(_Rectified):
    """The ANN twin of `PassLayer`."""

    def __init__(
        self, plan: LayerPlan, *, norm: Norm | None = None, rectify: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__(plan, norm=norm, dropout=dropout)
        self.rectify = rectify
        self.qcfs = None
