"""What a run begins with: a trained network's tensors, by role, under a new head where the classes differ."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from spikefed import networks
from spikefed.errors import CheckpointError, ConfigError, SpikefedError
from spikefed.experiment.config import Experiment
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.rebuild import Make
from spikefed.federated.selection import by_role
from spikefed.models import ModelFacts
from spikefed.networks import NamedTensors, roles, state_tensors
from spikefed.networks.roles import NEURON
from spikefed.objects import is_own


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        tensors: by name, what every participant's network holds at first; other tensors get fresh weights.
        new: names of the head's tensors, which begin anew.
        pruned: names of tensors that were held under masks, which do not come along.
        facts: of the trained network.
        source: where its tensors were: a model file, or RUN@ROUND.
        content: bytes of its model file.
        other: what computes otherwise here than in the trained network, a text each.
    """

    tensors: Mapping[str, Tensor]
    new: tuple[str, ...]
    pruned: tuple[str, ...]
    facts: ModelFacts
    source: str
    content: bytes
    other: tuple[str, ...] = ()

    def told(self, named: str | None) -> dict[str, Any]:
        """What provenance says of it, under the name that the config has for it."""
        known = {"experiment": self.facts.experiment, "method": self.facts.method, "round": self.facts.round}
        return {"from": named, "sha256": hashlib.sha256(self.content).hexdigest(), **known, "new": list(self.new)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user must know: which tensors begin anew, that masks stay behind, and what computes otherwise here."""
        said = []
        if self.new:
            said.append(f"network.start: the head ({', '.join(self.new)}) begins anew, as the classes differ")
        if self.pruned:
            many = f"{len(self.pruned)} tensors" if len(self.pruned) > 1 else f"'{min(self.pruned)}'"
            said.append(
                f"network.start: {self.source} is pruned; its weights come along, the masks of {many} do not, so that "
                "weights which are 0 now may grow again"
            )
        if self.other:
            said.append(
                f"network.start: {self.source} was trained with {'; '.join(self.other)}; the same tensors compute "
                "something else here, which weights that are frozen cannot mend"
            )
        return tuple(said)


def otherwise(facts: ModelFacts, config: Experiment, resolved: Mapping[str, Any]) -> tuple[str, ...]:
    """Time steps and neuron of a trained network where they are not this experiment's.

    Args:
        facts: of the trained network.
        config: the experiment.
        resolved: the neuron's table of the experiment's network, as model files have it.
    """
    said = []
    if facts.network.get("steps", config.network.steps) != config.network.steps:
        said.append(f"network.steps = {facts.network['steps']}, here {config.network.steps}")
    theirs = facts.network.get("neuron") or {}
    for key, value in resolved.items():
        if key in theirs and theirs[key] != value:
            said.append(f"network.neuron.{key} = {theirs[key]}, here {value}")
    return tuple(said)


def fitted_start(
    named: str,
    found: NamedTensors,
    facts: ModelFacts,
    config: Experiment,
    shape: Collection[int],
    names: Sequence[str],
    make: Make,
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A trained network's tensors as this experiment's network begins with them, and the names of a new head's.

    Args:
        named: what ``network.start`` says, for errors.
        found: the trained network's tensors.
        facts: what its model file says.
        config: the experiment that begins.
        shape: of its inputs, ``(C, H, W)`` or ``(F,)``.
        names: of its classes.
        make: builds its network for a number of classes.

    Raises:
        ConfigError: a network, an input or tensors that do not fit.
    """
    where = f"network.start = '{named}'"
    if facts.input_shape != tuple(shape):
        raise ConfigError(
            f"{where} takes inputs of {_by(facts.input_shape)}, and the data have {_by(shape)}; begin from a network "
            "of these, or bring the data to its size (data.size)"
        )
    renamed = facts.names != tuple(names)  # a class without a name is called by its number
    _check_alike(facts, config, where)
    own = make(len(names))
    parts = networks.kinds_of(own).keys() - found.tensors.keys()  # of a network that had none
    head = _head(own, make, len(names)) if renamed else set()
    if head and parts and "head" not in config.network.adapters.kinds:
        raise ConfigError(
            f"{where} has other classes, so its head begins anew and network.adapters would freeze it as it is drawn; "
            "add 'head' to network.adapters.kinds"
        )
    wanted = _wanted(own, config.network.start_roles)
    theirs = f"{where} ({facts.network.get('name')})"
    tensors = _fitted(own, {**found.tensors, **_parts(own, parts)}, {*head, *parts}, theirs, config)
    kept = {name: tensor for name, tensor in tensors.items() if name in wanted}
    if parts:
        networks.load_tensors(own, {**state_tensors(own), **kept})
        networks.renew_parts(own)
        kept |= _parts(own, parts)
    return kept, tuple(sorted(head - parts))


def _parts(own: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """Copies of the parts of tasks, which begin as they change nothing. Shapes are the network's."""
    return {name: tensor.clone() for name, tensor in state_tensors(own).items() if name in names}


def _check_alike(facts: ModelFacts, config: Experiment, where: str) -> None:
    """Refuse a network of the same tensors that computes something else with them.

    Raises:
        ConfigError: other pools, or another cell.
    """
    name, theirs = config.network.name, str(facts.network.get("name", ""))
    if is_own(name) or is_own(theirs) or name.startswith("nir:"):
        return
    pooling = config.network.pooling or networks.network_info(name).pooling
    other = facts.network.get("pooling") or pooling
    if other != pooling:
        raise ConfigError(f"{where} has network.pooling = '{other}', and this network '{pooling}'; take the same")
    if name.startswith("cell:") and theirs.startswith("cell:") and name.split(":")[1] != theirs.split(":")[1]:
        raise ConfigError(f"{where} is of cell {theirs.split(':')[1]}, and this network of {name.split(':')[1]}")


def check_copy(folder: RunFolder, start: Start | None, before: Mapping[str, Any]) -> None:
    """Whether a resumed run goes on from what it began with.

    Raises:
        CheckpointError: another model than provenance tells of.
    """
    told = before.get("start")
    if start is None or not isinstance(told, Mapping):
        return
    if told.get("sha256") != hashlib.sha256(start.content).hexdigest():
        raise CheckpointError(
            f"{start.source} is not the model that the run in {folder.path} began with; put that one back, or start in "
            "another folder with --out"
        )


def _head(own: nn.Module, make: Make, classes: int) -> set[str]:
    """Names of the tensors whose shape depends on the number of classes."""
    try:
        wider = {name: tensor.shape for name, tensor in state_tensors(make(classes + 1)).items()}
    except (SpikefedError, RuntimeError, TypeError):  # an own module has one number of classes
        return set()
    return {name for name, tensor in state_tensors(own).items() if wider.get(name) != tensor.shape}


def _wanted(own: nn.Module, chosen: str | Collection[str]) -> Collection[str]:
    found = {name: role for name, role in roles(own).items() if name in state_tensors(own)}
    if chosen == "all":
        return found
    try:
        return by_role(found, [chosen] if isinstance(chosen, str) else chosen).entries
    except ConfigError as error:
        raise ConfigError(f"'network.start_roles': {error}") from error


def _fitted(
    own: nn.Module, theirs: Mapping[str, Tensor], head: Collection[str], where: str, config: Experiment
) -> dict[str, Tensor]:
    """Their tensors in the order of ours, without the head."""
    ours = state_tensors(own)
    # Thresholds that the trained network did not learn begin as its fixed ones, which are this network's own.
    theirs = {n: t for n, t in ours.items() if roles(own)[n] == NEURON} | dict(theirs)
    name = config.network.name
    for problem, names in (("lacks", ours.keys() - theirs.keys()), ("has", theirs.keys() - ours.keys())):
        if names:
            raise ConfigError(
                f"{where} is another network than this experiment's '{name}': it {problem} '{min(names)}'; set "
                "network.name, norm and pooling to those of its run"
            )
    for tensor, kept in ours.items():
        if tensor not in head and theirs[tensor].shape != kept.shape:
            raise ConfigError(
                f"{where} is another network than this experiment's '{name}': '{tensor}' is "
                f"{list(theirs[tensor].shape)} there and {list(kept.shape)} here; {_advice(tensor, own)}"
            )
    return {tensor: theirs[tensor] for tensor in ours if tensor not in head}


def _advice(tensor: str, own: nn.Module) -> str:
    if roles(own).get(tensor, "").startswith("bn"):
        return "a normalisation by time step needs the same network.steps"
    return "set network.name to that of its run, or give an own network as a function of its classes"


def _by(shape: Collection[int]) -> str:
    return "x".join(map(str, shape))
