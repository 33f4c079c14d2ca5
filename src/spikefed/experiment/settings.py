"""Every key of an experiment file with its type, range, default and meaning, read off the models that check it."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.experiment.probetables import OWN
from spikefed.federated import METHODS, Method, method
from spikefed.federated.local import LocalTraining
from spikefed.objects import import_object
from spikefed.probes import PROBES, Probe, probe

NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """One key: its name, what may stand there, the default as TOML (empty: none, or needed) and what it means."""

    key: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Part:
    """A table of an experiment file, the ``[method]`` of one method, or the ``[[probe]]`` of one probe.

    Attributes:
        name: ``data``, ``network.neuron``, ..., the empty name for keys above all tables, or the name of a
            method or probe.
        method: whether ``name`` is a method.
        summary: what it is for.
        settings: its keys, in the order of the model.
        probe: whether ``name`` is a probe.
        of: the method whose table it is; None but for tables inside ``[method]``.
    """

    name: str
    method: bool
    summary: str
    settings: tuple[Setting, ...]
    probe: bool = False
    of: str | None = None

    @property
    def heading(self) -> str:
        """The table as a file has it, and behind it the name that it must hold."""
        if self.name == "probe":
            return "[[probe]]"
        if self.method or self.probe:
            return ("[method]" if self.method else "[[probe]]") + f'  # name = "{self.name}"'
        return f"[{self.name}]"


def parts() -> list[Part]:
    """All tables in the order of the model, then all methods by name, these without the keys of ``training``, and all
    probes by name, these without the keys that every table ``[[probe]]`` has.
    """
    found = [Part("", False, "", _settings(Experiment))]
    found += [Part(name, False, model.__doc__ or "", _settings(model)) for name, model in _nested(Experiment)]
    found.append(Part("training", False, LocalTraining.__doc__ or "", _settings(LocalTraining)))
    found += [
        Part(f"training.{name}", False, model.__doc__ or "", _settings(model)) for name, model in _nested(LocalTraining)
    ]
    for name, cls in sorted(METHODS.items()):
        found += [_method_part(name, cls), *_method_tables(name, cls)]
    found.append(Part("probe", False, "A measure of the network; a file may have several of these tables.", _shared()))
    found += [_probe_part(name, cls) for name, cls in sorted(PROBES.items())]
    return found


def own_part(name: str) -> Part:
    """The settings of a user's own method or probe, named as ``module:Class``.

    Raises:
        ConfigError: there is no such class, or it is neither.
    """
    made = import_object(name, "list settings", ConfigError)
    if isinstance(made, type) and issubclass(made, Probe):
        return _probe_part(name, type(probe(name)))
    return _method_part(name, type(method(name)))


def _method_part(name: str, cls: type[Method]) -> Part:
    own = cls.hyperparameters
    # One that does not train has no keys of [training], so that their defaults are none of its own.
    defaults = _own_defaults(own) if issubclass(own, LocalTraining) else ""
    shared = LocalTraining.model_fields.keys()
    return Part(name, True, f"{cls.summary}.{defaults}", _settings(own, skip=shared))


def _method_tables(name: str, cls: type[Method]) -> list[Part]:
    """Tables inside ``[method]`` that are no table of ``[training]``."""
    return [
        Part(f"method.{table}", False, f"{model.__doc__ or ''} Of method {name}.", _settings(model), of=name)
        for table, model in _nested(cls.hyperparameters)
        if table.partition(".")[0] not in LocalTraining.model_fields
    ]


def _probe_part(name: str, cls: type[Probe]) -> Part:
    return Part(name, False, f"{cls.summary}.", _settings(cls.hyperparameters), probe=True)


def _shared() -> tuple[Setting, ...]:
    """What every table ``[[probe]]`` may hold beside the probe's own keys."""
    types = {"every": ("whole number >= 0", "0")}
    return tuple(Setting(key, *types.get(key, ("text", "")), meaning) for key, meaning in OWN.items())


def _own_defaults(model: type[BaseModel]) -> str:
    """Where a method starts from other values of the keys that all methods have."""
    other = [
        f"{name} = {_default(model.model_fields[name])}"
        for name, field in LocalTraining.model_fields.items()
        if model.model_fields[name].default != field.default
    ]
    return f" Its defaults in [training]: {', '.join(other)}." if other else ""


def _settings(model: type[BaseModel], skip: Collection[str] = ()) -> tuple[Setting, ...]:
    tables = {name for name, _ in _tables(model)} | ({"training", "method"} & set(model.model_fields))
    return tuple(
        Setting(field.alias or name, _type(field.annotation) + _range(field), _default(field), field.description or "")
        for name, field in model.model_fields.items()
        if name not in skip and name not in tables
    )


def _tables(model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    found = []
    for name, field in model.model_fields.items():
        kinds = typing.get_args(field.annotation) or (field.annotation,)
        found += [(name, kind) for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return found


def _nested(model: type[BaseModel], prefix: str = "") -> list[tuple[str, type[BaseModel]]]:
    found = []
    for name, inner in _tables(model):
        found += [(prefix + name, inner), *_nested(inner, f"{prefix}{name}.")]
    return found


def _type(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    inside = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(inside[0])
    if origin is typing.Literal:
        return ", ".join(toml_value(value) for value in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(a) for a in inside if a is not type(None))
    if origin in (list, tuple):
        return "list of " + _type(inside[0])
    return "tables" if origin is dict else NAMES.get(annotation, "")


def _range(field: FieldInfo) -> str:
    """`` in [0, 1)`` or `` >= 1`` for a number; nothing where there is no bound."""
    bounds = {
        sign: getattr(rule, sign)
        for rule in field.metadata
        for sign in ("ge", "gt", "le", "lt")
        if getattr(rule, sign, None) is not None
    }
    if len(bounds) == 2:
        low, high = bounds
        return f" in {'[' if low == 'ge' else '('}{bounds[low]}, {bounds[high]}{']' if high == 'le' else ')'}"
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return "".join(f" {signs[sign]} {bound}" for sign, bound in bounds.items())


def _default(field: FieldInfo) -> str:
    return "" if field.is_required() or field.default is None else toml_value(field.default)


def toml_value(value: Any) -> str:
    """A default as a reader would write it into the file."""
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
