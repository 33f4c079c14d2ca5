"""From the table ``[data.public_source]`` to what makes public rows during a run."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from spikefed.data import ImageSet, SynthesisPlan, check_synthesis, classifier, normed_layers
from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.federated import Context, method
from spikefed.federated.publicsource import Maker, PublicRows, SourcePlan
from spikefed.wire import nearest_rows

RATE_TEMPERATURE = 0.25
"""Softmax temperature of firing rates, which end at 1; currents have PrivateSNN's."""


def plan_of(config: Experiment, net: nn.Module, rows: int, classes: int) -> SourcePlan:
    """How rows are made.

    Args:
        config: the experiment.
        net: of the kind that they are made from.
        rows: how many.
        classes: outputs of the network.
    """
    told = config.data.public_source
    usual = SynthesisPlan()
    spikes = getattr(net, "readout", "") == "spike"
    synthesis = SynthesisPlan(
        kind=told.recipe or ("statistics" if normed_layers(net) else "impressions"),
        images=rows,
        steps=told.steps,
        lr=told.lr,
        temperature=told.temperature or (RATE_TEMPERATURE if spikes else usual.temperature),
        batch=told.batch,
        begin="areas",
    )
    return SourcePlan(told.kind, told.every, synthesis, classes)


def maker_of(config: Experiment, context: Callable[[int], Context], classes: int, near: bool) -> Maker | None:
    """What both ends compute alike; None where public rows stay.

    Args:
        config: the experiment.
        context: of a round, at the server, with draws for this purpose.
        classes: outputs of the network.
        near: a codec wants to know which rows are alike.
    """
    if config.data.public_source.kind == "set":
        return None
    begin = context(0)
    return Maker(
        method(config.method["name"]),
        context,
        plan_of(config, begin.networks.network, len(begin.public), classes),
        PublicRows(begin.public, begin.public_set_id),
        (lambda images: nearest_rows(images.numpy())) if near else None,
    )


def check_source(config: Experiment, train: ImageSet, net: nn.Module) -> None:
    """Refuse data and networks that no rows can be made of.

    Raises:
        ConfigError: data that are no pixels, a network without a linear classifier, or without batch norm where its
            statistics are asked for.
    """
    if config.data.public_source.kind == "set":
        return
    if train.values != "pixels" or train.steps is not None:
        raise ConfigError(f"data.public_source makes images of pixels, and {train.name} holds other data; leave it out")
    if not config.data.public_source.steps:
        return  # noise, from nothing
    check_synthesis(net, plan_of(config, net, 1, train.classes).synthesis)
    classifier(net, train.classes)
