"""A truth value where a number belongs is refused, wherever a file takes numbers; pydantic reads it as 1 or 0."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from spikefed.errors import ConfigError
from spikefed.experiment import Experiment
from spikefed.experiment import config as configs
from spikefed.federated.methods import METHODS, method


def tables(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [field.annotation for field in model.model_fields.values()]
    return [
        model,
        *(table for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel) for table in tables(kind)),
    ]


def parts(kind: Any) -> set[Any]:
    return {kind}.union(*map(parts, get_args(kind)))


MODELS: set[type[BaseModel]] = {
    model for top in (Experiment, *(method(name).hyperparameters for name in METHODS)) for model in tables(top)
}


@pytest.mark.parametrize("model", sorted(MODELS, key=str))
def test_no_number_of_a_file_is_true(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        kinds = (
            parts(field.annotation)
            if not get_args(field.annotation)
            else set().union(*map(parts, get_args(field.annotation)))
        )
        if kinds & {int, float} and bool not in kinds:
            for wrong in (True, [False]):
                with pytest.raises(ValidationError) as caught:
                    model.model_validate({name: wrong})
                assert name in {error["loc"][0] for error in caught.value.errors()}, name


@pytest.mark.parametrize(
    "key", ["rounds", "seed", "network.steps", "training.lr", "method.server_epochs", "run.threads"]
)
def test_one_sentence_says_so(key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}' = True in --set: give a number, not true or false"):
        configs.from_tree({"method": {"name": "fsd"}}, [f"{key}=true"])


def test_numbers_in_lists_too_and_truth_values_where_they_belong() -> None:
    with pytest.raises(ConfigError, match="give a number, not true or false"):
        configs.from_tree({"run": {"targets": [0.5, True]}})
    assert configs.from_tree({"run": {"take_home": True}}).run.take_home is True
