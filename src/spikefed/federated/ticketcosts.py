"""What the clients' training in a round of `tickets` costs in joules, by the energy model of training.

Arithmetic alone (`spikefed.hardware.training_pj`, FP32 of the 45 nm table): forward and backward pass of every sample
over the time steps of the stage, at the spike rates of the round's network on public images. Left out are memory,
neurons, normalisation, the optimiser, validation and the radio, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.federated import averaging
from spikefed.federated.averaging import Uplink
from spikefed.federated.contract import Context
from spikefed.federated.fewsteps import cut_images, shortened
from spikefed.federated.stages import Stage
from spikefed.hardware import count_operations, training_pj

IMAGES = 64
"""Public images on which spikes are counted: as many as the energy of a finished run is counted on."""


def joules(
    weights: Mapping[str, Tensor], uplinks: Mapping[int, Uplink], stage: Stage, steps: int, passes: int, ctx: Context
) -> dict[str, float]:
    """Joules of all clients that sent, in one round; nothing where the operations of a network cannot be counted.

    Args:
        weights: that the round made; those of a ``saliency`` stage are the ones it began with.
        uplinks: whose masks say what was left, and whose samples were trained on.
        stage: of the round; of a ``twin`` one pass of real numbers is counted instead of T of spikes.
        steps: time steps of the training.
        passes: over the samples.
        ctx: the server's, with public images.

    Returns:
        ``train_joules``, of what masks leave, and ``train_joules_unpruned``, on hardware that does not skip the rest.
    """
    images = cut_images(ctx.public[:IMAGES], steps)
    if not len(images):
        return {}
    net = ctx.networks.load(weights)
    whole = int(getattr(net, "steps", 1))
    draws = torch.Generator().manual_seed(ctx.seed % 2**63)
    try:
        with shortened(net, steps) if steps != whole else nullcontext():
            layers = count_operations(net, ctx.preprocess(images), draws)
    except ConfigError:
        return {}
    told = {"train_joules": 0.0, "train_joules_unpruned": 0.0}
    for _, uplink in sorted(uplinks.items()):
        for key, left in (("train_joules", _left(uplink)), ("train_joules_unpruned", None)):
            sample = training_pj(layers, steps, left=left)
            told[key] += (sample.ann_pj if stage.twin else sample.snn_pj) * 1e-12 * uplink.samples * passes
    return told


def _left(uplink: Uplink) -> dict[str, float]:
    """By layer, the share of weights under the mask of a message."""
    mask = averaging.mask_of(uplink)
    kept = {} if mask is None else mask.kept
    return {name.removesuffix(".weight"): float(k.float().mean()) for name, k in kept.items() if k.dim() > 1}
