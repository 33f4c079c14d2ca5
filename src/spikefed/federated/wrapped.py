"""A method with something around its steps: what the class on top does not say itself is the method's own."""

from __future__ import annotations

from typing import Any

from spikefed.federated.contract import Method


class Wrapped:
    """Passes on to a method what is not its own.

    Args:
        method: what is run.
    """

    def __init__(self, method: Method) -> None:
        self._method = method

    @property
    def innermost(self) -> Method:
        """The method itself, under everything around it."""
        return self._method.innermost if isinstance(self._method, Wrapped) else self._method

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # before __init__ has run, as when unpickling
            raise AttributeError(name)
        return getattr(self._method, name)
