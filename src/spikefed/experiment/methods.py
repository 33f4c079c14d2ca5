"""The method of an experiment, with what its config puts around the votes."""

from __future__ import annotations

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.federated import METHODS, Method, method
from spikefed.federated.voting import Voting


def method_of(config: Experiment) -> Method:
    """The method, its votes under the wrappers of ``[privacy]``.

    Raises:
        ConfigError: no such method, or one without votes that could be wrapped.
    """
    steps = method(config.method["name"])
    wrappers = config.privacy.wrappers()
    if not wrappers:
        return steps
    if not isinstance(steps, Voting) or not steps.votes:
        key = "secure" if config.privacy.secure else "response_epsilon"
        able = [name for name, made in METHODS.items() if issubclass(made, Voting) and made.votes]
        raise ConfigError(
            f"'privacy.{key}' goes around votes that the server averages, and method {steps.name} has none; use "
            f"{' or '.join(able)}, or leave it out"
        )
    return steps.under(*wrappers)
