"""The ANN twin of a network under attack, from its model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from spikefed.errors import CheckpointError, ConfigError
from spikefed.networks import ann_twin, load_tensors, read_tensors
from spikefed.training import Preprocess

NORMS = ("none", "bn")


def read_twin(path: str, net: nn.Module) -> tuple[nn.Module, Preprocess]:
    """The ordinary network of the same layers, in eval mode, and how pixels enter it.

    Args:
        path: ``model.safetensors`` of a run with ``network.twin = "ann"``, or its folder.
        net: the network under attack, whose layers the twin has.

    Raises:
        ConfigError: no such file, or the network in it is no twin of this one.
    """
    place = Path(path)
    place = place / "model.safetensors" if place.is_dir() else place
    if not place.is_file():
        raise ConfigError(f'there is no model of an ANN twin at {path}; give the run folder of one, as twin = "RUN"')
    try:
        found = read_tensors(place)
    except CheckpointError as error:
        raise ConfigError(f"twin: {error}") from error
    name, shape, classes = (getattr(net, key, None) for key in ("name", "input_shape", "classes"))
    for norm in NORMS:
        if not isinstance(name, str) or shape is None or classes is None:
            break
        try:
            made = ann_twin(name, input_shape=tuple(shape), classes=int(classes), norm=norm)
        except ConfigError:
            break
        if {k: v.shape for k, v in made.state_dict().items()} == {k: v.shape for k, v in found.tensors.items()}:
            load_tensors(made, found.tensors)
            return made.eval(), _preprocess(found.facts)
    raise ConfigError(
        f"the network in {place} has other layers than {name}, so it is no twin of it; train one with network.name = "
        f'"{name}" and network.twin = "ann"'
    )


def _preprocess(facts: Any) -> Preprocess:
    told = dict(facts.get("pixels") or {})
    return Preprocess(told.get("mode", "unit"), tuple(told.get("mean", ())), tuple(told.get("std", ())))
