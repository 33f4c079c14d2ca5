"""Energy of training, said apart: backpropagation through time multiplies real numbers, so no spike makes it cheap.

Per sample, arithmetic only (no memory, normalisation, surrogate or optimiser):

* forward: as in inference;
* gradient of a layer's input (not of the first layer's): real gradients times weights, F_l MACs in each of the T steps;
* gradient of the weights: F_l R_l additions where the input is spikes, F_l MACs where it is real.

With ``left``, the share of each layer's weights that a mask leaves, all three are in proportion to it: a synapse that
is gone adds nothing, hands no gradient back and needs none. That is hardware which skips single weights; hardware that
does not pays as for the dense network. Which inputs the weights that are left belong to is not looked at.

An accelerator may do better by skipping zeros of the surrogate, and worse for memory: SATA (Yin et al. 2022)
reports 1.27 times the ANN's total for training an SNN on one array, although its computation alone is 5.58 times
more efficient with sparsity than without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spikefed.hardware.arithmetic import FirstLayer, dense_passes, operations_pj, paper_pj
from spikefed.hardware.costs import FP32, Regime
from spikefed.hardware.counts import LayerCounts


@dataclass(frozen=True)
class Training:
    """Energy of one training sample, pJ.

    Attributes:
        snn_pj: with additions wherever a spike is a factor.
        snn_dense_pj: every operation a MAC, as on hardware that does not skip zeros.
        ann_pj: the ANN of the same layers.
    """

    snn_pj: float
    snn_dense_pj: float
    ann_pj: float


def training_pj(
    layers: Sequence[LayerCounts],
    steps: int,
    first_layer: FirstLayer = "once",
    regime: Regime = FP32,
    left: Mapping[str, float] | None = None,
) -> Training:
    """Forward and backward of one sample, over all time steps.

    Args:
        layers: counts of every layer.
        steps: T.
        first_layer: how the image enters.
        regime: number format of the hardware.
        left: by layer, the share of its weights that are not pruned, in [0, 1]; a layer without one keeps all.
    """
    snn = dense = ann = 0.0
    for index, layer in enumerate(layers):
        share = 1.0 if left is None else left.get(layer.name, 1.0)
        passes = dense_passes(layer, steps, first_layer) if layer.dense else layer.passes
        forward = weight = paper_pj(layer, regime, steps, first_layer)
        back = 0.0 if index == 0 else operations_pj(layer.macs * passes, 0, regime)
        snn += share * (forward + weight + back)
        dense += share * operations_pj((2 if index == 0 else 3) * layer.macs * passes, 0, regime)
        ann += share * operations_pj((2 if index == 0 else 3) * layer.macs, 0, regime)
    return Training(snn, dense, ann)
