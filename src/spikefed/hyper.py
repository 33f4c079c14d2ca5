"""The base of hyperparameters: of methods and of probes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Hyperparameters(BaseModel):
    """Frozen, validated, unknown keys refused; every field has a default, a range and a description with its source."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
