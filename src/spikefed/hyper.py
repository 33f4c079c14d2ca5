"""The base of hyperparameters, of methods and of probes, and what it shares with the tables of an experiment."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """Frozen, unknown keys refused; takes no ``true`` for 1 and no ``false`` for 0 where a number belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flags(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if kinds & {int, float} and bool not in kinds and _has_flag(value):
            raise ValueError("must be a number, not true or false")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """All types that an annotation names, inside unions and lists too."""
    parts = get_args(annotation)
    return {annotation} if not parts else set().union(*(_kinds(part) for part in parts))


def _has_flag(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_has_flag(part) for part in value)
    return isinstance(value, bool)


class Hyperparameters(Settings):
    """Every field has a default, a range and a description with its source."""

    def unused(self, rounds: int) -> tuple[str, ...]:
        """A sentence for each setting that does nothing in a run of so few rounds; more may follow on resuming."""
        return ()
