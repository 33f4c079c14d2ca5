"""Numbers are numbers: no setting takes true for 1 or false for 0, and what is a flag stays one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel, ValidationError

import spikefed
from spikefed.errors import ConfigError
from spikefed.experiment import Experiment
from spikefed.federated.methods import METHODS
from spikefed.hyper import Hyperparameters


class Some(Hyperparameters):
    count: int = 1
    share: float | None = None
    many: list[int] = []
    nested: list[list[float]] = []
    flag: bool = False
    either: bool | int = 0
    word: Literal["all"] | list[str] = "all"


@pytest.mark.parametrize(
    "given",
    [{"count": True}, {"count": False}, {"share": True}, {"many": [1, True]}, {"nested": [[0.5], [False]]}],
)
def test_a_flag_is_no_number(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must be a number, not true or false"):
        Some(**given)


def test_numbers_and_flags_are_taken_as_they_are() -> None:
    made = Some(count=1, share=None, many=[1, 0], nested=[[1.0]], flag=True, either=True, word=["a"])
    assert (made.count, made.share, made.many, made.flag, made.either) == (1, None, [1, 0], True, True)


@pytest.mark.parametrize(
    ("key", "tables"),
    [
        ("rounds", {"rounds": True}),
        ("data.clients", {"data": {"clients": True}}),
        ("training.lr", {"training": {"lr": True}}),
        ("training.operations.weight", {"training": {"operations": {"weight": True}}}),
        ("method.levels", {"method": {"name": "tickets", "levels": True}}),
    ],
)
def test_every_table_of_an_experiment_says_so_in_one_sentence(key: str, tables: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"'{key}' = True in the config: must be a number, not true or false"):
        spikefed.run({"name": "t", "method": {"name": "fsd"}, **tables}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "method",
    [
        {"name": "fsd-tickets", "sparsities": [0.5], "sent_steps": 2},
        {"name": "tickets", "early_time": True, "levels": 1, "level_rounds": 2, "probe_rounds": 1},
    ],
)
def test_steps_that_bntt_fixes_are_refused_before_anything_is_written(method: dict[str, Any], tmp_path: Path) -> None:
    tables = {
        "name": "t", "rounds": 6, "method": method, "network": {"name": "4C3-AP2-12FC", "steps": 4, "norm": "bntt"},
        "data": {"clients": 2, "private_per_client": 32, "public": 20, "test_limit": 30},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="does not allow"):
        spikefed.run(tables, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def tables(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and the tables inside it."""
    inner = [field.annotation for field in model.model_fields.values()]
    within = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [model, *(table for kind in within for table in tables(kind))]


def kinds(annotation: Any) -> set[Any]:
    return {annotation}.union(*map(kinds, get_args(annotation)))


MODELS: set[type[BaseModel]] = {
    model for top in (Experiment, *(made.hyperparameters for made in METHODS.values())) for model in tables(top)
}


@pytest.mark.parametrize("model", sorted(MODELS, key=str))
def test_no_number_of_any_table_or_method_is_true(model: type[BaseModel]) -> None:
    numbers = {
        name
        for name, field in model.model_fields.items()
        if (named := kinds(field.annotation)) & {int, float} and bool not in named
    }
    with pytest.raises(ValidationError) if numbers else nullcontext() as caught:
        model.model_validate(dict.fromkeys(numbers, True))
    refused = {error["loc"][0] for error in caught.value.errors()} if caught else set()
    assert numbers <= refused
