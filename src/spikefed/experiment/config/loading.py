"""From a file, or tables in memory, to a validated experiment: presets, overrides, unknown keys, wording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from spikefed.errors import ConfigError
from spikefed.experiment import wording
from spikefed.experiment.config.data import PublicSourceConfig
from spikefed.experiment.config.experiment import Experiment
from spikefed.experiment.config.network import NeuronConfig
from spikefed.experiment.config.renamed import renamed
from spikefed.experiment.config.section import Section
from spikefed.experiment.probetables import probe_tables
from spikefed.experiment.tables import PRESETS, in_order, merge, override_key, parse_override, presets, read_tree
from spikefed.federated import ELSEWHERE, METHODS, method
from spikefed.federated.local import LocalTraining
from spikefed.objects import check_keys, nearest

Place = Callable[[str], str]
"""Key to where it was written: the file, or ``--set``."""


def validate(tree: Mapping[str, Any], source: str, overrides: Iterable[str] = ()) -> Experiment:
    """An `Experiment` from merged tables (preset already named inside).

    Args:
        tree: the tables.
        source: where they come from, for errors.
        overrides: texts that are merged in already; a value of theirs is not blamed on ``source``.

    Raises:
        ConfigError: one sentence that names the key, the value and what is allowed.
    """
    if "search" in tree:
        raise ConfigError(f"{source} is a search file (it has a table [search]); give it to 'spikefed search'")
    if "sweep" in tree:
        raise ConfigError(
            f"{source} is a sweep file (it has a table [sweep]), not one experiment; give it to 'spikefed compare'"
        )
    place = partial(wording.source_of, source=source, given=[override_key(text) for text in overrides])
    tree, notes = renamed(_on_preset(tree, place))
    _check_tables(tree, place)
    probe_tables(tree.get("probe", []), place)
    name = tree.get("method", {}).get("name", "fsd")
    _check_method_keys(tree, name)
    return _parsed({**tree, "method": {"name": name, **tree.get("method", {})}}, place).noted(notes)


def _on_preset(tree: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """The tables on top of the preset that they name."""
    name = tree.get("preset")
    if not name:
        return tree
    if name not in presets():
        raise ConfigError(f"preset '{name}' in {place('preset')} is not known; use one of {', '.join(presets())}")
    return merge(read_tree(PRESETS / f"{name}.toml"), tree)


def _check_tables(tree: Mapping[str, Any], place: Place) -> None:
    """Refuse tables and keys that no experiment has, and values where a table belongs."""
    _refuse_unknown(tree, Experiment, "")
    sections = _sections(Experiment)
    for key in tree:
        if not isinstance(tree[key], Mapping) and (key in sections or key in ("training", "method")):
            raise ConfigError(f"'{key}' in {place(key)} must be a table ([{key}]), not {tree[key]!r}")
        if key in sections:
            _refuse_unknown(tree[key], sections[key], f"{key}.")
    if isinstance(source := tree.get("data", {}).get("public_source"), Mapping):
        _refuse_unknown(source, PublicSourceConfig, "data.public_source.")
    if isinstance(neuron := tree.get("network", {}).get("neuron"), Mapping):
        _refuse_unknown(neuron, NeuronConfig, "network.neuron.")


def _sections(model: type[BaseModel]) -> dict[str, type[Section]]:
    """Tables of an experiment by key, in the order of the file."""
    kinds = {key: field.annotation for key, field in model.model_fields.items()}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _refuse_unknown(tree: Mapping[str, Any], model: type[BaseModel], where: str, extra: Iterable[str] = ()) -> None:
    check_keys(tree, [*(f.alias or name for name, f in model.model_fields.items()), *extra], where)


def _check_method_keys(tree: Mapping[str, Any], name: Any) -> None:
    """Refuse an unknown method, and keys that neither training nor this method has."""
    try:
        hyper = method(str(name)).hyperparameters
    except ConfigError as error:
        # A class of the user's has no list of neighbours, and of a known alias the sentence says it all.
        if ":" in str(name) or str(name).lower() in ELSEWHERE:
            raise
        raise ConfigError(f"{error}; the nearest is '{nearest(str(name).lower(), METHODS)}'") from error
    _check_training(tree.get("training", {}))
    own = {f.alias or k for k, f in hyper.model_fields.items()} - set(LocalTraining.model_fields)
    given = tree.get("method", {})
    for key in given:
        if key in LocalTraining.model_fields and key not in own:
            raise ConfigError(f"unknown key 'method.{key}'; it belongs to table [training], as 'training.{key}'")
    check_keys(given, sorted({*own, "name"}), "method.", f" for method {name}")


def _check_training(table: Mapping[str, Any]) -> None:
    """Refuse keys that neither ``[training]`` nor a table inside it has, and values where such a table belongs."""
    _refuse_unknown(table, LocalTraining, "training.")
    for key, field in LocalTraining.model_fields.items():
        kind = field.annotation
        if key not in table or not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        if not isinstance(table[key], Mapping):
            raise ConfigError(f"'training.{key}' must be a table ([training.{key}]), not {table[key]!r}")
        _refuse_unknown(table[key], kind, f"training.{key}.")


def _parsed(tree: Mapping[str, Any], place: Place) -> Experiment:
    """The experiment, or one sentence on the first value that does not fit."""
    try:
        experiment = Experiment.model_validate(tree)
    except ValidationError as error:
        first = _nearest(error.errors())
        where = ".".join(str(part) for part in first["loc"] if not _is_tag(part))
        raise ConfigError(wording.of_setting(first, where, place(where))) from error
    try:
        experiment.hyper()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"{'training' if str(first['loc'][0]) in LocalTraining.model_fields else 'method'}.{key}"
        raise ConfigError(wording.of_setting(first, where, place(where))) from error
    return experiment


def _is_tag(part: int | str) -> bool:
    """Whether a part of a place is pydantic's own name for one of the types that a key may have, and no key."""
    return isinstance(part, str) and (part.startswith(("constrained-", "literal[", "list[")) or part in ("int", "list"))


def _nearest(errors: Sequence[Any]) -> Any:
    """Of the types that a key may have, what is wrong with the one that comes closest: a wrong number in a list of
    lists is not told as that it is no word.
    """
    first = errors[0]
    tags = [place for place, part in enumerate(first["loc"]) if _is_tag(part)]
    if not tags:
        return first
    same = [error for error in errors if error["loc"][: tags[0]] == first["loc"][: tags[0]]]
    return max(same, key=lambda error: len(error["loc"]))


def load(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read, merge and validate an experiment file.

    Args:
        path: the TOML file.
        overrides: ``table.key=value`` texts, applied last.

    Raises:
        ConfigError: anything wrong with the file or an override.
    """
    return from_tree(read_tree(path), overrides, str(path))


def from_tree(tree: Mapping[str, Any], overrides: Iterable[str] = (), source: str = "the config") -> Experiment:
    """`load` for tables that are already in memory."""
    overrides = list(overrides)
    return validate(overridden(tree, overrides), source, in_order(overrides))


def overridden(tree: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The tables with ``table.key=value`` texts on top."""
    tree = dict(tree)
    for text in in_order(overrides):
        given = parse_override(text)
        if given.get("preset") in presets():
            # Named in a file, a preset lies under the file; named after it, on top, as every override.
            tree = merge(tree, read_tree(PRESETS / f"{given['preset']}.toml"))
        tree = merge(tree, given)
    return tree
