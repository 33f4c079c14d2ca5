"""Settings of runs with tasks that do not fit each other: stages, parts of a network for each task, memories."""

from __future__ import annotations

from spikefed.errors import ConfigError
from spikefed.experiment.config import Experiment
from spikefed.federated.local import LocalTraining
from spikefed.federated.memory import MemoryOption, memories
from spikefed.objects import is_own

KINDS = ("classes", "rotations", "permutations", "ranges", "datasets")
"""Keys of ``[stages]`` of which one says what the tasks are."""


def check_tasks(config: Experiment) -> None:
    """Refuse tasks, parts of tasks and memories of tasks that do not fit each other, or the method.

    Raises:
        ConfigError: such a setting; the text names it and what to do.
    """
    for rule in (_stages, _adapters, _memories):
        rule(config)


def _stages(config: Experiment) -> None:
    stages = config.stages
    given = [key for key in KINDS if getattr(stages, key)]
    if not given:
        if stages != type(stages)():
            raise ConfigError(f"[stages] names no tasks; set one of stages.{', stages.'.join(KINDS)}")
        return
    if len(given) > 1:
        raise ConfigError(f"[stages] has both {given[0]} and {given[1]}, and tasks are of one kind; leave one out")
    if stages.tasks < 2:
        raise ConfigError(f"stages.{given[0]} gives one task, and stages need two; name another, or leave [stages] out")
    whole = stages.tasks * stages.rounds
    if config.rounds != whole:
        raise ConfigError(
            f"{stages.tasks} stages of {stages.rounds} rounds are {whole} rounds, but the run has {config.rounds}; set "
            f"rounds = {whole}, or stages.rounds"
        )
    if isinstance(stages.classes, list):
        _disjoint(stages.classes)
    if stages.datasets and stages.datasets[0] != config.data.dataset:
        raise ConfigError(
            f"stages.datasets begins with '{stages.datasets[0]}', and data.dataset is '{config.data.dataset}'; begin "
            "with that one, whose shape the others are brought to"
        )
    if config.data.partition == "column" or is_own(config.data.dataset) and stages.datasets:
        raise ConfigError("stages need data that are dealt out by chance; set data.partition to 'iid' or 'dirichlet'")


def _adapters(config: Experiment) -> None:
    own = config.network.adapters
    name = config.method["name"]
    if not own.kinds:
        if own != type(own)():
            raise ConfigError("[network.adapters] names no kind; set network.adapters.kinds = ['thresholds', 'head']")
        if name == "adapters":
            raise ConfigError(
                "method 'adapters' trains the parts of tasks, and the network has none; set network.adapters.kinds = "
                "['thresholds', 'head'], say"
            )
        return
    if name != "adapters" and not is_own(name):
        raise ConfigError(
            f"network.adapters freezes the network, and method '{name}' would train it; set method.name = 'adapters'"
        )
    if config.network.start is None:
        raise ConfigError(
            "network.adapters freezes the network, which would stay as it was drawn; set network.start to a trained run"
        )
    if config.stages.on and own.tasks not in (None, config.stages.tasks):
        raise ConfigError(
            f"network.adapters.tasks is {own.tasks}, and [stages] has {config.stages.tasks} tasks; leave it out"
        )
    if not config.stages.on and own.tasks not in (None, 1):
        raise ConfigError(
            f"network.adapters.tasks is {own.tasks}, and a run without [stages] trains one task; leave it out, or say "
            "in [stages] what the tasks are"
        )
    if own.outputs is not None and len(own.outputs) != (own.tasks or config.stages.tasks or 1):
        raise ConfigError(
            f"network.adapters.outputs has {len(own.outputs)} lists for {own.tasks or config.stages.tasks or 1} tasks; "
            "give one a task, or leave it out"
        )
    privacy = getattr(config.hyper(), "privacy", None)
    if privacy is not None and privacy.clip:
        raise ConfigError("training.privacy follows gradients of whole layers, not of adapters; leave one of them out")


FORGETFUL = {
    "adapters": "freezes what tasks share, so nothing is forgotten",
    "tickets": "trains networks whose weights come and go",
    "dc-nas": "trains a part of the network at a time",
}
"""Methods whose clients cannot remember tasks by an option of local training, and why."""


def _memories(config: Experiment) -> None:
    """Refuse memories of tasks where there are none, or that the method cannot hold."""
    hyper = config.hyper()
    for key, value in hyper:
        if isinstance(value, MemoryOption) and not value.on and value != type(value)():
            raise ConfigError(f"training.{key} is off; set training.{key}.{_switch(value)}, or leave the table out")
    asked = [f"training.{key}" for key in memories(hyper)]
    if getattr(hyper, "old_votes", 0.0) and not config.stages.on:
        raise ConfigError(
            "method.old_votes keeps the votes of stages, and the run has none; add a table [stages], or leave it out"
        )
    if not asked:
        return
    name = config.method["name"]
    if not config.stages.on:
        raise ConfigError(f"{asked[0]} remembers tasks, and the run has none; add a table [stages], or leave it out")
    if name in FORGETFUL:
        raise ConfigError(f"{asked[0]} does not go with method '{name}', which {FORGETFUL[name]}; leave it out")
    assert isinstance(hyper, LocalTraining)
    if hyper.privacy.clip:
        raise ConfigError(
            f"{asked[0]} adds to losses of whole batches, and training.privacy clips those of single samples; leave "
            "one of them out"
        )


def _switch(option: MemoryOption) -> str:
    return "strength = 1.0" if option.strength == 0 else "per_class = 10"


def _disjoint(groups: list[list[int]]) -> None:
    seen: set[int] = set()
    for group in groups:
        for label in group:
            if label < 0:
                raise ConfigError(f"stages.classes names class {label}; classes count from 0")
            if label in seen:
                raise ConfigError(f"stages.classes names class {label} twice; every class belongs to one task")
            seen.add(label)
