"""The base of hyperparameters, of methods and of probes, and of the tables of an experiment file."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """Frozen, validated, unknown keys refused; a truth value where a number is asked for is refused, not read as 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if _holds_truth(value) and _asks_for(kind, int, float) and not _asks_for(kind, bool, Any, True, False):
            raise ValueError("give a number, not true or false")
        return value


class Hyperparameters(Settings):
    """Of a method or a probe: every field has a default, a range and a description with its source."""


def _holds_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth, value)))


def _asks_for(kind: Any, *kinds: Any) -> bool:
    """Whether a type is one of these, or has one within."""
    return any(kind is one for one in kinds) or any(_asks_for(inner, *kinds) for inner in get_args(kind))
