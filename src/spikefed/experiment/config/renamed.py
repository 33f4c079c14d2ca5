"""Keys that have another place now: files and run folders that have them at the old one are read all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikefed.errors import ConfigError
from spikefed.experiment.config.federation import PrivacyConfig
from spikefed.federated import method

ONCE_OF_THE_METHOD = tuple(PrivacyConfig.model_fields)
"""Keys of ``[privacy]`` that stood in ``[method]`` of fsd and its variants up to version 0.1."""


def renamed(tree: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The tables with old keys at their new places, and a sentence on those that said something.

    A run folder of version 0.1 has every key, mostly at its default: of those nothing is said.

    Raises:
        ConfigError: a key that stands at both places with two values.
    """
    old = tree.get("method")
    found = [key for key in ONCE_OF_THE_METHOD if key in old] if isinstance(old, Mapping) else []
    if not found or not isinstance(old, Mapping):
        return tree, ()
    try:
        own = method(str(old.get("name", "fsd"))).hyperparameters.model_fields
    except ConfigError:  # an unknown method is named elsewhere
        return tree, ()
    privacy = dict(tree.get("privacy", {}))
    notes = []
    for key in (key for key in found if key not in own):
        if old[key] == PrivacyConfig.model_fields[key].default:
            continue
        if privacy.setdefault(key, old[key]) != old[key]:
            raise ConfigError(
                f"'method.{key}' is called 'privacy.{key}' now, and the two have different values; leave the first out"
            )
        notes.append(f"'method.{key}' is called 'privacy.{key}' now; it was read all the same")
    left = {key: value for key, value in old.items() if key not in found or key in own}
    return {**tree, "method": left, **({"privacy": privacy} if privacy else {})}, tuple(notes)
