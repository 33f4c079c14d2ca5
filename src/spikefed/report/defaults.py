"""Recorded configs brought to one set of keys, so that a key which a later version added tells no runs apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def complete(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The configs with every key of this version; as they are where all have the same keys.

    A table that this version refuses (a key is gone, a method is unknown) keeps what was recorded, and so do the
    hyperparameters of a user's own method, whose class is not imported just to read a report. An empty config stays
    empty: nothing is known of it.
    """
    if not _differ(configs):
        return [dict(config) for config in configs]  # the common case: torch, behind the methods, takes seconds to load
    return [_filled(config) if config else {} for config in configs]


def _differ(configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a table has other keys in one config than in another; that of a method among those of its name."""
    keys: dict[str, frozenset[str]] = {}
    for config in filter(None, configs):
        tables = {name: value for name, value in config.items() if isinstance(value, Mapping)}
        shapes = {"tables": frozenset(tables)} | {name: frozenset(table) for name, table in tables.items()}
        if "method" in tables:
            shapes[f"method {tables['method'].get('name')}"] = shapes.pop("method")
        if any(keys.setdefault(name, shape) != shape for name, shape in shapes.items()):
            return True
    return False


def _filled(config: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    from spikefed.errors import ConfigError
    from spikefed.experiment import config as known
    from spikefed.experiment.tables import PRESETS, merge, read_tree
    from spikefed.federated import METHODS

    method = config.get("method")
    ours = isinstance(method, Mapping) and str(method.get("name")) in METHODS
    out = dict(known.renamed(config)[0] if ours else config)
    # As when a run is resumed: a preset lies under the file, so it says what a key added to it later was.
    preset = str(config.get("preset"))
    if preset in known.presets():
        out = merge(read_tree(PRESETS / f"{preset}.toml"), out)
    for name, field in known.Experiment.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, known.Section):
            try:
                out[name] = table.model_validate(out.get(name, {})).model_dump()
            except ValidationError:
                if isinstance(out[name], Mapping):
                    out[name] = {**table().model_dump(), **out[name]}
    method = out.get("method")
    if isinstance(method, Mapping) and str(method.get("name")) in METHODS:
        try:
            tree = known.Experiment(training=out.get("training", {}), method=dict(method)).resolved()
        except (ConfigError, ValidationError):
            return out
        out |= {"training": tree["training"], "method": tree["method"]}
    return out
